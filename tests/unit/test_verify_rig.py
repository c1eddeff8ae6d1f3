"""What a probe works with: which stream is current where, who is late, and one finding of all ranks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch.distributed as dist

from nccl_bench.arms import Arm
from nccl_bench.capabilities import DEVICES
from nccl_bench.ranks.control import Control
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.transports.device import Device
from nccl_bench.transports.gloo import GlooTransport
from nccl_bench.verify.proof import Cell
from nccl_bench.verify.rig import Place, Rig, Trial, first_of

CELL = Cell(arm="stream-free", probe="producer")


class TwoRanks(Control):
    """This process as ``rank`` of two; ``others`` is what the other rank says in each sum."""

    def __init__(self, rank: int, others: Sequence[int] = ()) -> None:
        self.rank, self.world_size = rank, 2
        self._others = others

    def barrier(self) -> None:
        """The other rank is always here."""

    def sum(self, values: Sequence[int]) -> list[int]:
        return [mine + other for mine, other in zip(values, self._others, strict=True)]

    def first(self, message: str | None) -> tuple[int, str] | None:
        # Rank 0 says something where the other rank is rank 0 and this one is silent.
        return (self.rank, message) if message is not None else (0, "the other rank's")


@pytest.fixture(scope="module")
def device() -> Device:
    streams = CpuStreams()
    return Device(streams=streams, transport=GlooTransport(streams))


@pytest.fixture
def rig(device: Device, one_rank: dist.ProcessGroup) -> Iterator[Rig]:
    made: list[Arm] = []

    def new_arm() -> Arm:
        made.append(Arm(CELL.arm, one_rank, device))
        return made[-1]

    yield Rig(
        cell=CELL,
        device=device,
        device_spec=DEVICES["cpu"],
        control=TwoRanks(rank=1),
        shared_arm=new_arm,
        new_arm=new_arm,
        at=lambda trial: None,
    )
    for arm in made:
        arm.close()


def test_every_place_has_the_stream_that_it_says(rig: Rig) -> None:
    streams = rig.device.streams
    outer, inner, other = rig.side_streams
    current = {}
    for place in Place:
        with rig.placed(place):
            current[place] = streams.current_stream()
        assert streams.current_stream() is streams.default_stream()
    assert current == {
        Place.DEFAULT: streams.default_stream(),
        Place.SIDE: outer,
        Place.NESTED: inner,
        Place.OUTER: outer,
    }
    assert len({stream.handle for stream in (outer, inner, other)} - {0}) == 3


def test_a_side_stream_is_never_the_arm_s_own(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = rig.device.streams
    private, *new = (streams.new_stream() for _ in range(5))
    monkeypatch.setattr(rig.arm.communicator, "stream", private)
    # As torch does it: from a pool, in turn.
    pool = iter([new[0], private, new[0], new[1], private, new[2]])
    monkeypatch.setattr(streams, "new_stream", lambda: next(pool))
    assert rig.side_streams == (new[0], new[1], new[2])


@pytest.mark.parametrize("place", Place)
def test_an_exception_leaves_no_stream_current(place: Place, rig: Rig) -> None:
    with pytest.raises(ValueError, match="planted"), rig.placed(place):
        raise ValueError("planted")
    assert rig.device.streams.current_stream() is rig.device.streams.default_stream()


def test_every_exchange_is_tried_at_every_place_with_the_stream_of_that_place(rig: Rig) -> None:
    seen: list[tuple[Place, str, int]] = []
    announced: list[str] = []
    rig.at = announced.append
    exchanges = rig.exchanges()

    def trial(it: Trial) -> str | None:
        seen.append((it.place, it.exchange.name, it.streams.current_handle(it.streams.index)))
        return None

    rig.each(trial, exchanges)
    assert [(place, name) for place, name, _ in seen] == [(place, e.name) for place in Place for e in exchanges]
    assert announced == [f"{place}, {name}" for place, name, _ in seen]
    outer, inner, _ = rig.side_streams
    assert {(place, handle) for place, _, handle in seen} == {
        (Place.DEFAULT, 0),
        (Place.SIDE, outer.handle),
        (Place.NESTED, inner.handle),
        (Place.OUTER, outer.handle),
    }
    assert rig.failures == [None] * len(seen)


def test_ranks_are_late_in_turn_and_one_at_a_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(rank: int) -> list[bool]:
        rig.control.rank = rank
        seen: list[bool] = []
        rig.each(lambda trial: seen.append(trial.late), rig.exchanges())
        return seen

    zero, one = late(0), late(1)
    assert zero == [not was for was in one]
    assert zero == [True, False] * (len(zero) // 2)

    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    for is_late in (False, True):
        Trial(rig=rig, place=Place.SIDE, exchange=rig.exchanges()[0], late=is_late).be_late()
    assert slept == [DEVICES["cpu"].probe_delay_s]


def test_a_slow_kernel_holds_every_stream_but_one_that_runs_inline(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[tuple[Any, float]] = []
    streams = rig.device.streams
    monkeypatch.setattr(streams, "hold", lambda seconds: held.append((streams.current_stream(), seconds)))
    for place in Place:
        with rig.placed(place):
            Trial(rig=rig, place=place, exchange=rig.exchanges()[0], late=False).slow_kernel()
    outer, inner, _ = rig.side_streams
    assert held == [(stream, DEVICES["cpu"].probe_delay_s) for stream in (outer, inner, outer)]
    rig.device_spec = replace(DEVICES["cuda"], probe_delay_s=1.0)
    with rig.placed(Place.DEFAULT):
        Trial(rig=rig, place=Place.DEFAULT, exchange=rig.exchanges()[0], late=False).slow_kernel()
    assert held[-1] == (streams.default_stream(), 1.0)


def test_an_arm_without_the_out_of_place_form_is_not_asked_for_it(rig: Rig) -> None:
    def names() -> list[str]:
        return [exchange.name for exchange in rig.exchanges()]

    assert "out-of-place all_reduce 1K" in names()
    everything = names()
    rig.cell = Cell(arm="torch", probe="producer")
    assert names() == [name for name in everything if "out-of-place" not in name]
    assert [exchange.name for exchange in rig.exchanges([64], ["all_gather"])] == ["all_gather 64"]


def test_an_arm_is_made_once_and_when_it_is_asked_for(rig: Rig) -> None:
    makes: list[str] = []
    make = rig.shared_arm

    def shared() -> Arm:
        makes.append("made")
        return make()

    rig.shared_arm = shared
    assert makes == []
    assert rig.arm is rig.arm
    assert makes == ["made"]


def test_a_trial_that_fails_on_either_rank_has_failed(rig: Rig) -> None:
    rig.note("a", None)
    rig.note("b", None)
    rig.note("c", "mine")
    rig.note("d", "and mine")
    rig.control = TwoRanks(rank=1, others=[0, 1, 0, 1])
    finding = rig.finding()
    assert (finding.arm, finding.probe, finding.trials, finding.failed) == ("stream-free", "producer", 4, 3)
    # The first that failed is one where only the other rank saw anything.
    assert (finding.detail, finding.broken) == ("the other rank's", False)


def test_what_this_rank_saw_first_is_told_with_its_rank(rig: Rig) -> None:
    rig.note("a", None)
    rig.note("b", "mine")
    rig.control = TwoRanks(rank=1, others=[0, 0])
    finding = rig.finding()
    assert (finding.trials, finding.failed, finding.detail) == (2, 1, "b, rank 1: mine")


def test_without_a_failure_there_is_nothing_to_tell(rig: Rig) -> None:
    rig.note("a", None)
    rig.control = TwoRanks(rank=1, others=[0])
    finding = rig.finding()
    assert (finding.trials, finding.failed, finding.detail) == (1, 0, None)


def test_a_trial_starts_with_its_input_written_and_its_output_poisoned(rig: Rig) -> None:
    exchange = rig.exchanges([64], ["all_gather"])[0]
    trial = Trial(rig=rig, place=Place.SIDE, exchange=exchange, late=False)
    with rig.placed(Place.SIDE):
        assert trial.start(salt=2) is exchange
    assert exchange.x.tolist() == exchange.fresh(2).tolist()
    assert set(exchange.y.flatten().tolist()) == {-1.0}


def test_of_what_was_seen_the_first_is_told() -> None:
    assert first_of([None, "b", "c"]) == "b"
    assert first_of([None, None]) is None
