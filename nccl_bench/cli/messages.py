"""The output of a command besides its result: messages on standard error, and the exit code."""

import sys

from nccl_bench.errors import ExitCode
from nccl_bench.report.escaping import visible
from nccl_bench.safety.secrets import masked

# The most characters of a message.
_LONGEST = 10_000


def print_message(text: str) -> None:
    """Print one message to standard error, without what may be secret. Only its first line has the tool's name."""
    lines = visible(shortened(masked(text))).replace("\n", "\n  ")
    print(f"nccl-bench: {lines}", file=sys.stderr)


def shortened(text: str) -> str:
    """Return ``text``; without its middle if it is very long, for example because it quotes a file."""
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]} ... {len(text) - _LONGEST:,} more characters ... {text[-half:]}"


def exit_with(code: ExitCode) -> None:
    """End the process with ``code``, or return if ``code`` is ``OK``."""
    if code is not ExitCode.OK:
        raise SystemExit(int(code))
