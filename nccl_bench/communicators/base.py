"""The base classes of the arms' communicators: the methods that the ``Communicator`` protocol lacks, and the states.

A communicator is *available* from construction to ``close``. A communicator is *disabled* inside
``change_state(False)``. An operation on a disabled or closed communicator raises ``DisabledError`` and does not change
its output. Without an exception, the caller would read an output that was never written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from torch import Tensor

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.cost_parts import CostPart
from nccl_bench.communicators.observations import Observation, Reply
from nccl_bench.communicators.protocol import RETURNING_PREFIX, Communicator, Operation
from nccl_bench.errors import DisabledError, InvalidArgumentError
from nccl_bench.ranks.process import SETUP_TIMEOUT_S


class ArmCommunicator(Communicator):
    """The communicator of an arm: the protocol, and a method for everything else that differs between arms.

    The default methods fit a communicator that is not a user's, runs on the current stream and has no transport.
    """

    stream: Any = None
    stream_is_movable = False  # True if another private stream can be assigned to `stream`
    may_share_stream = False  # True if another arm is allowed to have the same private stream
    has_routes = False  # True if a table of routes chooses the backend of each operation, eager or in a CUDA graph
    untraced_path = "no transport"  # the description of a call for which `traced` records nothing
    reason_not_ended: str | None = None  # why the user's object does not end with the arm; None if it ends
    is_dropped = False  # True if the arm drops the user's object, because the object has no method that ends it
    reason_without_async_gather: str | None = None  # why there is no `async_gather`; None if there is one

    def private_streams(self) -> list[Any]:
        """Return the streams that this communicator keeps until it is closed."""
        return [] if self.stream is None else [self.stream]

    @property
    def inner(self) -> Any:
        """The object that calls the transport: for a coordinator its ``communicator``, otherwise this object."""
        return self

    @property
    def async_gather(self) -> Any:
        """The context-parallel all-gather, called with ``(output, input, stream)``; ``None`` if it does not exist."""
        return None

    def returning(self, collective: str) -> Callable[..., object]:
        """Return the operation that returns the output of ``collective`` as a new tensor.

        It takes the input and the arguments in ``communicators.protocol.RETURNING``. Raises ``InvalidArgumentError`` if
        the communicator has no such operation.
        """
        operation: Callable[..., object] | None = getattr(self, f"{RETURNING_PREFIX}{collective}", None)
        if operation is None:
            raise InvalidArgumentError(f"{type(self).__name__} has no {collective} that returns its output")
        return operation

    def ask(self, case: Case, input: Tensor) -> Reply:
        """Return whether the communicator takes a call of ``case`` with ``input``, and in which placements."""
        return Reply()

    def examine(self, case: Case, result: object, input: Tensor, output: Tensor | None) -> Placement | None:
        """Return the placement in which a call of ``case`` worked; ``result`` is what the call returned.

        ``output`` has the elements, data type and device of a right result; ``None`` if this rank gets no result. A
        user's call shows its placement only by what it returns. Return ``None`` if the call returned nothing: it has
        written into a tensor, or it has declined. Raises ``SetupError`` if ``result`` cannot be a result.
        """
        return case.placement

    def method_name(self, case: Case) -> str:
        """Return the name of the method that calls of ``case`` use."""
        return case.row.operation

    def known(self, case: Case) -> frozenset[Observation]:
        """Return ``RETURNS`` or ``RETURNS_NOTHING`` if this is known of the method of ``case``; else an empty set."""
        return frozenset()

    def prepare(self, operation: Operation) -> Operation:
        """Return the function that an arm calls to run ``operation``, which is a call on this communicator."""
        return operation

    def call_on(self, case: Case, x: Tensor, y: Tensor, side: Any) -> Operation | None:
        """Return the call of ``case`` that takes the stream ``side`` as an argument; ``None`` if it takes none."""
        return None

    def deferring(self) -> tuple[ArmCommunicator, Operation] | None:
        """Return this communicator with calls that do not wait, and a function that makes the current stream wait.

        ``None`` if the communicator has no way to wait for its calls later.
        """
        return None

    def cost_parts(self, operation: Operation) -> dict[CostPart, list[Operation]]:
        """Return the parts of ``operation``, a call on this communicator, as functions.

        A part is absent if it cannot run alone, or if the communicator does not have this part.
        """
        return {}

    def graph_capture(self) -> AbstractContextManager[Any]:
        """Prepare the capture of a CUDA graph. Yield the stream to capture on, or ``None`` if any stream is allowed."""
        return nullcontext()

    def registration(self, window: bool) -> tuple[Callable[[int, int], Any], Callable[[Any], object]] | None:
        """Return the functions that register and deregister memory of the transport; ``None`` if there are none.

        The first function takes a pointer and a size in bytes. It returns a handle, or ``None`` if the library answered
        with a null handle. The second function takes the handle. With ``window``, registration is collective.
        """
        return None

    def traced(self) -> AbstractContextManager[list[tuple[str, int]]]:
        """Record each call to the transport in a ``with`` block: the name of the call and the handle of its stream."""
        return nullcontext([])

    def libraries(self) -> list[str]:
        """Return the paths of the libnccl files that the communicator calls, the most important first; usually one."""
        return []

    def supports(self, case: Case) -> bool:
        """Return whether the communicator has the collective, the placement and the reduction of ``case``."""
        return True

    def able(self, case: Case, placements: Sequence[Placement]) -> tuple[Placement, ...]:
        """Return the ``placements`` in which the communicator can run ``case``, the preferred ones first."""
        return tuple(each for each in placements if self.supports(replace(case, placement=each)))

    def has_exchange(self, name: str) -> bool:
        """Return whether the communicator can run the exchange ``name`` of ``verify.exchanges``."""
        return not name.startswith(RETURNING_PREFIX) or hasattr(self, name)

    def close_deadline_s(self, timeout_s: float) -> float:
        """Return the limit for the time of ``close``, in seconds; ``timeout_s`` is the limit for an operation."""
        return SETUP_TIMEOUT_S

    def describe(self) -> dict[str, object]:
        """Return the entry of a user's communicator in ``run.json``; the entry of other communicators is empty."""
        return {}


class SwitchableCommunicator(ArmCommunicator):
    """A communicator that can be enabled and disabled. Each subclass calls ``_make_available`` in construction."""

    def __init__(self) -> None:
        self.available = False
        self.disabled = True

    @contextmanager
    def change_state(self, enable: bool | None = None) -> Iterator[None]:
        """Enable or disable the communicator in a ``with`` block; then restore the state, even after an exception."""
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
                f"{type(self).__name__} is disabled: call it inside `with communicator.change_state(True)`"
            )
