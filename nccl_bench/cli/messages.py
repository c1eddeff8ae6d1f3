"""The output of a command besides its result: messages on standard error, and the exit code."""

import sys

from nccl_bench.errors import ExitCode


def print_message(text: str) -> None:
    """Print one message to standard error."""
    print(f"nccl-bench: {text}", file=sys.stderr)


def exit_with(code: ExitCode) -> None:
    """End the process with ``code``, or return if ``code`` is ``OK``."""
    if code is not ExitCode.OK:
        raise SystemExit(int(code))
