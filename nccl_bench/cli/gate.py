"""What a verdict does to the exit code, and how a comparison is shown: what ``run`` and ``compare`` share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from nccl_bench.cli.messages import print_message
from nccl_bench.config.parsers import names_of
from nccl_bench.errors import ExitCode

if TYPE_CHECKING:
    from nccl_bench.report.verdicts import Told


class FailOn(StrEnum):
    """What ``--fail-on`` makes a failure of. Improvements always pass, and wrong results never do."""

    SLOWER = "slower"
    INCONCLUSIVE = "inconclusive"
    WRONG = "wrong"


def parse_fail_on(text: str | None) -> tuple[FailOn, ...]:
    """The choices in ``text``, comma-separated; raises ``UsageError`` for others."""
    return () if text is None else tuple(FailOn(name) for name in names_of("--fail-on", text, FailOn))


def gate(
    fail_on: Collection[FailOn], told: Sequence[Told], *, judged: bool, lacking: bool, reason: str = ""
) -> ExitCode:
    """The exit code for the verdicts ``told``, of which ``fail_on`` are failures; the worst of them counts.

    Where nothing could be ``judged``, no data could have failed, so it does not pass either; ``reason`` is why, where
    there is no verdict at all. ``lacking``: the candidate is without something that the baseline has, which is as open
    as what is not sure. What no table shows is printed.
    """
    asked = [each for each in FailOn if each in fail_on and each is not FailOn.WRONG]
    seen = {str(one.verdict) for one in told if one.verdict is not None}
    if asked and not judged:
        if seen:
            reason = "rounds are too few for an interval, or no twin tells how much luck makes"
        print_message(f"nothing could be judged, so --fail-on {','.join(asked)} does not pass: {reason}")
        return ExitCode.INCONCLUSIVE
    if FailOn.SLOWER in asked and FailOn.SLOWER in seen:
        return ExitCode.SLOWER
    if FailOn.INCONCLUSIVE in asked and FailOn.INCONCLUSIVE in seen:
        return ExitCode.INCONCLUSIVE
    if FailOn.INCONCLUSIVE in asked and lacking:
        print_message("--fail-on inconclusive does not pass: not all that was there is compared")
        return ExitCode.INCONCLUSIVE
    return ExitCode.OK
