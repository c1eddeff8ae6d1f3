"""Lines of the headline about one kind of case: first what changed, then what stayed the same, then what is open."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from nccl_bench.analysis.bands import Band
from nccl_bench.analysis.headline import HeadlineLine, Label
from nccl_bench.analysis.judging import OpenReason
from nccl_bench.analysis.pair_lines import (
    comparisons_of,
    decided_lines,
    is_open,
    known_sizes,
    open_places,
    same_lines,
    share_of,
)
from nccl_bench.analysis.ranking import fastest_lines
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.verdict_words import noise_hides_the_rest
from nccl_bench.analysis.wording import format_share, joined

# What is so of comparisons that are open for a reason, behind the word "which".
_WHICH: Mapping[OpenReason | None, str] = {
    OpenReason.BELOW_THRESHOLD: "may be under {threshold}{noise}",
    OpenReason.WITHIN_NOISE: "{are} within noise (the times vary more than the arms differ)",
    OpenReason.TOO_FEW_ROUNDS: "{have} too few rounds",
    OpenReason.NO_TWIN: "{have} no twin, so the noise is unknown",
    OpenReason.DIFFERENT_PROCESSES: "{are} of different processes, whose CPU speeds differ",
    OpenReason.ONE_LAUNCH: "{have} times of both arms in one launch only",
    OpenReason.SHARED_ARM_MOVED: "the machine alone may have changed",
    None: "{have} no verdict, because nobody knows how much the times vary",
}


def decided_answers(
    pairs: Mapping[str, Sequence[Band]], swept: Collection[int], *, ranked: bool, brief: bool
) -> Iterator[HeadlineLine]:
    """Yield the decided lines of ``pairs``, the bands of each pair of arms by its name; all are of one kind of case.

    ``swept`` are all sizes that were tried. If the pairs are ``ranked``, the first lines name the fastest arms. With
    ``brief``, all timings share a line.
    """
    bands = list(chain.from_iterable(pairs.values()))
    known = known_sizes(bands, swept)
    several = len(pairs) > 1

    def named(name: str, lines: Iterable[HeadlineLine]) -> Iterator[HeadlineLine]:
        return (replace(line, text=f"{name}: {line.text}") if several else line for line in lines)

    if ranked:
        yield from fastest_lines(bands, known)
    for verdict in (Verdict.SLOWER,) if ranked else (Verdict.FASTER, Verdict.SLOWER):
        for name, of_pair in pairs.items():
            lines = decided_lines(of_pair, verdict, known, joined=brief or several, with_time=not ranked)
            yield from named(name, lines)
    yield from _absences(pairs, ranked=ranked)
    for name, of_pair in pairs.items():
        yield from named(name, same_lines(of_pair, known))


def open_answers(
    pairs: Mapping[str, Sequence[Band]], swept: Collection[int], *, brief: bool, counts: bool
) -> Iterator[HeadlineLine]:
    """Yield the open lines of ``pairs``; the parameters are those of `decided_answers`.

    With ``counts``, the first line counts the comparisons that are open.
    """
    bands = list(chain.from_iterable(pairs.values()))
    known = known_sizes(bands, swept)
    still_open = [
        (f"{name}: {places}" if len(pairs) > 1 else places, why)
        for name, of_pair in pairs.items()
        for places, why in open_places(of_pair, known, with_change=not brief)
    ]
    count = list(count_of_open(bands)) if counts else []
    if len(still_open) == len(count) == 1:
        yield replace(count[0], text=f"{count[0].text}: {still_open[0][0]}")
        return
    yield from count
    # The line with the count has the only reason.
    known_reason = bool(count) and len({why for _, why in still_open}) == 1
    texts = (places if known_reason else f"{places}{why}" for places, why in still_open)
    yield from (HeadlineLine(label=Label.OPEN, timing=None, text=text) for text in texts)


def count_of_open(bands: Sequence[Band]) -> Iterator[HeadlineLine]:
    """Yield a line with the number of open comparisons and the reason of most of them, if any is open."""
    still_open = [band for band in bands if is_open(band)]
    if not still_open:
        return
    by_reason = {reason: [band for band in still_open if band.reason is reason] for reason in _WHICH}
    reason, of_reason = max(by_reason.items(), key=lambda item: comparisons_of(item[1]))
    number = comparisons_of(of_reason)
    which = _WHICH[reason].format(
        threshold=format_share(max(band.threshold for band in of_reason)),
        noise=" without noise" if any(map(noise_hides_the_rest, of_reason)) else "",
        are="is" if number == 1 else "are",
        have="has" if number == 1 else "have",
    )
    some = "" if number == comparisons_of(still_open) else f"{number} of "
    text = f"{share_of(still_open, bands)}, {some}which {which}"
    yield HeadlineLine(label=Label.OPEN, timing=None, text=text)


def _absences(pairs: Mapping[str, Sequence[Band]], *, ranked: bool) -> Iterator[HeadlineLine]:
    """Yield that nothing is slower, and that nothing is faster; if arms are ranked, only the former.

    If this is not so of all pairs, the line names those of which it is. It counts what is not decided.
    """
    directions: dict[tuple[tuple[str, ...], int], list[str]] = {}
    for verdict, word in ((Verdict.SLOWER, "slower"), (Verdict.FASTER, "faster"))[: 1 if ranked else 2]:
        without = tuple(name for name, bands in pairs.items() if _has_none(bands, verdict))
        left = comparisons_of(band for name in without for band in pairs[name] if not _excludes(band, verdict))
        directions.setdefault((without, left), []).append(word)
    for (without, left), words in directions.items():
        if not without:
            continue
        bands = [band for name in without for band in pairs[name]]
        text = f"{' or '.join(words)} by over {format_share(max(band.threshold for band in bands))}"
        names = f": {joined(list(without))}" if len(without) < len(pairs) else ""
        if left:
            text = f"found {text}{names}; {left} of {comparisons_of(bands)} comparisons not decided"
            yield HeadlineLine(label=Label.NONE, timing=None, text=text)
        else:
            every = share_of(bands, bands)
            text += f"{names} ({every})" if names else f", in {every}"
            yield HeadlineLine(label=Label.NOWHERE, timing=None, text=text)


def _has_none(bands: Sequence[Band], verdict: Verdict) -> bool:
    """Return True if some of ``bands`` surely do not have ``verdict``, faster or slower, and none has it."""
    return any(_excludes(band, verdict) for band in bands) and all(band.verdict is not verdict for band in bands)


def _excludes(band: Band, verdict: Verdict) -> bool:
    """Return True if ``band`` surely does not have ``verdict``, faster or slower, by more than the threshold.

    An open band can be sure of that: the far end of its interval does not reach this threshold, even if the noise floor
    is added.
    """
    if not is_open(band):
        return band.verdict is not verdict
    if band.interval is None or band.reason not in (OpenReason.BELOW_THRESHOLD, OpenReason.WITHIN_NOISE):
        return False
    noise = 1 + (band.noise_floor or 0.0)
    if verdict is Verdict.SLOWER:
        return band.interval.high * noise <= 1 + band.threshold
    return band.interval.low / noise >= 1 - band.threshold
