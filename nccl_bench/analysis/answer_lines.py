"""Lines of the headline about what is decided in one kind of case: first what changed, then what stayed the same."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from nccl_bench.analysis.bands import Band
from nccl_bench.analysis.headline import HeadlineLine, Label
from nccl_bench.analysis.judging import OpenReason
from nccl_bench.analysis.pair_lines import Pairs, comparisons_of, decided_lines, is_open, known_sizes, same_lines
from nccl_bench.analysis.ranking import fastest_lines
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.wording import counted, format_share, joined

_NOT = {Verdict.SLOWER: Label.NOT_SLOWER, Verdict.FASTER: Label.NOT_FASTER}


def decided_answers(pairs: Pairs, swept: Collection[int], *, ranked: bool, brief: bool) -> Iterator[HeadlineLine]:
    """Yield the decided lines of ``pairs``, the bands of each pair of arms by its name; all are of one kind of case.

    ``swept`` are all sizes that were tried. If the pairs are ``ranked``, the first lines name the fastest arms. With
    ``brief``, all timings of a pair share a line.
    """
    bands = list(chain.from_iterable(pairs.values()))
    known = known_sizes(bands, swept)
    if ranked:
        yield from fastest_lines(bands, known)
    for verdict in (Verdict.SLOWER,) if ranked else (Verdict.FASTER, Verdict.SLOWER):
        yield from decided_lines(pairs, verdict, known, brief=brief, names_most=not ranked)
    yield from _absences(pairs, ranked=ranked)
    for name, of_pair in pairs.items():
        for line in same_lines(of_pair, known):
            yield replace(line, text=f"{name}: {line.text}") if len(pairs) > 1 else line


def _absences(pairs: Pairs, *, ranked: bool) -> Iterator[HeadlineLine]:
    """Yield a line that no pair is slower, and a line that no pair is faster. If arms are ranked, omit the second line.

    If some pairs are slower, the line names the pairs that are not. It counts the comparisons that are not decided.
    """
    absences: dict[tuple[str, ...], list[tuple[Verdict, int]]] = {}
    for verdict in (Verdict.SLOWER,) if ranked else (Verdict.SLOWER, Verdict.FASTER):
        without = tuple(name for name, bands in pairs.items() if _has_none(bands, verdict))
        left = comparisons_of(band for name in without for band in pairs[name] if not _excludes(band, verdict))
        if without:
            absences.setdefault(without, []).append((verdict, left))
    for without, of_pairs in absences.items():
        bands = [band for name in without for band in pairs[name]]
        names = f"{joined(list(without))}, " if len(without) < len(pairs) else ""
        limit = f"(limit {format_share(max(band.threshold for band in bands))})"
        number = comparisons_of(bands)
        if len(of_pairs) > 1 and not any(left for _, left in of_pairs):
            yield HeadlineLine(label=Label.NO_CHANGE, timing=None, text=f"{names}in {_out_of(number, number)} {limit}")
            continue
        for verdict, left in of_pairs:
            text = f"{names}in {_out_of(number - left, number)} {limit}"
            text += f"; {left} can still be {verdict}" if left else ""
            yield HeadlineLine(label=_NOT[verdict], timing=None, text=text)


def _out_of(number: int, of_all: int) -> str:
    return f"{number} of {counted(of_all, 'comparison')}"


def _has_none(bands: Sequence[Band], verdict: Verdict) -> bool:
    """Return True if no band has ``verdict``, faster or slower, and at least one band surely excludes it."""
    return any(_excludes(band, verdict) for band in bands) and all(band.verdict is not verdict for band in bands)


def _excludes(band: Band, verdict: Verdict) -> bool:
    """Return True if ``band`` surely does not have ``verdict``, faster or slower, by more than the threshold.

    An open band excludes ``verdict`` if its interval, widened by the noise floor, does not reach the threshold.
    """
    if not is_open(band):
        return band.verdict is not verdict
    if band.interval is None or band.reason not in (OpenReason.BELOW_THRESHOLD, OpenReason.WITHIN_NOISE):
        return False
    noise = 1 + (band.noise_floor or 0.0)
    if verdict is Verdict.SLOWER:
        return band.interval.high * noise <= 1 + band.threshold
    return band.interval.low / noise >= 1 - band.threshold
