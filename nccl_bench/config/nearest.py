"""The nearest of several names: what a user probably meant. The only place that makes such suggestions. No torch."""

import difflib
import re
from collections.abc import Iterable

# The least similarity of a suggested name: 1 means equal, and 0 means nothing in common.
_LEAST_ALIKE = 0.6
# More names than this are listed only if none of them is near.
_MOST_LISTED = 12


def nearest(given: object, allowed: Iterable[str]) -> str | None:
    """Return the name in ``allowed`` that is most like ``given``, or ``None`` if no name is like it.

    Capitals, hyphens and underscores do not count: ``streamfree`` is ``stream-free``, ``allreduce`` is ``all_reduce``.
    """
    names = {_bare(name): name for name in reversed([str(name) for name in allowed])}
    text = _bare(str(given))
    if not text:
        return None
    beginning = [bare for bare in names if bare.startswith(text)]
    alike = difflib.get_close_matches(text, names, n=1, cutoff=_LEAST_ALIKE) or beginning[-1:]
    return names[alike[0]] if alike else None


def instead_of(given: object, allowed: Iterable[str], aliases: Iterable[str] = ()) -> str:
    """Return the end of a message about a name that is not allowed: the nearest allowed name, then all of them.

    ``aliases`` are allowed too, but they are not listed.
    """
    names = [str(name) for name in allowed]
    near = nearest(given, [*names, *aliases])
    listed = ", ".join(names) or "none"
    if near is None:
        return f"allowed are {listed}"
    return f"did you mean {near!r}?" + (f" Allowed are {listed}" if len(names) <= _MOST_LISTED else "")


def _bare(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()
