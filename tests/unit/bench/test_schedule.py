"""Operations in a batch, gates, and the order of the arms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nccl_bench.bench.schedule import ENQUEUE_DEVICE_US, FEWEST_OPS, MOST_REPLAYS, Pilot, make_schedule
from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.run import resolve
from nccl_bench.plan.batches import LAUNCH_QUEUE_ENTRIES, UNTIMED_CALLS

TIMED = [name for name, arm in ARMS.items() if arm.timed]
GATED = (Timing.GATED, Timing.ENQUEUE)
microseconds = st.floats(1e-3, 1e7)


def pilots(enqueue_us: float = 10.0, **device_us: float) -> dict[str, Pilot]:
    """Return pilots of arms, named with underscores, whose calls cost the host ``enqueue_us``."""
    return {name.replace("_", "-"): Pilot(device_us=us, enqueue_us=enqueue_us) for name, us in device_us.items()}


@given(
    st.dictionaries(
        st.sampled_from(TIMED), st.builds(Pilot, device_us=microseconds, enqueue_us=microseconds), min_size=1
    ),
    st.integers(1, 500),
    st.booleans(),
    # The plan refuses more than 100.
    st.one_of(st.none(), st.integers(1, 100)),
)
def test_a_batch_always_fits_the_launch_queue_and_a_graph_its_slots(
    measured: dict[str, Pilot], slots: int, same_buffer: bool, ops_per_batch: int | None
) -> None:
    config = resolve("cuda", {"same_buffer": same_buffer, "ops_per_batch": ops_per_batch})
    schedule = make_schedule(config, measured, 1 if same_buffer else slots)
    for timing in (Timing.EAGER, Timing.GATED, Timing.ENQUEUE):
        operations = schedule.operations(timing)
        assert operations >= 1
        calls = schedule.calls(timing)
        assert calls >= operations
        assert all(ARMS[arm].launch_entries * calls <= LAUNCH_QUEUE_ENTRIES for arm in measured)
    assert schedule.ops[Timing.EAGER] == schedule.ops[Timing.GATED]
    assert 1 <= schedule.replays <= MOST_REPLAYS
    assert schedule.operations(Timing.GRAPH) == schedule.replays * schedule.ops[Timing.GRAPH]
    in_graph = ops_per_batch or 32
    assert schedule.ops[Timing.GRAPH] == (in_graph if same_buffer else min(in_graph, slots))
    assert set(schedule.gates_s) == {(arm, timing) for arm in measured for timing in GATED}
    for (arm, timing), gate_s in schedule.gates_s.items():
        assert gate_s > 1.5 * measured[arm].enqueue_us * 1e-6 * schedule.calls(timing)


def test_a_batch_lasts_a_millisecond_of_the_fastest_arm() -> None:
    schedule = make_schedule(resolve("cuda"), pilots(stream_free=20.0, torch=50.0), 32)
    assert schedule.operations(Timing.EAGER) == schedule.operations(Timing.GATED) == 50
    assert (schedule.ops[Timing.GRAPH], schedule.replays) == (32, 2)


def test_an_enqueue_batch_lasts_half_a_millisecond_of_the_calls_that_cost_least() -> None:
    measured = pilots(25.0, stream_free=6.0) | pilots(60.0, torch=6.0)
    schedule = make_schedule(resolve("cuda"), measured, 32)
    assert schedule.operations(Timing.ENQUEUE) == 20
    assert schedule.calls(Timing.ENQUEUE) == 20 + UNTIMED_CALLS


def test_a_batch_of_long_operations_has_the_fewest_operations() -> None:
    schedule = make_schedule(resolve("cuda"), pilots(stream_free=1e6, torch=1e6), 4)
    assert schedule.operations(Timing.EAGER) == schedule.calls(Timing.ENQUEUE) == FEWEST_OPS
    assert schedule.operations(Timing.ENQUEUE) == FEWEST_OPS // 2
    assert (schedule.ops[Timing.GRAPH], schedule.replays) == (4, 1)


def test_the_arm_with_the_most_launch_entries_limits_the_operations() -> None:
    assert make_schedule(resolve("cuda"), pilots(stream_free=0.1), 500).operations(Timing.EAGER) == 500
    both = make_schedule(resolve("cuda"), pilots(stream_free=0.1, dedicated_stream=0.1), 500)
    assert both.operations(Timing.EAGER) == 100
    assert make_schedule(resolve("cuda"), pilots(stream_free=0.1), 500).replays == MOST_REPLAYS


def test_an_enqueue_batch_leaves_little_device_time_to_run() -> None:
    schedule = make_schedule(resolve("cuda"), pilots(stream_free=100.0, torch=500.0), 32)
    assert schedule.calls(Timing.ENQUEUE) == 8
    assert schedule.calls(Timing.ENQUEUE) * 500.0 <= ENQUEUE_DEVICE_US


@pytest.mark.parametrize("options", [{}, {"ops_per_batch": 4}])
def test_only_enqueue_has_untimed_calls(options: dict[str, object]) -> None:
    schedule = make_schedule(resolve("cuda", options), pilots(stream_free=100.0, torch=500.0), 32)
    assert schedule.untimed == {timing: UNTIMED_CALLS if timing is Timing.ENQUEUE else 0 for timing in Timing}


def test_configured_operations_are_used_whatever_the_pilots_show() -> None:
    measured = pilots(stream_free=20.0, dedicated_stream=50.0)
    for operations in (1, 7, 100):
        schedule = make_schedule(resolve("cuda", {"ops_per_batch": operations}), measured, 32)
        assert {schedule.operations(timing) for timing in (Timing.EAGER, Timing.GATED, Timing.ENQUEUE)} == {operations}


def test_a_gate_lasts_one_and_a_half_times_the_pilot_and_a_margin() -> None:
    schedule = make_schedule(resolve("cuda"), pilots(stream_free=20.0, torch=50.0), 32)
    assert schedule.gates_s["torch", Timing.GATED] == pytest.approx(1.5 * 50 * 10e-6 + 200e-6)


def test_each_arm_has_a_gate_of_its_own() -> None:
    measured = {"torch": Pilot(device_us=50, enqueue_us=100), "stream-free": Pilot(device_us=20, enqueue_us=10)}
    schedule = make_schedule(resolve("cuda"), measured, 32)
    for timing in GATED:
        assert schedule.gates_s["torch", timing] > schedule.gates_s["stream-free", timing]


def test_an_uneven_form_has_as_many_operations_as_fit_into_the_launch_queue() -> None:
    config = resolve("cuda", {"ops_per_batch": 20})
    measured = pilots(stream_free=20.0, torch_async=50.0)
    for uneven_ranks, operations in ((0, 20), (8, 11)):
        schedule = make_schedule(config, measured, 32, uneven_ranks=uneven_ranks)
        assert schedule.ops[Timing.EAGER] == schedule.ops[Timing.ENQUEUE] == operations
        assert schedule.calls(Timing.ENQUEUE) <= LAUNCH_QUEUE_ENTRIES // (5 * (1 + uneven_ranks))
