"""The output of a command besides its result: messages on standard error, and the exit code."""

import sys

from nccl_bench.errors import ExitCode
from nccl_bench.report.escaping import visible
from nccl_bench.safety.secrets import masked


def print_message(text: str) -> None:
    """Print one message to standard error, without what may be secret. Only its first line has the tool's name."""
    lines = visible(masked(text)).replace("\n", "\n  ")
    print(f"nccl-bench: {lines}", file=sys.stderr)


def exit_with(code: ExitCode) -> None:
    """End the process with ``code``, or return if ``code`` is ``OK``."""
    if code is not ExitCode.OK:
        raise SystemExit(int(code))
