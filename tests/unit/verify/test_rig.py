"""The rig: the current stream at every place, and the late rank of every trial."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.arms import COORDINATORS
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.probes import Place
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.verify import async_gather as async_gather_module
from nccl_bench.verify.exchanges import EXCHANGES
from nccl_bench.verify.rig import Rig, Trial
from tests.support.rig_ranks import CELL


def test_every_place_has_its_own_current_stream(rig: Rig) -> None:
    streams = rig.device.streams
    outer, inner, other = rig.side_streams
    current = {}
    for place in Place:
        with rig.at_place(place):
            current[place] = streams.current_stream()
        assert streams.current_stream() is streams.default_stream()
    assert current == {
        Place.DEFAULT: streams.default_stream(),
        Place.SIDE: outer,
        Place.NESTED: inner,
        Place.OUTER: outer,
    }
    assert len({stream.handle for stream in (outer, inner, other)} - {0}) == 3


def test_a_side_stream_is_never_the_private_stream_of_the_arm(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = rig.device.streams
    private, *new = (streams.new_stream() for _ in range(5))
    monkeypatch.setattr(rig.arm.communicator, "stream", private)
    # Like torch: from a pool, in turn.
    pool = iter([new[0], private, new[0], new[1], private, new[2]])
    monkeypatch.setattr(streams, "new_stream", lambda: next(pool))
    assert rig.side_streams == (new[0], new[1], new[2])


@pytest.mark.parametrize("arm", sorted(COORDINATORS))
def test_a_side_stream_is_never_a_private_stream_of_a_coordinator(
    make: Callable[[ArmProbe], Rig], monkeypatch: pytest.MonkeyPatch, arm: str
) -> None:
    rig = make(ArmProbe(arm=arm, probe="producer"))
    streams, own = rig.device.streams, rig.arm.private_streams()
    new = [streams.new_stream() for _ in range(3)]
    pool = iter([*own, *new])
    monkeypatch.setattr(streams, "new_stream", lambda: next(pool))
    assert rig.side_streams == tuple(new)


@pytest.mark.parametrize("place", Place)
def test_an_exception_restores_the_current_stream(place: Place, rig: Rig) -> None:
    with pytest.raises(ValueError, match="planted"), rig.at_place(place):
        raise ValueError("planted")
    assert rig.device.streams.current_stream() is rig.device.streams.default_stream()


@pytest.mark.parametrize("arm", ["stream-free", *sorted(COORDINATORS)])
def test_a_communicator_has_only_those_returning_exchanges_that_it_has_a_method_for(
    make: Callable[[ArmProbe], Rig], arm: str
) -> None:
    # A built-in arm with variables or a library of its own is asked for its exchanges, as a user's communicator is.
    communicator = make(ArmProbe(arm=arm, probe="producer")).arm.communicator
    names = {name for name in EXCHANGES if communicator.has_exchange(name)}
    assert names == {name for name in EXCHANGES if not name.startswith("return") or name == "return_all_reduce"}


def test_every_exchange_is_tried_at_every_place_with_the_stream_of_that_place(rig: Rig) -> None:
    seen: list[tuple[Place, str, int]] = []
    announced: list[str] = []
    rig.announce_trial = announced.append
    exchanges = rig.exchanges()

    def run_trial(trial: Trial) -> str | None:
        seen.append((trial.place, trial.exchange.name, trial.streams.current_handle(trial.streams.index)))
        return None

    rig.try_each(run_trial, exchanges)
    assert [(place, name) for place, name, _ in seen] == [(place, e.name) for place in Place for e in exchanges]
    assert announced == [f"{place}, {name}" for place, name, _ in seen]
    outer, inner, _ = rig.side_streams
    assert {(place, handle) for place, _, handle in seen} == {
        (Place.DEFAULT, 0),
        (Place.SIDE, outer.handle),
        (Place.NESTED, inner.handle),
        (Place.OUTER, outer.handle),
    }
    assert [(each.place, each.error) for each in rig.outcomes] == [(place, None) for place, _, _ in seen]


def late_ranks(rig: Rig, world_size: int, body: Callable[[Callable[[Trial], None]], None]) -> list[set[int]]:
    """Return the late ranks of each trial of ``body``, and check that every rank is late at every place and size."""
    late: list[set[int]] = []
    seen: set[tuple[Place, int, int]] = set()
    small = DEVICES["cpu"].probe_sizes[0]
    for rank in range(world_size):
        rig.control.rank, rig.control.world_size = rank, world_size
        trials: list[Trial] = []
        body(trials.append)
        late = late or [set() for _ in trials]
        for number, trial in enumerate(trials):
            if trial.is_late:
                late[number].add(rank)
                seen.add((trial.place, max(trial.exchange.input.nbytes, trial.exchange.output.nbytes) > small, rank))
    assert seen == set(product(Place, (False, True), range(world_size)))
    return late


@pytest.mark.parametrize("world_size", [2, 3, 4, 6, 8, 20])
def test_every_rank_is_late_at_every_place_for_small_and_for_large_messages(rig: Rig, world_size: int) -> None:
    late = late_ranks(rig, world_size, lambda note: rig.try_each(note, rig.exchanges()))
    assert len(late) == len(Place) * len(rig.exchanges())
    # One rank at a time, unless there are more ranks than turns, and never so many that no rank has to wait.
    alone = -(-world_size // 6)
    assert {len(ranks) for ranks in late} <= {alone, max(1, alone - 1)}


@pytest.mark.parametrize("world_size", [2, 3, 4, 8, 20])
def test_in_the_asynchronous_gather_every_rank_is_late_too(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    def gather(note: Callable[[Trial], None]) -> None:
        monkeypatch.setattr(async_gather_module, "_gather", note)
        async_gather_module.async_gather(rig)

    late = late_ranks(rig, world_size, gather)
    assert len(late) == len(Place) * 2 * min(world_size, 8)
    assert max(map(len, late)) < world_size


@pytest.mark.parametrize("both_modes", [False, True])
@pytest.mark.parametrize("arm", [CELL.arm, *sorted(COORDINATORS)])
def test_only_coordinators_are_tried_in_graph_mode_too(
    make: Callable[[ArmProbe], Rig], arm: str, both_modes: bool
) -> None:
    rig = make(ArmProbe(arm=arm, probe="producer"))
    seen: list[bool] = []
    announced: list[str] = []
    rig.announce_trial = announced.append
    exchanges = rig.exchanges(names=["all_gather"])
    rig.try_each(lambda trial: seen.append(trial.in_graph_mode), exchanges, both_modes=both_modes)
    modes = [False, True] if both_modes and arm in COORDINATORS else [False]
    assert seen == [mode for _, mode, _ in product(Place, modes, exchanges)]
    assert [label.endswith(", within graph_capture()") for label in announced] == seen


@pytest.mark.parametrize("in_graph_mode", [False, True])
def test_a_call_is_on_the_stream_of_its_place_or_inside_graph_capture(
    make: Callable[[ArmProbe], Rig], monkeypatch: pytest.MonkeyPatch, in_graph_mode: bool
) -> None:
    rig = make(ArmProbe(arm="coordinator", probe="producer"))
    coordinator: Any = rig.arm.communicator
    streams, (outer, _, other) = rig.device.streams, rig.side_streams
    called: list[tuple[bool, Any]] = []

    def note(*_arguments: object) -> None:
        called.append((not coordinator.communicator.disabled, streams.current_stream()))

    monkeypatch.setattr(coordinator, "all_gather", note)
    exchange = rig.exchanges([64], ["all_gather"])[0]
    trial = Trial(rig=rig, place=Place.SIDE, exchange=exchange, is_late=False, in_graph_mode=in_graph_mode)
    with coordinator.graph_capture() as capturing:
        pass
    with rig.at_place(Place.SIDE):
        trial.call()
        # This call is on another stream, and the host waits for it.
        busy = trial.streams.new_event()
        with streams.stream(other):
            streams.hold(0.01)
            busy.record(other)
        trial.call_on_other_stream()
        assert busy.query()
        assert streams.current_stream() is outer
    assert called == ([(True, capturing)] * 2 if in_graph_mode else [(False, outer), (False, other)])


def test_a_late_rank_delays_its_host(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    for is_late in (False, True):
        Trial(rig=rig, place=Place.SIDE, exchange=rig.exchanges()[0], is_late=is_late).delay_if_late()
    assert slept == [DEVICES["cpu"].probe_delay_s]


def test_a_machine_that_is_slow_now_gets_longer_delays(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(rig=rig, place=Place.SIDE, exchange=rig.exchanges()[0], is_late=False)
    collective = rig.arm.communicator.all_reduce
    for call_s, least_s in ((0.02, 0.08), (0.1, 0.2)):
        slow = lambda *tensors, call_s=call_s: (time.sleep(call_s), collective(*tensors))  # noqa: E731
        monkeypatch.setattr(rig.arm.communicator, "all_reduce", slow)
        with rig.at_place(Place.SIDE):
            trial.call_on_other_stream()
        assert least_s <= rig.delay_s <= 0.2


def test_a_slow_kernel_holds_every_stream_except_one_that_runs_inline(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[tuple[Any, float]] = []
    streams = rig.device.streams
    monkeypatch.setattr(streams, "hold", lambda seconds: held.append((streams.current_stream(), seconds)))
    for place in Place:
        with rig.at_place(place):
            Trial(rig=rig, place=place, exchange=rig.exchanges()[0], is_late=False).run_slow_kernel()
    outer, inner, _ = rig.side_streams
    assert held == [(stream, DEVICES["cpu"].probe_delay_s) for stream in (outer, inner, outer)]
    rig.device_spec = replace(DEVICES["cuda"], probe_delay_s=1.0)
    with rig.at_place(Place.DEFAULT):
        Trial(rig=rig, place=Place.DEFAULT, exchange=rig.exchanges()[0], is_late=False).run_slow_kernel()
    assert held[-1] == (streams.default_stream(), 1.0)


def test_an_arm_without_the_out_of_place_form_has_no_such_exchange(rig: Rig) -> None:
    def names() -> list[str]:
        return [exchange.name for exchange in rig.exchanges()]

    assert "out-of-place all_reduce 1K" in names()
    everything = names()
    rig.arm_probe = ArmProbe(arm="torch", probe="producer")
    assert names() == [name for name in everything if "out-of-place" not in name]
    assert [exchange.name for exchange in rig.exchanges([64], ["all_gather"])] == ["all_gather 64"]


def test_the_shared_arm_is_made_once_on_first_use(rig: Rig) -> None:
    makes: list[str] = []
    make = rig.get_shared_arm

    def shared() -> Arm:
        makes.append("made")
        return make()

    rig.get_shared_arm = shared
    assert makes == []
    assert rig.arm is rig.arm
    assert makes == ["made"]


def test_a_trial_starts_with_its_input_written_and_its_output_poisoned(rig: Rig) -> None:
    exchange = rig.exchanges([64], ["all_gather"])[0]
    trial = Trial(rig=rig, place=Place.SIDE, exchange=exchange, is_late=False)
    with rig.at_place(Place.SIDE):
        assert trial.start(salt=2) is exchange
    assert exchange.input.tolist() == exchange.make_input(2).tolist()
    assert set(exchange.output.flatten().tolist()) == {-1.0}
