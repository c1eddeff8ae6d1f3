"""The texts of the cells of the table that answers the question: letters of arms, changes, savings and bars."""

from string import ascii_uppercase

from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.wording import percent


def letters(number: int) -> str:
    """Return the letters that stand for an arm, counted from 0: A to Z, then A1 to Z1."""
    rounds, letter = divmod(number, len(ascii_uppercase))
    return f"{ascii_uppercase[letter]}{rounds or ''}"


def saved_text(comparison: Comparison) -> str:
    """Return the time saved, or the change of the shared arm."""
    if comparison.shared is not None:
        return change_text(comparison.shared.ratio)
    saved = comparison.saved_us
    text = f"{saved:.{2 if abs(saved) < 0.995 else 1 if abs(saved) < 99.5 else 0}f}"
    return text if text.strip("-0.") else text.lstrip("-")


def change_text(ratio: float) -> str:
    """Return a change in percent, with a sign if it is not zero: -14, +1.2, 0.0."""
    return percent(ratio - 1, sign=True)


def bar(ratio: float | None, most: float, length: int) -> str:
    """Return a bar to the left for a faster candidate and to the right for a slower one; ``most`` is a full bar."""
    if ratio is None:
        return ""
    change = ratio - 1
    characters = round(length * abs(change) / most) if most else 0
    left, right = ("-" * characters, "") if change < 0 else ("", "+" * characters)
    return f"{left:>{length}}|{right:<{length}}"
