"""The communicator of the arm ``bare-transport``, which makes only the calls to the transport.

An operation's calls to the transport are recorded once. Later, only the recorded calls are repeated. ``stream-free``
cannot be faster than this arm. The difference of the two arms is the time that a communicator adds to a call.
"""

from collections.abc import Callable

from nccl_bench.communicators.protocol import Operation
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.errors import InvalidArgumentError


class RecordedCommunicator(StreamFreeCommunicator):
    """A stream-free communicator whose arms make only the calls to the transport."""

    def returning(self, collective: str) -> Callable[..., object]:
        """Raise ``InvalidArgumentError``: recorded calls allocate no output."""
        raise InvalidArgumentError(f"recorded calls of {collective} allocate no output")

    def prepare(self, operation: Operation) -> Operation:
        """Record the calls of ``operation`` to the transport, and return a function that makes the recorded calls."""
        return self.library_call(operation)

    def stream_fetches(self) -> list[Operation]:
        """Return no functions: a recorded call already contains the handle of its stream."""
        return []
