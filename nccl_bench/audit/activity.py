"""Detects a hang: no rank of the program on this node does anything for some time. Slow work is no hang."""

from __future__ import annotations

import time
from pathlib import Path

# A file in the directory of findings. Its modification time is the time of the latest action of any rank.
_ALIVE = ".alive"


class Activity:
    """The activity of all ranks of a node, as one rank sees it."""

    def __init__(self, directory: Path, timeout_s: float) -> None:
        """Meet the other ranks in ``directory``."""
        self._alive = directory / _ALIVE
        self._timeout_s = timeout_s
        self._actions = 0
        self._alive.touch()

    def note(self, actions: int) -> None:
        """Note how many actions this rank has done."""
        if actions != self._actions:
            self._actions = actions
            self._alive.touch()

    def left_s(self) -> float:
        """Return the seconds until the program counts as hung, if no rank does anything before that."""
        return self._timeout_s - (time.time() - self._alive.stat().st_mtime)
