"""Hints: how to decide the bands that are open."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nccl_bench.analysis.bands import Band
from nccl_bench.analysis.comparison import Basis
from nccl_bench.analysis.judging import OpenReason
from nccl_bench.analysis.next_step import new_communicators
from nccl_bench.analysis.pair_lines import comparisons_of
from nccl_bench.analysis.shared_arm import moved_text
from nccl_bench.analysis.statistics import Verdict, verdict_of
from nccl_bench.analysis.wording import counted, format_share
from nccl_bench.config.sizes import format_size
from nccl_bench.records.run import is_attached

# Basis of a comparison -> how to make the interval narrower. `_MORE_ATTACHED` is for ranks of another launcher: there
# every run has one launch.
_MORE: Mapping[Basis, str] = {
    Basis.ROUNDS: "More rounds (--max-rounds, --max-seconds)",
    Basis.LAUNCHES: "More launches (--launches)",
    Basis.SHARED_ARM: "More rounds in each run, or several launches on each side (--launches),",
    Basis.RUNS: "More runs or launches (--launches) on each side",
}
_MORE_ATTACHED: Mapping[Basis, str] = {
    **_MORE,
    Basis.SHARED_ARM: "More rounds in each run, or several runs on each side,",
    Basis.RUNS: "More runs on each side",
}


def hints(bands: Sequence[Band], basis: Basis, meta: Mapping[str, Any]) -> Iterator[str]:
    """Yield a hint for each reason why some of ``bands`` are open.

    ``meta`` is the content of run.json of a run that the bands come from.
    """
    what, options = new_communicators(basis, meta)
    new_processes = f"Measure {what}{f': {options}' if options else ''}."
    opened = {reason: [band for band in bands if band.reason is reason] for reason in OpenReason}
    if processes_differ := opened[OpenReason.DIFFERENT_PROCESSES]:
        timings = ", ".join(dict.fromkeys(band.timing for band in processes_differ))
        yield (
            f"{_comparisons(processes_differ)} open ({timings}) because the arms ran in different processes, whose "
            f"CPU speed differs. {new_processes}"
        )
    if too_few := opened[OpenReason.TOO_FEW_ROUNDS]:
        needed = max(band.pairs_needed or 0 for band in too_few)
        yield (
            f"{_comparisons(too_few)} open because of too few rounds. With so many comparisons, "
            f"an interval needs {needed} rounds. With exactly so many, it spans from the smallest ratio to the "
            "largest. Measure more rounds than that (--rounds), or fewer sizes and arms."
        )
    if in_one_launch := opened[OpenReason.ONE_LAUNCH]:
        yield (
            f"{_comparisons(in_one_launch)} open because only one launch measured the ratio. It is missing in the "
            f"others, for example {_label(in_one_launch[0])}: see the failures."
        )
    if moved := opened[OpenReason.SHARED_ARM_MOVED]:
        yield (
            f"{_comparisons(moved)} open because the machine changed from run to run, and that alone can explain the "
            f"change of the arm's own time, for example {_label(moved[0])}: {moved_text(moved[0].comparisons)}. "
            "Measure both versions in one run (--before-tree, --after-tree), or "
            "both runs at the same CPU speed: see nccl-bench doctor."
        )
    if without_twin := opened[OpenReason.NO_TWIN]:
        yield (
            f"{_comparisons(without_twin)} open because no twin was measured, so the communicator "
            f"variance is unknown. {new_processes}"
        )
    # The verdict of the interval alone, without the noise floor.
    by_interval: dict[Verdict, list[Band]] = {verdict: [] for verdict in Verdict}
    for band in (*opened[OpenReason.WITHIN_NOISE], *opened[OpenReason.BELOW_THRESHOLD]):
        by_interval[verdict_of(band.interval, band.threshold)].append(band)
    if different := [*by_interval[Verdict.FASTER], *by_interval[Verdict.SLOWER]]:
        yield (
            f"{_comparisons(different)} open because the baseline's own twin, the same communicator "
            f"made twice, differs too, most for {_highest_floor(different)}. A verdict needs a difference that "
            f"exceeds the threshold after this noise floor is taken off. {new_processes}"
        )
    if same := by_interval[Verdict.EQUIVALENT]:
        yield (
            f"{_comparisons(same)} open although the interval is within the threshold: `same` also "
            f"needs a noise floor of at most the threshold. It is highest for {_highest_floor(same)}. "
            f"{new_processes}"
        )
    if wide := [(band, band.interval) for band in by_interval[Verdict.INCONCLUSIVE] if band.interval is not None]:
        worst, interval = max(wide, key=lambda pair: pair[1].half_width)
        spreads = [each.communicator_variance for each in worst.comparisons if each.communicator_variance is not None]
        unit = "launch" if basis is Basis.LAUNCHES else "run"
        more = (_MORE_ATTACHED if is_attached(meta) else _MORE)[basis]
        variance = f" Its ratio differs by {format_share(max(spreads))} from {unit} to {unit}." if spreads else ""
        yield (
            f"{_comparisons([band for band, _ in wide])} open because the interval crosses the threshold. The widest "
            f"interval is {_label(worst)}: {interval.low:.3f}x to {interval.high:.3f}x, threshold "
            f"{format_share(worst.threshold)}.{variance} {more} narrow the interval. A ratio right at the "
            "threshold stays open."
        )


def _comparisons(bands: Sequence[Band]) -> str:
    count = comparisons_of(bands)
    return f"{counted(count, 'comparison')} {'is' if count == 1 else 'are'}"


def _highest_floor(bands: Sequence[Band]) -> str:
    worst = max(bands, key=lambda band: band.noise_floor or 0)
    return f"{_label(worst)}: {format_share(worst.noise_floor or 0)}"


def _label(band: Band) -> str:
    sizes = [format_size(band.comparisons[index].case.size_bytes) for index in (0, -1)]
    return f"{band.candidate} {band.timing} {band.comparisons[0].case.collective} {' to '.join(dict.fromkeys(sizes))}"
