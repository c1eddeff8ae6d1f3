"""Describe how sure the verdicts of a headline are, and what would decide those that are open."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from nccl_bench.analysis.bands import Band, OpenReason
from nccl_bench.analysis.comparison import Basis
from nccl_bench.analysis.judging import nearer
from nccl_bench.analysis.pair_lines import comparisons_of, is_open, share_of
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR, Verdict, verdict_of
from nccl_bench.analysis.wording import counted, joined, percent
from nccl_bench.records.run import is_attached

# Basis of the verdicts -> what to measure, and the fewest launches. With 0 launches, each side needs more runs.
# Five launches decide most differences of 5 %: see the page `verdicts` of the guide.
_LAUNCHES: Mapping[Basis, tuple[str, int]] = {
    Basis.ROUNDS: ("in {launches} launches, each with new communicators", 5),
    Basis.LAUNCHES: ("more launches", 10),
    Basis.SHARED_ARM: ("each side with new communicators", 5),
    Basis.RUNS: ("more runs on each side", 0),
}
_SURE = "no verdict is wrong"
_SURE_OF_TWO_RUNS = "no verdict about these two runs is wrong, but new runs can differ"
_SURE_OF_ONE_TWIN = f"{_SURE}, as far as one twin in one timing shows"
# What settles a comparison of two runs between which the machine changed.
_ONE_RUN = "both versions in one run (--before-tree, --after-tree)"
# A verdict is clear if it stays the same after this many noise floors are subtracted from the difference. This holds
# even if the noise floor comes from one pair of communicators only: if communicators differ by up to 6 %, such
# a verdict is wrong in fewer than 5 % of simulated runs.
_CLEAR_MARGIN = 3
# Four times as many rounds make an interval half as wide.
_MORE_ROUNDS = 4


def confidence_text(bands: Sequence[Band], basis: Basis) -> str:
    """Return how sure the verdicts of ``bands`` are, and how many comparisons they decide; empty if none is decided."""
    decided = [band for band in bands if not is_open(band)]
    if not decided:
        return ""
    # One run on each side is one example of how runs differ. No interval contains this difference.
    sure = _SURE_OF_TWO_RUNS if basis is Basis.SHARED_ARM else _SURE
    if any(_rests_on_one_twin(band, bands, basis) for band in decided):
        sure = _SURE_OF_ONE_TWIN
    return f"{percent(1 - FAMILYWISE_ERROR)} % that {sure}; {share_of(decided, bands)} decided"


def next_step(bands: Sequence[Band], basis: Basis, meta: Mapping[str, Any]) -> tuple[str, str]:
    """Return what to measure and why, and the options of `run` for that. The options can be empty.

    Some of ``bands`` are open. ``meta`` is the content of run.json of a run behind them.
    """
    still_open = [band for band in bands if band.verdict is Verdict.INCONCLUSIVE]
    number = comparisons_of(still_open)
    rounds = "more rounds" if basis.of_one_run else "more rounds on each side"
    needed = [band.pairs_needed for band in still_open if band.pairs_needed is not None]
    wide = comparisons_of(filter(_is_wide, still_open))
    moved = comparisons_of(filter(_is_moved, still_open))
    (what, options), why = new_communicators(basis, meta), ""
    if 2 * moved > number:
        # New runs can have different CPU speeds again.
        what, options = _ONE_RUN, ""
        why = "The machine changed between the runs. "
        if moved < number:
            why = "Most are open because the machine changed between the runs. "
    elif needed and len(needed) == len(still_open):
        # With exactly the needed rounds, an interval spans from the smallest ratio to the largest.
        what, options, why = rounds, _fewest_rounds(meta, 2 * max(needed)), "There are too few rounds. "
    elif 2 * wide > number:
        why = "Most open intervals are wide. " if wide < number else "The intervals are wide. "
        if not basis.has_variance and (more := _rounds_options(meta)):
            what, options = rounds, more
    return f"{why}Measure {what}", options


def confirming_step(bands: Sequence[Band], basis: Basis, meta: Mapping[str, Any]) -> tuple[str, str]:
    """Return what confirms verdicts that rest on one twin, and the options of `run` for that. Both can be empty.

    None of ``bands`` is open. ``meta`` is the content of run.json of the run behind them.
    """
    resting = [band for band in bands if _rests_on_one_twin(band, bands, basis)]
    if not resting:
        return "", ""
    what, options = new_communicators(basis, meta)
    text = f"nothing is open, but one twin in one timing decides {share_of(resting, bands)}, by a small margin"
    return f"{text}. Measure {what}", options


def duration_text(meta: Mapping[str, Any], options: str, *, runs: int = 1) -> str:
    """Return in words how long ``runs`` runs would take if the run of ``meta`` got ``options``; empty if unknown."""
    name, _, value = options.partition(" ")
    try:
        started, finished = (datetime.fromisoformat(str(meta.get(key))) for key in ("started", "finished"))
        seconds = (finished - started).total_seconds()
    except (TypeError, ValueError):
        return ""
    if meta.get("status") != "complete" or seconds <= 0:
        return ""
    launches = (meta.get("config") or {}).get("launches")
    if name == "--launches":
        seconds *= int(value) / (launches if isinstance(launches, int) and launches > 0 else 1)
    elif name == "--max-rounds":
        seconds *= _MORE_ROUNDS
    else:
        return ""
    most = "about" if name == "--launches" else "at most about"
    return f" ({most} {max(1, round(runs * seconds / 60))} min)"


def steady_step(sides: Sequence[str]) -> str:
    """Return how to measure ``sides`` again if the CPU has two speeds: new runs can differ in the speed again."""
    return f"Keep the CPU at one speed (nccl-bench doctor), then run {joined([*sides, 'compare'])} again"


def moved_step(bands: Sequence[Band]) -> str:
    """Return what settles the comparisons that are open because the machine changed between two runs.

    The text is empty if there are none. It is also empty if most open comparisons are like this: `next_step` says it.
    """
    still_open = [band for band in bands if band.verdict is Verdict.INCONCLUSIVE]
    moved = comparisons_of(filter(_is_moved, still_open))
    if not moved or 2 * moved > comparisons_of(still_open):
        return ""
    stay, them = ("stays", "it") if moved == 1 else ("stay", "them")
    return (
        f"{counted(moved, 'comparison')} {stay} open however many rounds there are, because the machine changed "
        f"between the runs. For {them}, measure {_ONE_RUN}, or both runs at one CPU speed: see nccl-bench doctor."
    )


def new_communicators(basis: Basis, meta: Mapping[str, Any]) -> tuple[str, str]:
    """Return what to measure so that verdicts rest on more communicators, and the options of `run` for that.

    Both can be empty.
    """
    what, least = _LAUNCHES.get(basis, ("", 0))
    if not least:
        return what, ""
    if is_attached(meta):
        # Another launcher started the ranks, so `--launches` is refused.
        return f"several runs{'' if basis.of_one_run else ' of each side'} and give them all to nccl-bench compare", ""
    launches = (meta.get("config") or {}).get("launches")
    number = max(least, 2 * launches if isinstance(launches, int) else 0)
    return what.format(launches=number), f"--launches {number}"


def _rests_on_one_twin(band: Band, bands: Sequence[Band], basis: Basis) -> bool:
    """Return True if ``band`` is faster or slower by no clear margin, and all ``bands`` are of one timing.

    The noise floor of one timing is one draw of communicator variance, which can be small by chance.
    """
    if basis is not Basis.ROUNDS or band.verdict not in (Verdict.FASTER, Verdict.SLOWER) or not band.noise_floor:
        return False
    surely = nearer(band.interval, (1 + band.noise_floor) ** _CLEAR_MARGIN - 1)
    return len({each.timing for each in bands}) == 1 and verdict_of(surely, band.threshold) is not band.verdict


def _is_moved(band: Band) -> bool:
    return band.reason is OpenReason.SHARED_ARM_MOVED


def _is_wide(band: Band) -> bool:
    """Return True if the interval of an open band crosses the threshold, whatever the noise floor is."""
    return band.interval is not None and verdict_of(band.interval, band.threshold) is Verdict.INCONCLUSIVE


def _fewest_rounds(meta: Mapping[str, Any], rounds: int) -> str:
    """Return the options for at least ``rounds`` rounds. A lower limit of the run with ``meta`` is raised too."""
    most = (meta.get("config") or {}).get("max_rounds")
    return f"--rounds {rounds}" + (f" --max-rounds {rounds}" if isinstance(most, int) and most < rounds else "")


def _rounds_options(meta: Mapping[str, Any]) -> str:
    """Return the options for more rounds than the run with ``meta`` had; empty if its limits are unknown."""
    config = meta.get("config") or {}
    rounds, seconds = config.get("max_rounds"), config.get("max_seconds")
    if not isinstance(rounds, int) or not isinstance(seconds, int | float):
        return ""
    return f"--max-rounds {_MORE_ROUNDS * rounds} --max-seconds {_MORE_ROUNDS * seconds:g}"
