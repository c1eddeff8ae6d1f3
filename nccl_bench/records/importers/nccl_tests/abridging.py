"""Shorten a list in a message: a damaged log can have thousands of damaged rows."""

from collections.abc import Sequence

_MOST_NAMED = 5


def abridged(texts: Sequence[str], noun: str = "") -> list[str]:
    """Return the first few of ``texts``, and a text that counts the others; ``noun`` is the word for them."""
    rest = len(texts) - _MOST_NAMED
    return [*texts[:_MOST_NAMED], *([f"and {rest} more {noun}".rstrip()] if rest > 0 else [])]
