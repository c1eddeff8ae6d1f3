"""Comparisons of arms that ran in different process sets: what one launch can decide, and what takes several."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.comparison import Basis, Comparison
from nccl_bench.analysis.description import notes
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.two_sides import compare_sides
from nccl_bench.catalog.arms import twin_of
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.config.limits import Limits
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples
from tests.support.synthetic_runs import case, run, samples

BASE, NEW = "dedicated-stream", "stream-free"
TWIN = twin_of(BASE)
APART = ((BASE,), (NEW,), (TWIN,))
SIZES = (8, 1024, 65536)
CPU_TIMINGS = (Timing.EAGER, Timing.ENQUEUE)

SLOWER_EVERYWHERE = {timing: {(Verdict.SLOWER, False)} for timing in Timing}


def measured(
    ratio: float,
    process_sets: tuple[tuple[str, ...], ...] = APART,
    twins: tuple[float, ...] = (1.0, 1.0, 1.0),
    launches: tuple[float, ...] = (1.0,),
) -> Run:
    """Return a run in which NEW / BASE is ``ratio``; ``twins`` are the twin's ratios by size.

    ``launches`` are factors of ``ratio``, one for each launch.
    """
    lines: list[Samples] = []
    for number, factor in enumerate(launches, start=1):
        for size, twin in zip(SIZES, twins, strict=True):
            for timing in Timing:
                for arm, of_arm in ((BASE, 1.0), (NEW, ratio * factor), (TWIN, twin)):
                    times = tuple(10 * of_arm * (1 + 0.001 * (index % 3)) for index in range(20))
                    lines.append(samples(arm, timing, case=case(size), samples_us=times, launch=number))
    loaded = run(lines, arms=[BASE, NEW], launches=len(launches))
    worker = {"process_sets": [{"arms": list(arms), "reason": "a reason"} for arms in process_sets]}
    return replace(loaded, meta={**loaded.meta, "worker": worker})


def by_timing(comparisons: tuple[Comparison, ...]) -> dict[Timing, set[tuple[Verdict | None, bool]]]:
    return {
        timing: {(each.verdict, each.processes_differ) for each in comparisons if each.timing is timing}
        for timing in Timing
    }


def test_eager_and_enqueue_are_the_timings_that_include_launch_cost() -> None:
    assert tuple(timing for timing, spec in TIMINGS.items() if spec.includes_launch_cost) == CPU_TIMINGS


@pytest.mark.parametrize(("ratio", "verdict"), [(0.7, Verdict.FASTER), (1.4, Verdict.SLOWER)])
def test_one_launch_decides_only_timings_without_launch_cost(ratio: float, verdict: Verdict) -> None:
    analysis = Analysis.of(measured(ratio))
    assert by_timing(analysis.comparisons) == {
        timing: {(Verdict.INCONCLUSIVE, True) if timing in CPU_TIMINGS else (verdict, False)} for timing in Timing
    }
    assert not any(each.below_floor for each in analysis.comparisons)
    (hint,) = analysis.hints
    assert hint == (
        "6 comparisons are open (eager, enqueue) because the arms ran in different processes, whose CPU speed "
        "differs. Measure in 5 launches, each with new communicators: --launches 5."
    )


def test_arms_in_different_processes_can_be_equivalent() -> None:
    assert {each.verdict for each in Analysis.of(measured(1.0)).comparisons} == {Verdict.EQUIVALENT}


@pytest.mark.parametrize("process_sets", [(), ((BASE, NEW), ("torch",), (TWIN,))])
def test_arms_that_share_their_processes_are_judged_in_every_timing(process_sets: tuple[tuple[str, ...], ...]) -> None:
    comparisons = Analysis.of(measured(1.4, process_sets)).comparisons
    assert {(each.verdict, each.processes_differ) for each in comparisons} == {(Verdict.SLOWER, False)}


def test_several_launches_decide_every_timing() -> None:
    analysis = Analysis.of(measured(1.4, launches=(0.99, 1.01, 1.0, 1.02, 0.98)))
    assert analysis.basis is Basis.LAUNCHES
    assert {(each.verdict, each.processes_differ) for each in analysis.comparisons} == {(Verdict.SLOWER, False)}


def test_between_processes_the_noise_floor_is_at_least_the_largest_deviation_of_the_twin_at_any_size() -> None:
    for process_sets in (APART, ((BASE, NEW), (TWIN,))):
        comparisons = Analysis.of(measured(1.0, process_sets, (1.0, 1.3, 1 / 1.01))).comparisons
        (floor,) = {each.noise_floor for each in comparisons if each.timing is Timing.GRAPH}
        assert floor is not None
        assert floor >= 0.3


def test_a_side_whose_shared_arm_ran_in_other_processes_decides_no_launch_cost() -> None:
    def judge(*runs: Run) -> dict[Timing, set[tuple[Verdict | None, bool]]]:
        before, after = (ComparableRun.of(each, "run") for each in runs)
        sides = compare_sides([before], [after], Limits(default=0.02), arms=(NEW, NEW), shared_arm=BASE)
        assert sides.basis is Basis.SHARED_ARM
        return by_timing(sides.comparisons)

    together = ((BASE, NEW), (TWIN,))
    assert judge(measured(1.0, together), measured(1.4, together)) == SLOWER_EVERYWHERE
    for before, after in ((APART, together), (together, APART)):
        judged = judge(measured(1.0, before), measured(1.4, after))
        assert judged[Timing.EAGER] == judged[Timing.ENQUEUE] == {(Verdict.INCONCLUSIVE, True)}
        assert judged[Timing.GATED] == judged[Timing.GRAPH] == {(Verdict.SLOWER, False)}


def test_several_launches_on_each_side_decide_every_timing() -> None:
    factors = (0.99, 1.01, 1.0)
    before, after = (ComparableRun.of(measured(ratio, launches=factors), "run") for ratio in (1.0, 1.4))
    sides = compare_sides([before], [after], Limits(default=0.02), arms=(NEW, NEW), shared_arm=BASE)
    assert by_timing(sides.comparisons) == SLOWER_EVERYWHERE


def test_a_note_names_the_versions_that_differ_between_process_sets() -> None:
    loaded = measured(1.0, ((BASE, TWIN), (NEW,)))
    first, second = loaded.meta["worker"]["process_sets"]
    first["versions"] = {"Python": "3.11.2", "torch": "2.13.0", "numpy": "2.1.0"}
    second["versions"] = {"Python": "3.11.2", "torch": "2.5.1", "numpy": "1.26.4"}
    versions = "They have torch 2.5.1, numpy 1.26.4, and the first processes have torch 2.13.0, numpy 2.1.0."
    assert [versions in note for note in notes(loaded) if "in separate processes" in note] == [True]
    second["versions"] = first["versions"]
    assert not any("They have" in note for note in notes(loaded))
