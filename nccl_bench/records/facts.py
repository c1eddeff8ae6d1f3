"""Facts about a command that every record has: its command line, and the time."""

import sys
from datetime import datetime

from nccl_bench.config.hidden_values import recordable_command


def command_line() -> list[str]:
    """Return the command of this process, without what may be secret.

    The path of the program has no effect on the result, so it is left out too.
    """
    return ["nccl-bench", *recordable_command(sys.argv[1:])]


def time_text() -> str:
    """Return the present time, with the time zone, as records have it."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def seconds_since(text: str) -> float:
    """Return the seconds since ``text``, a text of ``time_text``; 0 for any other text and for a time in the future."""
    try:
        return max(0.0, (datetime.now().astimezone() - datetime.fromisoformat(text)).total_seconds())
    except (ValueError, TypeError):
        # A time without its time zone cannot be subtracted.
        return 0.0
