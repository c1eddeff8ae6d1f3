"""The races of a watch as a report needs them: words and lines of source code, no stack, stream or address."""

from __future__ import annotations

import itertools
import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from nccl_bench.audit.findings.record import FoundAccess, FoundRace, Line
from nccl_bench.audit.order.places import Stream
from nccl_bench.audit.order.races import Access, Race

# The most calls of a stack that a report shows.
_MOST_LINES = 6
_HOST = "the host"


class Describer:
    """Describes the races of one rank. A side stream has the same number in all descriptions."""

    def __init__(self, rank: int, directory: Path, outside: str) -> None:
        """Shorten the names of files below ``directory``. Leave out the calls that led to the program.

        ``outside`` is a part of the path of the file that called the program.
        """
        self._rank = rank
        self._directory = directory
        self._outside = outside
        self._numbers: dict[Stream, int] = {}

    def describe(self, races: Sequence[Race]) -> tuple[FoundRace, ...]:
        """Return the races for a report."""
        return tuple(map(self._race, races))

    def _race(self, race: Race) -> FoundRace:
        return FoundRace(
            kind=race.kind,
            missing=race.missing,
            first=self._access(race.first),
            second=self._access(race.second),
            overlap_bytes=race.overlap.length,
            freed=next(iter(self._lines(race.freed)), None),
            count=race.count,
            ranks=(self._rank,),
        )

    def _access(self, access: Access) -> FoundAccess:
        stream = access.stream
        return FoundAccess(
            work=access.work.name,
            is_collective=access.work.is_collective,
            mode=access.mode,
            stream=self._stream(stream),
            device=-1 if stream is None else stream.device,
            is_side=stream is not None and not stream.is_default,
            lines=self._lines(access.work.where),
            in_graph=access.in_graph,
            replayed=next(iter(self._lines(access.replayed)), None),
        )

    def _stream(self, stream: Stream | None) -> str:
        if stream is None:
            return _HOST
        device = f" of cuda:{stream.device}" if stream.device >= 0 else ""
        if stream.is_default:
            return f"the default stream{device}"
        return f"side stream {self._numbers.setdefault(stream, len(self._numbers) + 1)}{device}"

    def _lines(self, where: Hashable) -> tuple[Line, ...]:
        frames: Sequence[Any] = getattr(where, "frames", ())
        frames = list(itertools.takewhile(lambda frame: self._outside not in frame.path, frames))
        of_user = [frame for frame in frames if not frame.is_folded] or list(frames[:1])
        return tuple(
            Line(
                path=path_below(self._directory, frame.path),
                number=frame.line,
                function=frame.function,
                source=frame.source,
            )
            for frame in of_user[:_MOST_LINES]
        )


def path_below(directory: Path, path: str) -> str:
    """Return ``path`` relative to ``directory`` if it is below; otherwise the whole path."""
    return os.path.relpath(path, directory) if Path(path).is_relative_to(directory) else path
