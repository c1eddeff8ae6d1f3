"""The headline of an analysis: its question, problems, verdicts and facts in words."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from nccl_bench.analysis.answer_lines import decided_answers
from nccl_bench.analysis.bands import Band
from nccl_bench.analysis.description import status_text
from nccl_bench.analysis.headline import Fact, Headline, HeadlineLine
from nccl_bench.analysis.headline_facts import device_text
from nccl_bench.analysis.machine import NamedRuns
from nccl_bench.analysis.open_lines import count_of_open, open_answers
from nccl_bench.analysis.side_names import named_sides
from nccl_bench.analysis.wording import case_name, compared_text, counted, joined
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.scenarios import has_deadlocks
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash, Hang, Status

# With more kinds of case and pairs of arms than this, all timings of a verdict share a line.
_MOST_GROUPS = 2
# The subject of the line that counts the open comparisons of several kinds of case.
_ALL_KINDS = "all kinds of case together"
# The lines of each kind of case, by its name.
_LinesOfKinds = list[tuple[str, Iterable[HeadlineLine]]]
# The title counts more arms than this, and does not list them.
_MOST_NAMES = 4


def make_headline(
    *,
    name: str,
    bands: Sequence[Band],
    sides: tuple[str, str],
    run: Run | None,
    metas: NamedRuns,
    failures: Sequence[str],
    facts: Sequence[Fact],
    difference: str = "",
    first: Iterable[HeadlineLine] = (),
) -> Headline:
    """Return the headline of ``bands``, which answer the question, with ``facts``.

    ``name`` is the title of a comparison of runs, or empty. ``sides`` are the names of the two sides. ``run`` is
    ``None`` for the command ``compare``. ``difference`` names what differs between runs whose arms are compared with
    themselves. The lines ``first`` stand above the lines of the bands.
    """
    return Headline(
        title=_title(name, bands, sides, run, metas, difference),
        problems=(*failures, *(_gaps(run, bands) if run else ())),
        lines=(*first, *_lines(bands, sides, run)),
        facts=tuple(facts),
    )


def _title(
    name: str, bands: Sequence[Band], sides: tuple[str, str], run: Run | None, metas: NamedRuns, difference: str
) -> str:
    pairs = list(dict.fromkeys(_pair(band, sides) for band in bands))
    kinds = list(dict.fromkeys(_kind(band) for band in bands))
    parts = []
    if run is not None and len(pairs) > 1 and len({band.candidate for band in bands}) > 1:
        candidates = list(dict.fromkeys(band.candidate for band in bands))
        parts.append(f"{joined(candidates)} against {bands[0].baseline}")
    elif len(pairs) == 1 or (run is not None and pairs):
        parts.append(_with_sides(bands[0], run) or pairs[0])
    elif pairs and all(band.baseline == band.candidate for band in bands):
        arms = list(dict.fromkeys(band.candidate for band in bands))
        names = joined(arms) if len(arms) <= _MOST_NAMES else counted(len(arms), "arm")
        parts += filter(None, (names, difference))
    elif pairs:
        parts.append(counted(len(pairs), "comparison"))
    elif run is not None:
        parts.append(f"{joined(run.asked_arms) if run.asked_arms else run.baseline}")
    if len(kinds) == 1:
        parts.append(kinds[0])
    elif kinds:
        parts.append(f"{len(kinds)} kinds of case")
    parts += dict.fromkeys(device_text(meta) for _, meta in metas)
    text = ", ".join(parts)
    return ": ".join(filter(None, (name, text)))


def _with_sides(band: Band, run: Run | None) -> str:
    """Return the arms before and after, each with what differs between them; empty for other arms and equal arms."""
    names = named_sides(run) if run is not None else {}
    if not {band.baseline, band.candidate} <= names.keys() or len({*band.comparisons[0].placements}) > 1:
        return ""
    candidate, baseline = (f"{arm} ({names[arm]})" for arm in (band.candidate, band.baseline))
    return f"{candidate} against {baseline}"


def _lines(bands: Sequence[Band], sides: tuple[str, str], run: Run | None) -> Iterator[HeadlineLine]:
    """Yield the decided and the open lines of each kind of case. Kinds of case with the same lines share these lines.

    If there are many kinds of case, all decided lines come first, then a line that counts all open comparisons, then
    the open lines.
    """
    kinds: dict[str, dict[str, list[Band]]] = {}
    # Several candidates of one run are ranked.
    ranked = run is not None and len({band.candidate for band in bands}) > 1
    for band in bands:
        kinds.setdefault(_kind(band), {}).setdefault(_pair_name(band, sides, run), []).append(band)
    several = len(kinds) > 1
    brief = several and sum(map(len, kinds.values())) > _MOST_GROUPS
    swept_sizes = _swept(run) if run is not None else {}
    decided: _LinesOfKinds = []
    still_open: _LinesOfKinds = []
    for kind, pairs in kinds.items():
        first = next(iter(pairs.values()))[0]
        swept = swept_sizes.get(first.comparisons[0].case.kind, set())
        of_kind = decided_answers(pairs, swept, ranked=ranked, brief=brief)
        open_of_kind = open_answers(pairs, swept, brief=brief, counts=not brief)
        if brief:
            decided.append((kind, of_kind))
            still_open.append((kind, open_of_kind))
        else:
            decided.append((kind, chain(of_kind, open_of_kind)))
    yield from _about(decided, several=several)
    if brief:
        yield from (replace(line, about=_ALL_KINDS) for line in count_of_open(bands))
    yield from _about(still_open, several=several)


def _about(of_kinds: _LinesOfKinds, *, several: bool) -> Iterator[HeadlineLine]:
    """Yield the lines. If there are ``several`` kinds of case, each line names all kinds of case that have it."""
    abouts: dict[tuple[HeadlineLine, ...], list[str]] = {}
    for kind, lines in of_kinds:
        abouts.setdefault(tuple(lines), []).append(kind)
    for lines, names in abouts.items():
        yield from (replace(line, about="; ".join(names) if several else "") for line in lines)


def _pair_name(band: Band, sides: tuple[str, str], run: Run | None) -> str:
    """Return a name for a pair of arms. In one run, and if both arms are the same, it is the name of the candidate."""
    first = band.comparisons[0]
    if len({*first.placements}) == 1 and (run is not None or band.baseline == band.candidate):
        return band.candidate
    return _pair(band, sides)


def _swept(run: Run) -> Mapping[Case, set[int]]:
    """Return the sizes that were tried, by kind of case."""
    sizes: dict[Case, set[int]] = {}
    failed = (line.case for line in run.others if isinstance(line, Hang | Crash))
    for case in {*run.samples.case.distinct(), *failed}:
        if case is not None:
            sizes.setdefault(case.kind, set()).add(case.size_bytes)
    return sizes


def _pair(band: Band, sides: tuple[str, str]) -> str:
    return compared_text(band.comparisons[0], sides)


def _kind(band: Band) -> str:
    comparison = band.comparisons[0]
    return case_name(comparison.case, {*comparison.placements})


def _gaps(run: Run, bands: Sequence[Band]) -> Iterator[str]:
    """Yield a sentence if the run is incomplete, and a sentence about each asked arm without a comparison."""
    status = status_text(run)
    if status != "complete":
        yield f"{status.upper()}: a part of the run is missing"
    for arm in run.asked_arms:
        if all(band.candidate != arm for band in bands):
            outcomes = {*_outcomes(run, arm)} or {"not measured"}
            words = ", ".join(sorted(outcomes - {Status.OK}))
            yield f"{arm} is not compared with {run.baseline} in any case{f': {words}' if words else ''}"


def _outcomes(run: Run, arm: str) -> Iterator[str]:
    """Yield the statuses of the cells of ``arm``, and the kind of each hang and crash of ``arm``."""
    yield from run.samples.status.take(run.samples.arm.equals(arm)).distinct()
    for line in run.others:
        if isinstance(line, Hang | Crash) and line.arm == arm:
            yield "deadlock" if isinstance(line, Hang) and has_deadlocks(line.case) else line.kind
