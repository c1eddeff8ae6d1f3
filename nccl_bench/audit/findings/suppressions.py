"""Races that the user knows and accepts: a file of patterns, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from nccl_bench.audit.findings.record import FoundAccess, FoundRace
from nccl_bench.errors import UsageError
from nccl_bench.safety.regular_files import MOST_BYTES_OF_TEXT, read_regular

# The pattern of the first access, the pattern of the second access, and the reason.
_FORM = "PATTERN [-> PATTERN]: REASON"
_SEPARATOR = re.compile(r"\s*->\s*")
_REASON = re.compile(r":\s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """A line of a file of suppressions."""

    number: int  # the number of the line
    patterns: tuple[str, ...]  # the pattern of one access, or the patterns of the first and the second access
    reason: str  # why the user accepts the race

    @property
    def text(self) -> str:
        """The patterns as the file has them."""
        return " -> ".join(self.patterns)

    def matches(self, race: FoundRace) -> bool:
        """Return whether this line suppresses ``race``."""
        accesses = (race.first, race.second)
        if len(self.patterns) == 1:
            return any(_matches(self.patterns[0], access) for access in accesses)
        return all(map(_matches, self.patterns, accesses))


def read_suppressions(file: Path) -> tuple[Suppression, ...]:
    """Return the suppressions in ``file``. Empty lines, and lines that begin with ``#``, are left out.

    Raises ``UsageError`` for a line without a reason, and for a file that cannot be read.
    """
    try:
        text = read_regular(file, MOST_BYTES_OF_TEXT).decode()
    except OSError as error:
        raise UsageError(f"--suppress is {file}, which cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--suppress is {file}, which is no text in UTF-8: give lines of {_FORM}") from error
    return tuple(_parse(file, text.splitlines()))


def _parse(file: Path, lines: Sequence[str]) -> Iterator[Suppression]:
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        pattern, *reason = _REASON.split(line, maxsplit=1)
        patterns = _SEPARATOR.split(pattern.strip())
        if not reason or not reason[0].strip():
            raise UsageError(
                f"{file}:{number} is {line!r}, which has no reason: write {_FORM}, for example "
                f"`engine/model.py:88: the output is thrown away`"
            )
        if len(patterns) > 2 or not all(patterns):
            raise UsageError(f"{file}:{number} is {line!r}: write {_FORM}, with one pattern or two")
        yield Suppression(number=number, patterns=tuple(patterns), reason=reason[0].strip())


def _matches(pattern: str, access: FoundAccess) -> bool:
    """Return whether ``pattern`` fits the work of ``access``, or one of its lines."""
    names = [access.work, *(name for line in access.lines for name in (line.place, line.path, line.function))]
    return any(fnmatchcase(name, pattern) or name.endswith(f"/{pattern}") for name in names)
