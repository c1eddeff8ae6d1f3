"""A thread that watches its own rank's deadline, for ranks that another launcher started."""

import threading
import time
from collections.abc import Callable

from nccl_bench.ranks.progress import Position, Progress, find_overdue

_POLL_S = 0.5


def start_watchdog(
    progress: Progress, on_overdue: Callable[[Position], None], on_poll: Callable[[Position], None]
) -> None:
    """Start a thread that calls ``on_overdue`` once this rank's deadline has passed, and ``on_poll`` twice a second.

    After a missed deadline the rank itself is stuck in a library, so ``on_overdue`` must end the process. ``on_poll``
    takes time from the thread that measures, so it must be short.
    """

    def poll() -> None:
        while not progress.position.done:
            on_poll(progress.position)
            # Read the time before the position, so that a rank that goes on in the meantime is not late.
            now = time.monotonic()
            for late in find_overdue([progress.position], now):
                on_overdue(late)
                return
            time.sleep(_POLL_S)

    threading.Thread(target=poll, name="deadline", daemon=True).start()
