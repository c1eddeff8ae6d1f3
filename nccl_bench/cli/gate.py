"""The gate: which verdicts make ``run`` and ``compare`` fail."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import TYPE_CHECKING

from nccl_bench.cli.messages import print_message
from nccl_bench.config.parsers import names_of
from nccl_bench.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from nccl_bench.analysis.analysis import Analysis


class FailOn(StrEnum):
    """The choices of ``--fail-on``: what makes a command fail. Wrong results always make it fail."""

    SLOWER = "slower"
    INCONCLUSIVE = "inconclusive"
    WRONG = "wrong"


def parse_fail_on(text: str | None) -> tuple[FailOn, ...]:
    """Return the comma-separated choices in ``text``; raise ``UsageError`` for any other word."""
    return () if text is None else tuple(FailOn(name) for name in names_of("--fail-on", text, FailOn))


def refuse_gate_of_one_arm(arms: Collection[str], fail_on: Collection[FailOn]) -> None:
    """Raise ``UsageError`` if ``fail_on`` names a verdict and there is only one arm: one arm has no verdict."""
    if len(arms) == 1 and {FailOn.SLOWER, FailOn.INCONCLUSIVE} & set(fail_on):
        raise UsageError(f"--fail-on is {','.join(fail_on)!r}, and a run of one arm compares nothing: add an arm")


def gate(fail_on: Collection[FailOn], analysis: Analysis) -> ExitCode:
    """Return the exit code of the worst verdict that ``fail_on`` names, or ``OK`` if ``analysis`` has no such verdict.

    If the run measured a workload, the verdicts about step times count. Otherwise the verdicts of the bands that answer
    the question of the run count; the headline shows these bands. If nothing could be judged, the gate does not pass. A
    case in which the candidate was not compared counts as inconclusive. If no table shows why the gate does not pass,
    the reason is printed.
    """
    gated = [each for each in FailOn if each in fail_on and each is not FailOn.WRONG]
    verdicts = {str(each.verdict) for each in analysis.judged if each.verdict is not None}
    if gated and not analysis.could_be_judged:
        reason = "there are too few rounds for an interval, or no twin" if verdicts else analysis.reason
        if analysis.step is not None and not verdicts:
            reason = "no step time has all messages of the workload"
        print_message(f"nothing could be judged, so --fail-on {','.join(gated)} does not pass: {reason}")
        return ExitCode.INCONCLUSIVE
    if FailOn.SLOWER in gated and FailOn.SLOWER in verdicts:
        return ExitCode.SLOWER
    if FailOn.INCONCLUSIVE in gated and FailOn.INCONCLUSIVE in verdicts:
        return ExitCode.INCONCLUSIVE
    if FailOn.INCONCLUSIVE in gated and analysis.candidate_incomplete:
        print_message(
            "--fail-on inconclusive does not pass: a candidate is missing in some cases that the baseline has"
        )
        return ExitCode.INCONCLUSIVE
    return ExitCode.OK
