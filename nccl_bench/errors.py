"""The exception tree, and the exit code each class stands for.

    NcclBenchError                     3
    ├── UsageError                     2   what was asked for cannot be: an option, a file, a combination
    ├── SetupError                     3   the machine or the launch: no GPU, no library, a worker that died
    ├── CommunicatorError              3
    │   ├── InvalidArgumentError       3   Python refused the call before the library saw it
    │   └── DisabledError              3   a call on a communicator that is disabled or closed
    ├── UserArmError                   3   a communicator that somebody else wrote: not found, not fitting, or it raised
    ├── TransportError                 3   the library was called and reported a failure
    │   └── NcclError                  3   the same, with NCCL's result code
    ├── RecordError                    3   a run directory that cannot be read or written
    └── InterruptedRunError          130

Nothing here prints: the message is for the user and says what was got, what is allowed and what to do.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process's exit status means; scripts may rely on these numbers."""

    OK = 0
    USAGE = 2
    SETUP = 3
    WRONG_RESULT = 4
    RACE = 5
    HANG = 6
    SLOWER = 7
    INCONCLUSIVE = 8
    BLIND_DETECTOR = 9
    INTERRUPTED = 130


class NcclBenchError(Exception):
    """The root: every error a user can cause or meet derives from it."""

    exit_code = ExitCode.SETUP


class UsageError(NcclBenchError):
    """What was asked for cannot be done as asked."""

    exit_code = ExitCode.USAGE


class SetupError(NcclBenchError):
    """The machine, the launch or a worker is not in a state to measure."""


class CommunicatorError(NcclBenchError):
    """A call on a communicator that was refused before it reached a transport."""


class InvalidArgumentError(CommunicatorError):
    """A tensor, a rank or a list of sizes that the operation cannot take."""


class DisabledError(CommunicatorError):
    """An operation on a communicator that is disabled or already closed."""


class UserArmError(NcclBenchError):
    """A user arm that cannot be loaded or adapted, or whose call raised."""


class TransportError(NcclBenchError):
    """The library under a transport reported a failure."""


class NcclError(TransportError):
    """A non-zero ``ncclResult_t``.

    ``function`` is the NCCL function that returned it and ``result`` its numeric code.
    """

    def __init__(self, function: str, result: int, text: str, last_error: str = "") -> None:
        self.function = function
        self.result = result
        detail = f": {last_error}" if last_error else ""
        super().__init__(f"{function} returned {result} ({text}){detail}")


class RecordError(NcclBenchError):
    """A run directory that is missing, malformed, foreign or not writable."""


class InterruptedRunError(NcclBenchError):
    """The user, or a scheduler, ended the run."""

    exit_code = ExitCode.INTERRUPTED
