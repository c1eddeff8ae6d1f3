"""Hints: how to decide the comparisons that are inconclusive."""

from collections.abc import Iterator, Mapping, Sequence

from nccl_bench.analysis.comparison import Basis, Comparison
from nccl_bench.analysis.statistics import Verdict, verdict_of
from nccl_bench.analysis.wording import counted, format_share
from nccl_bench.config.sizes import format_size

# For each basis of a comparison: how to make the interval narrower.
_MORE: Mapping[Basis, str] = {
    Basis.ROUNDS: "More rounds (--max-rounds, --max-seconds)",
    Basis.LAUNCHES: "More launches (--launches)",
    Basis.SHARED_ARM: "More rounds in each run, or several launches on each side (--launches),",
    Basis.RUNS: "More runs or launches (--launches) on each side",
}
# For each basis without communicator variance: how to measure it. Five launches decide most differences of 5 %.
_NEW_COMMUNICATORS: Mapping[Basis, str] = {
    Basis.ROUNDS: "Measure with new communicators too: --launches 5.",
    Basis.SHARED_ARM: "Measure each side with new communicators too: --launches 5.",
}
# For each basis without the variance between processes: how to measure it.
_NEW_PROCESSES: Mapping[Basis, str] = {
    Basis.ROUNDS: "--launches 5 measures that.",
    Basis.SHARED_ARM: "--launches 5 on each side measures that.",
}


def hints(comparisons: Sequence[Comparison], basis: Basis) -> Iterator[str]:
    """Yield a hint for each reason why some of ``comparisons`` are inconclusive."""
    all_inconclusive = [each for each in comparisons if each.verdict is Verdict.INCONCLUSIVE]
    processes_differ = [each for each in all_inconclusive if each.processes_differ]
    if processes_differ:
        timings = ", ".join(dict.fromkeys(each.timing for each in processes_differ))
        yield (
            f"{_cells(processes_differ)} inconclusive ({timings}) because the arms ran in different processes, whose "
            f"CPU speed differs: {_NEW_PROCESSES[basis]}"
        )
    inconclusive = [each for each in all_inconclusive if not each.processes_differ]
    too_few = [each.pairs_needed for each in inconclusive if each.pairs_needed is not None]
    if too_few:
        yield (
            f"{_cells(too_few)} inconclusive because of too few rounds. With so many comparisons, "
            f"an interval needs {max(too_few)} rounds. With exactly so many, it spans from the smallest ratio to the "
            "largest. Measure more rounds than that (--rounds), or fewer sizes and arms."
        )
    in_one_launch = [each for each in inconclusive if each.interval is None and basis is Basis.LAUNCHES]
    if in_one_launch:
        yield (
            f"{_cells(in_one_launch)} inconclusive because only one launch measured the ratio. It is missing in the "
            f"others, for example {_label(in_one_launch[0])}: see the failures."
        )
    without_twin = [each for each in inconclusive if each.below_floor and each.noise_floor is None]
    if without_twin:
        yield (
            f"{_cells(without_twin)} inconclusive because no twin was measured, so the communicator "
            f"variance is unknown. {_NEW_COMMUNICATORS[basis]}"
        )
    below_floor = [each for each in inconclusive if each.below_floor and each.noise_floor is not None]
    same = [each for each in below_floor if verdict_of(each.interval, each.threshold) is Verdict.EQUIVALENT]
    different = [each for each in below_floor if verdict_of(each.interval, each.threshold) is not Verdict.EQUIVALENT]
    if different:
        yield (
            f"{_cells(different)} inconclusive because the baseline's own twin, the same communicator "
            f"made twice, differs too, most for {_highest_floor(different)}. A verdict needs a difference that "
            f"exceeds the threshold after this noise floor is taken off. {_NEW_COMMUNICATORS[basis]}"
        )
    if same:
        yield (
            f"{_cells(same)} inconclusive although the interval is within the threshold: equivalent also "
            f"needs a noise floor of at most the threshold. It is highest for {_highest_floor(same)}. "
            f"{_NEW_COMMUNICATORS[basis]}"
        )
    wide = [(each, each.interval) for each in inconclusive if each.interval is not None and not each.below_floor]
    if wide:
        worst, interval = max(wide, key=lambda cell: cell[1].half_width)
        spread = worst.communicator_variance
        unit = "launch" if basis is Basis.LAUNCHES else "run"
        variance = "" if spread is None else f" Its ratio differs by {format_share(spread)} from {unit} to {unit}."
        yield (
            f"{_cells(wide)} inconclusive because the interval crosses the threshold. The widest interval is "
            f"{_label(worst)}: {interval.low:.3f}x to {interval.high:.3f}x, threshold {format_share(worst.threshold)}."
            f"{variance} {_MORE[basis]} narrow the interval. A ratio right at the threshold stays inconclusive."
        )


def _cells(cells: Sequence[object]) -> str:
    return f"{counted(len(cells), 'cell')} {'is' if len(cells) == 1 else 'are'}"


def _highest_floor(comparisons: Sequence[Comparison]) -> str:
    worst = max(comparisons, key=lambda each: each.noise_floor or 0)
    return f"{_label(worst)}: {format_share(worst.noise_floor or 0)}"


def _label(comparison: Comparison) -> str:
    case = comparison.case
    return f"{comparison.candidate} {comparison.timing} {case.collective} {format_size(case.size_bytes)}"
