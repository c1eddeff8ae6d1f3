"""The exception tree, and the exit code that each class stands for.

    NcclBenchError                     3
    ├── UsageError                     2   a wrong option, file or combination
    ├── SetupError                     3   the machine or the launch: no GPU, no library, a dead worker
    │   └── NodeLostError              3   another node of the run has ended, or does not answer
    ├── CommunicatorError              3
    │   ├── InvalidArgumentError       3   Python refused the call before the library saw it
    │   └── DisabledError              3   a call on a communicator that is disabled or closed
    ├── UserArmError                   3   a user arm that is missing, does not fit, or raised an error
    ├── TransportError                 3   the library reported a failure
    │   └── NcclError                  3   NCCL reported a failure, with its result code
    ├── RecordError                    3   a record that cannot be read or written
    └── InterruptedRunError          130

Nothing in this module prints. A message is for the user: it says what was given, what is allowed and what to do.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of the process; scripts may rely on these numbers."""

    OK = 0
    USAGE = 2
    SETUP = 3
    WRONG_RESULT = 4
    RACE = 5  # an arm failed a probe of a verification, or an audit found a race
    HANG = 6
    SLOWER = 7  # a candidate is slower, and --fail-on slower was given
    INCONCLUSIVE = 8  # a verdict is inconclusive or missing, and --fail-on was given; or an audit saw no collective
    BLIND_DETECTOR = 9  # the detector passed a probe that it must fail
    INTERRUPTED = 130


class NcclBenchError(Exception):
    """The base class of every error that a user can cause or see."""

    exit_code = ExitCode.SETUP


class UsageError(NcclBenchError):
    """A command line, a file or a call that is not valid."""

    exit_code = ExitCode.USAGE


class SetupError(NcclBenchError):
    """A machine, a launch or a worker that is not ready to measure."""


class NodeLostError(SetupError):
    """Another node of the run that has ended, or that does not answer."""


class CommunicatorError(NcclBenchError):
    """A call of a communicator's method that failed before it reached a transport."""


class InvalidArgumentError(CommunicatorError):
    """A tensor, a rank or a list of sizes that the operation does not take."""


class DisabledError(CommunicatorError):
    """An operation on a communicator that is disabled or already closed."""


class UserArmError(NcclBenchError):
    """A user arm that cannot be loaded or adapted, or whose call raised an error."""


class TransportError(NcclBenchError):
    """A failure that the library of a transport reported."""


class NcclError(TransportError):
    """A call of NCCL that did not return ``ncclSuccess``."""

    def __init__(self, function: str, result: int, text: str, last_error: str = "") -> None:
        """Describe a call of ``function``: its numeric ``result``, that result as ``text``, and NCCL's last error."""
        self.function = function
        self.result = result
        detail = f": {last_error}" if last_error else ""
        super().__init__(f"{function} returned {result} ({text}){detail}")


class RecordError(NcclBenchError):
    """A record that is missing, malformed, written by another program, or not writable."""


class InterruptedRunError(NcclBenchError):
    """A run that the user or a scheduler ended."""

    exit_code = ExitCode.INTERRUPTED
