"""Facts about a command that every record has: its command line, and the time."""

import sys
from datetime import datetime


def command_line() -> list[str]:
    """Return the command of this process, without the path of the program, which has no effect on the result."""
    return ["nccl-bench", *sys.argv[1:]]


def time_text() -> str:
    """Return the present time, with the time zone, as records have it."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
