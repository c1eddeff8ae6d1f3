"""The style of each line: the number of its colour, its dash and its mark. A name has the same style on every page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, count
from zlib import crc32

from nccl_bench.catalog.arms import ARMS, DEFAULT_BASELINE
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.user_arms import AFTER, BEFORE

# The first styles are for arms: this many. The next styles are for timings. All later styles have the colours of
# `_USERS` again, with other marks.
ARM_COLOURS = 8
COLOURS = ARM_COLOURS + len(Timing)
# The styles of arms that a user names.
_USERS = (4, 5, 6, 7)
_COMPARED = (DEFAULT_BASELINE, "stream-free", "torch", "torch-async", BEFORE, AFTER)
_FIXED: Mapping[str, int] = {name: style for style, name in enumerate(_COMPARED)} | {
    name: style for style, name in enumerate((name for name in ARMS if name not in _COMPARED), start=COLOURS)
}


def arm_styles(names: Sequence[str]) -> dict[str, int]:
    """Return the style of each of ``names``. It depends on the name alone, unless two names would share a style."""
    styles = {name: _FIXED[name] for name in names if name in _FIXED}
    for name in names:
        if name not in styles:
            first = crc32(name.encode()) % len(_USERS)
            later = count(COLOURS + len(ARMS))
            styles[name] = next(
                style for style in chain(_USERS[first:], _USERS[:first], later) if style not in styles.values()
            )
    return {name: styles[name] for name in names}


def timing_style(timing: Timing) -> int:
    """Return the style of a line that stands for ``timing``. No arm has its colour."""
    return ARM_COLOURS + list(Timing).index(timing)


def colour_of(style: int) -> int:
    """Return the number of the colour of a style; ``colourNumber`` in scales.js does the same."""
    return style if style < COLOURS else _USERS[(style - COLOURS) % len(_USERS)]
