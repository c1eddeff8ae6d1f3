"""Shorten a list in a message: a damaged log can have thousands of damaged rows."""

from collections.abc import Sequence

_MOST_NAMED = 5


def abridged(texts: Sequence[str], noun: str = "") -> list[str]:
    """Return the first of ``texts``, and a text with the number of the others, which are ``noun``."""
    rest = len(texts) - _MOST_NAMED
    return [*texts[:_MOST_NAMED], *([f"and {rest} more {noun}".rstrip()] if rest > 0 else [])]
