"""What a verdict does to the exit code, and how a comparison is shown: what ``run`` and ``compare`` share."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from nccl_bench.config import names_of
from nccl_bench.errors import ExitCode


class FailOn(StrEnum):
    """What ``--fail-on`` makes a failure of. Improvements always pass."""

    SLOWER = "slower"
    INCONCLUSIVE = "inconclusive"
    WRONG = "wrong"


class Format(StrEnum):
    """How a report is printed."""

    TABLES = "tables"
    MARKDOWN = "markdown"
    JSON = "json"
    CSV = "csv"


class ComparisonFormat(StrEnum):
    """How a comparison of runs is printed, by the names of ``Format``."""

    TABLES = "tables"
    MARKDOWN = "markdown"
    JSON = "json"


_CODES = {
    FailOn.WRONG: ExitCode.WRONG_RESULT,
    FailOn.SLOWER: ExitCode.SLOWER,
    FailOn.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
}


def parse_fail_on(text: str | None) -> tuple[FailOn, ...]:
    """The choices in ``text``, comma-separated; raises ``UsageError`` for others."""
    return () if text is None else tuple(FailOn(name) for name in names_of("--fail-on", text, FailOn))


def gate(fail_on: Iterable[FailOn], seen: Iterable[str | None]) -> ExitCode:
    """The exit code for what was ``seen``: verdicts, and ``wrong`` for a wrong result. The worst of them counts."""
    found = set(seen)
    chosen = set(fail_on)
    return next((code for kind, code in _CODES.items() if kind in chosen and kind in found), ExitCode.OK)
