"""The ``Communicator`` protocol, and what enabling and disabling mean.

A communicator decides which stream a collective runs on. Ranks (``src``, ``dst``, ``root``) are ranks in its group.
Tensors are contiguous and on its device; counts are in elements. Each operation only enqueues: it returns before the
device is done.

**State.** A communicator is *available* from construction to ``close`` and *disabled* when it is switched off for a
region with ``change_state(False)``. An operation on a disabled or closed communicator raises ``DisabledError`` and
leaves its output as it was: doing nothing silently would hand the caller an output nobody wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from torch import Tensor

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import RedOp
from nccl_bench.errors import DisabledError
from nccl_bench.ranks.process import SETUP_TIMEOUT_S

Operation = Callable[[], object]


class Communicator(Protocol):
    """What every arm's communicator can do.

    ``stream`` is the private stream its work runs on, which a caller has to fork to and join, or ``None`` where its
    work is ordered with the current stream.
    """

    rank: int
    world_size: int
    stream: Any

    def all_reduce(self, tensor: Tensor, op: RedOp = RedOp.SUM) -> None:
        """Reduce ``tensor`` over all ranks, in place."""

    def outplace_all_reduce(self, input: Tensor, out: Tensor | None = None, op: RedOp = RedOp.SUM) -> Tensor:
        """Reduce ``input`` over all ranks into ``out``, made if not given, and return it."""

    def all_gather(self, output: Tensor, input: Tensor, sizes: Sequence[int] | None = None) -> None:
        """Gather every rank's ``input`` into ``output``; ``sizes`` are the ranks' lengths along dimension 0."""

    def reduce_scatter(
        self, output: Tensor, input: Tensor, op: RedOp = RedOp.SUM, sizes: Sequence[int] | None = None
    ) -> None:
        """Reduce ``input`` and leave block ``rank`` in ``output``; ``sizes`` are the blocks' lengths on dimension 0."""

    def all_to_all(self, output: Tensor, input: Tensor) -> None:
        """Send block r of ``input`` to rank r and receive rank r's block at block r of ``output``."""

    def broadcast(self, tensor: Tensor, src: int, out: Tensor | None = None) -> None:
        """Send ``tensor`` of rank ``src`` to everybody's ``out``, or to their ``tensor``."""

    def reduce(self, tensor: Tensor, dst: int, op: RedOp = RedOp.SUM, out: Tensor | None = None) -> None:
        """Reduce everybody's ``tensor`` into ``out``, or ``tensor``, of rank ``dst``."""

    def send_recv(self, output: Tensor, input: Tensor, dst: int, src: int) -> None:
        """Send ``input`` to rank ``dst`` and receive ``output`` from rank ``src``, as one operation."""

    def change_state(self, enable: bool | None = None) -> AbstractContextManager[None]:
        """Enable or disable within a ``with`` block, restored on the way out, also by an exception.

        ``None`` means as available.
        """

    def close(self) -> None:
        """Release what it holds; calling it again does nothing."""


class ArmCommunicator(Communicator):
    """A communicator that an arm can have: the protocol, and answers to what differs between communicators.

    The answers here are those of a communicator of ours that works on the current stream and has no transport.
    """

    stream: Any = None
    # Whether another stream can be assigned to `stream`.
    stream_is_movable = False
    # Whether a table of routes chooses between this communicator's backends, with one row for graphs.
    routed = False

    @property
    def not_ended(self) -> str | None:
        """Why ``close`` does not end what the communicator made; ``None`` where it does."""
        return None

    @property
    def switch(self) -> Any:
        """The communicator that ``change_state`` enables and disables."""
        return self

    @property
    def registrar(self) -> Any:
        """The ``TransportCommunicator`` that can register memory of the transport, or ``None``."""
        return None

    @property
    def untraced_path(self) -> str:
        """The words for a call that reaches no transport of ours."""
        return "no transport"

    def traced(self) -> AbstractContextManager[list[tuple[str, int]]]:
        """Record the transport's calls within a ``with`` block: the name of each and the handle of its stream."""
        return nullcontext([])

    def prepare(self, operation: Operation) -> Operation:
        """Return what an arm calls to run ``operation``, a call on this communicator."""
        return operation

    def graph_capture(self) -> AbstractContextManager[Any]:
        """Prepare the capture of a CUDA graph; yields the stream to capture on, or ``None`` for any."""
        return nullcontext()

    def private_streams(self) -> list[Any]:
        """Return the streams that this communicator keeps for as long as it lives."""
        return [] if self.stream is None else [self.stream]

    @property
    def exclusive_stream(self) -> Any:
        """The private stream that no other arm may have too, or ``None``."""
        return self.stream

    @property
    def async_gather(self) -> Any:
        """The context-parallel all-gather as a call with ``(output, input, stream)``, or ``None``."""
        return None

    def supports(self, case: Case) -> bool:
        """Return whether this communicator has the collective, placement and reduction of ``case``."""
        return True

    def has_exchange(self, name: str) -> bool:
        """Return whether this communicator can do the exchange ``name`` of a verification."""
        return True

    def close_deadline_s(self, timeout_s: float) -> float:
        """Return the seconds that ``close`` may take, where an operation may take ``timeout_s``."""
        return SETUP_TIMEOUT_S

    def describe(self) -> dict[str, object]:
        """Return what the record says about this communicator; nothing about ours."""
        return {}


class Switch(ArmCommunicator):
    """The state of a communicator: available until it is closed, and disabled where it is switched off."""

    def __init__(self) -> None:
        self.available = False
        self.disabled = True

    @contextmanager
    def change_state(self, enable: bool | None = None) -> Iterator[None]:
        """Enable or disable within a ``with`` block; ``None`` means as available. Restored whatever happens inside."""
        before = self.disabled
        if enable and not self.available:
            raise DisabledError(f"{type(self).__name__} is closed and cannot be enabled: make a new one")
        self.disabled = not (self.available if enable is None else enable)
        try:
            yield
        finally:
            self.disabled = before or not self.available

    def _make_available(self) -> None:
        self.available = True
        self.disabled = False

    def _retire(self) -> None:
        self.available = False
        self.disabled = True

    def _require_available(self) -> None:
        if not self.available:
            raise DisabledError(f"{type(self).__name__} is closed: make a new one")

    def _require_enabled(self) -> None:
        self._require_available()
        if self.disabled:
            raise DisabledError(
                f"{type(self).__name__} is disabled here: call it inside `with communicator.change_state(True)`"
            )
