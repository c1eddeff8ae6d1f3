"""NCCL's log, switched on for single calls.

NCCL reads ``NCCL_DEBUG``, ``NCCL_DEBUG_SUBSYS`` and ``NCCL_DEBUG_FILE`` together, at its first message (src/debug.cc,
``ncclDebugInit``). So a log that is on at the start stays on, also in timed calls. Since 2.24 NCCL has the function
``ncclResetDebugInit``: after a call of it, the next message reads all three variables again. NVIDIA calls the function
deprecated, but NCCL 2.30 still has it. Without this function the log cannot be switched on, and
``NcclLog.reason_absent`` says so.

The log goes into a file in memory, so it needs no disk.
"""

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nccl_bench.transports.c_environment import c_variable, c_variables

_RESET = "ncclResetDebugInit"
_FILE = "NCCL_DEBUG_FILE"

# Returns the lines that NCCL has written since the last call.
NewLines = Callable[[], list[str]]


class NcclLog:
    """The log of the copies of libnccl in this process; ``libraries`` are their files."""

    def __init__(self, libraries: Sequence[str]) -> None:
        loaded = map(ctypes.CDLL, libraries)
        self._resets: list[Any] = [getattr(library, _RESET) for library in loaded if hasattr(library, _RESET)]
        self.reason_absent: str | None = None  # the reason why the log cannot be read; None if it can
        if not self._resets:
            self.reason_absent = f"NCCL before 2.24 cannot switch its log on ({', '.join(libraries)})"
        if c_variable(_FILE):
            # NCCL would open the user's file again, and opening the file empties it.
            self.reason_absent = f"{_FILE} is set, so the log is left to you"

    @contextmanager
    def switched_on(self, subsystems: Sequence[str]) -> Iterator[NewLines]:
        """Write the log of ``subsystems`` within a ``with`` block. Yield a function that returns the new lines."""
        assert self.reason_absent is None, self.reason_absent
        descriptor = os.memfd_create("nccl-log")
        position = 0

        def new_lines() -> list[str]:
            nonlocal position
            written = os.pread(descriptor, os.fstat(descriptor).st_size - position, position)
            position += len(written)
            return written.decode(errors="replace").splitlines()

        variables = {
            "NCCL_DEBUG": "INFO",
            "NCCL_DEBUG_SUBSYS": ",".join(subsystems),
            _FILE: f"/proc/self/fd/{descriptor}",
        }
        try:
            # NCCL reads the variables at its next message, which must be within the block.
            with c_variables(variables):
                self._reset()
                yield new_lines
            self._reset()
        finally:
            os.close(descriptor)

    def _reset(self) -> None:
        for reset in self._resets:
            reset()
