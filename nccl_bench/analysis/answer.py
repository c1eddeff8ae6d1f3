"""The headline of an analysis: its question, problems, verdicts and facts in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from nccl_bench.analysis.bands import Band
from nccl_bench.analysis.description import status_text
from nccl_bench.analysis.headline import Fact, Headline, HeadlineLine
from nccl_bench.analysis.headline_facts import device_text
from nccl_bench.analysis.machine import NamedRuns
from nccl_bench.analysis.pair_lines import pair_lines
from nccl_bench.analysis.ranking import ranking_lines
from nccl_bench.analysis.wording import case_name, compared_text, counted, joined
from nccl_bench.catalog.cases import Case
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash, Hang, Samples, Status

# With more kinds of case and pairs of arms than this, all timings of a verdict share a line.
_MOST_GROUPS = 2


def make_headline(
    *,
    name: str,
    bands: Sequence[Band],
    sides: tuple[str, str],
    run: Run | None,
    metas: NamedRuns,
    failures: Sequence[str],
    facts: Sequence[Fact],
    shared_arm: str | None,
) -> Headline:
    """Return the headline of ``bands``, which answer the question, with ``facts``.

    ``name`` is the title of a comparison of runs, or empty. ``sides`` are the names of the two sides. ``run`` is
    ``None`` for the command ``compare``. ``shared_arm`` is the arm to which all times are relative.
    """
    return Headline(
        title=_title(name, bands, sides, run, metas, shared_arm),
        problems=(*failures, *(_gaps(run, bands) if run else ())),
        lines=tuple(_lines(bands, sides, run)),
        facts=tuple(facts),
    )


def _title(
    name: str, bands: Sequence[Band], sides: tuple[str, str], run: Run | None, metas: NamedRuns, shared_arm: str | None
) -> str:
    pairs = list(dict.fromkeys(_pair(band, sides) for band in bands))
    kinds = list(dict.fromkeys(_kind(band) for band in bands))
    parts = []
    if run is not None and len(pairs) > 1 and len({band.candidate for band in bands}) > 1:
        candidates = list(dict.fromkeys(band.candidate for band in bands))
        parts.append(f"{joined(candidates)} against {bands[0].baseline}")
    elif len(pairs) == 1 or (run is not None and pairs):
        parts.append(pairs[0])
    elif pairs:
        same_arms = all(band.baseline == band.candidate for band in bands)
        parts.append(counted(len(pairs), "arm" if same_arms else "comparison"))
    elif run is not None:
        parts.append(f"{joined(run.asked_arms) if run.asked_arms else run.baseline}")
    if shared_arm is not None and pairs:
        parts.append(f"relative to {shared_arm}")
    if len(kinds) == 1:
        parts.append(kinds[0])
    elif kinds:
        parts.append(f"{len(kinds)} kinds of case")
    parts += dict.fromkeys(device_text(meta) for _, meta in metas)
    text = ", ".join(parts)
    return ": ".join(filter(None, (name, text)))


def _lines(bands: Sequence[Band], sides: tuple[str, str], run: Run | None) -> Iterator[HeadlineLine]:
    """Yield the lines of each kind of case and pair of arms. Those with the same lines share them."""
    groups: dict[tuple[str, str], list[Band]] = {}
    # Several candidates of one run are ranked.
    ranked = run is not None and len({band.candidate for band in bands}) > 1
    for band in bands:
        groups.setdefault(("" if ranked else _pair(band, sides), _kind(band)), []).append(band)
    pairs, kinds = ({key[part] for key in groups} for part in (0, 1))
    abouts: dict[tuple[HeadlineLine, ...], list[str]] = {}
    swept_sizes = _swept(run) if run is not None else {}
    for (pair, kind), of_group in groups.items():
        joined_timings = len(groups) > _MOST_GROUPS
        swept = swept_sizes.get(of_group[0].comparisons[0].case.kind, set())
        lines = tuple(ranking_lines(of_group, swept) if ranked else pair_lines(of_group, swept, joined=joined_timings))
        about = ", ".join(filter(None, (pair if len(pairs) > 1 else "", kind if len(kinds) > 1 else "")))
        abouts.setdefault(lines, []).append(about)
    for lines, names in abouts.items():
        yield from (replace(line, about="; ".join(filter(None, names))) for line in lines)


def _swept(run: Run) -> Mapping[Case, set[int]]:
    """Return the sizes that were tried, by kind of case."""
    sizes: dict[Case, set[int]] = {}
    for case in {line.case for line in run.lines if isinstance(line, Samples | Hang | Crash)}:
        if case is not None:
            sizes.setdefault(case.kind, set()).add(case.size_bytes)
    return sizes


def _pair(band: Band, sides: tuple[str, str]) -> str:
    return compared_text(band.comparisons[0], sides)


def _kind(band: Band) -> str:
    comparison = band.comparisons[0]
    return case_name(comparison.case, {*comparison.placements})


def _gaps(run: Run, bands: Sequence[Band]) -> Iterator[str]:
    """Yield a sentence if the run is incomplete, and one about each asked arm that no comparison has."""
    status = status_text(run)
    if status != "complete":
        yield f"{status.upper()}: a part of the run is missing"
    for arm in run.asked_arms:
        if all(band.candidate != arm for band in bands):
            outcomes = {*_outcomes(run, arm)} or {"not measured"}
            words = ", ".join(sorted(outcomes - {Status.OK}))
            yield f"{arm} is not compared with {run.baseline} in any case{f': {words}' if words else ''}"


def _outcomes(run: Run, arm: str) -> Iterator[str]:
    """Yield the status of each cell of ``arm``, and what ended its measurements."""
    for line in run.lines:
        if isinstance(line, Samples | Hang | Crash) and line.arm == arm:
            yield line.status if isinstance(line, Samples) else line.kind
