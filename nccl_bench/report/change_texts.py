"""The sizes and the texts of the cells in the tables that answer the question."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from string import ascii_uppercase

from nccl_bench.analysis.bands import Band, OpenReason
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.wording import percent
from nccl_bench.config.sizes import format_size
from nccl_bench.report.layout import Column, column

# The mark behind a change, by the verdict of its band. A faster or slower change has no mark.
_MARKS: Mapping[Verdict | None, str] = {Verdict.EQUIVALENT: "=", Verdict.INCONCLUSIVE: "?"}
# The mark of a size that is beyond the threshold, although its band is not.
_ODD = "~"
# What stands in place of a change that the machine alone can have made.
_NOT_COMPARABLE = "x"
# The notes that explain the marks.
MARKS_NOTE = "+ slower, = same, ? open."
_NOTES: Mapping[str, str] = {
    _ODD: "~ is the same together with its neighbours; its own change is larger, maybe by chance.",
    _NOT_COMPARABLE: "x is not comparable, because the machine changed between the two sides.",
}
# The note of a table that leaves sizes out.
SOME_SIZES = "Selected sizes; all with --full."
# If there are more sizes than this, the tables show the ends of bands, and at least every fourth size between these.
_MOST_SIZES, _STEP = 16, 4
# The size that many engines ask about: between the small messages of decoding and the large ones of prefill.
_ALWAYS = 64 * 1024


def some_sizes(sizes: Sequence[int], bands: Sequence[Band], failed: Collection[int] = ()) -> list[int]:
    """Return the sizes that a table shows: ends of bands, sizes in the headline, ``failed`` sizes, and some others.

    One of the others is 64 KiB. If there are few sizes, return all of them.
    """
    if len(sizes) <= _MOST_SIZES:
        return list(sizes)
    needed = {band.comparisons[index].case.size_bytes for band in bands for index in (0, -1)}
    needed |= {_ALWAYS, *failed}
    needed |= {band.farthest.case.size_bytes for band in bands if _names_a_size(band)}
    chosen: list[int] = []
    step = 0
    for size in sizes:
        step += 1
        if size in needed or step == _STEP:
            chosen.append(size)
            step = 0
    return chosen


def _names_a_size(band: Band) -> bool:
    """Return True if the headline names the size of ``band`` with the largest change."""
    named = band.reason in (OpenReason.BELOW_THRESHOLD, OpenReason.SHARED_ARM_MOVED)
    return band.is_odd or named or band.verdict is Verdict.SLOWER


def sizes_column(sizes: Sequence[int]) -> Column:
    """Return the first column of a table, with ``sizes``."""
    return column("size", ("size", "(B)"), [format_size(size) for size in sizes])


def change_cell(comparison: Comparison, band: Band) -> str:
    """Return the change of ``comparison`` with the mark of the verdict of its ``band``."""
    if band.reason is OpenReason.SHARED_ARM_MOVED:
        return _NOT_COMPARABLE
    odd = band.verdict is Verdict.EQUIVALENT and abs(comparison.ratio - 1) > comparison.threshold
    return change_text(comparison.ratio) + (_ODD if odd else _MARKS.get(band.verdict) or " ")


def mark_notes(cells: Iterable[str]) -> list[str]:
    """Return the notes for those marks in ``cells`` that `MARKS_NOTE` does not explain."""
    marks = {cell.rstrip()[-1:] for cell in cells}
    return [note for mark, note in _NOTES.items() if mark in marks]


def letters(number: int) -> str:
    """Return the letters that stand for an arm, counted from 0: A to Z, then A1 to Z1."""
    rounds, letter = divmod(number, len(ascii_uppercase))
    return f"{ascii_uppercase[letter]}{rounds or ''}"


def saved_cell(comparison: Comparison) -> str:
    """Return the text in the column ``saved``: the time saved, or the change of the shared arm if there is one."""
    if comparison.shared is not None:
        return change_text(comparison.shared.ratio)
    saved = comparison.saved_us
    text = f"{saved:.{2 if abs(saved) < 0.995 else 1 if abs(saved) < 99.5 else 0}f}"
    return text if text.strip("-0.") else text.lstrip("-")


def change_text(ratio: float) -> str:
    """Return a change in percent, with a sign if it is not zero: -14, +1.2, 0.0."""
    return percent(ratio - 1, sign=True)


def bar_header(length: int) -> str:
    """Return the words above bars of ``length`` characters on each side: a bar to the left is faster."""
    return f"{'fast':>{length}}|{'slow':<{length}}"


def bar(ratio: float | None, most: float, length: int) -> str:
    """Return a bar to the left for a faster candidate and to the right for a slower one; ``most`` is a full bar."""
    if ratio is None:
        return ""
    change = ratio - 1
    characters = round(length * abs(change) / most) if most else 0
    left, right = ("-" * characters, "") if change < 0 else ("", "+" * characters)
    return f"{left:>{length}}|{right:<{length}}"
