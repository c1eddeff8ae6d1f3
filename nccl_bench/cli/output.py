"""The options of the output of ``run`` and ``verify``."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from nccl_bench.cli.gate import FailOn
from nccl_bench.report import Detail, Format


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputConfig:
    """The options of a command's output."""

    out: Path | None = None  # the directory of the record; None for the default of the command
    format: Format = Format.TERMINAL  # the format of the report
    to: Path | None = None  # the file for the report; None for standard output
    anonymous: bool = False  # True if the report has no host names, paths and UUIDs of GPUs
    fail_on: tuple[FailOn, ...] = ()  # the verdicts that set the exit code
    detail: Detail = Detail.USUAL  # the amount of text in a terminal
    width: int | None = None  # the width of the report, in characters; None for the width of the terminal
    started: float = field(default_factory=time.monotonic)  # a reading of the monotonic clock at the command's start

    def summary(self, *parts: str) -> str:
        """Return the last line of the command: how long it took, then ``parts``."""
        return ", ".join((f"{time.monotonic() - self.started:.0f} s", *parts))
