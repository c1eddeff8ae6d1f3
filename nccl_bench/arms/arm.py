"""An arm at work: a communicator and the way its calls are ordered with the caller's stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.arms import ArmSpec, Order
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import RedOp
from nccl_bench.catalog.routes import ROUTES, Mode, Routes
from nccl_bench.communicators.bare_transport import RecordedCommunicator
from nccl_bench.communicators.base import Communicator
from nccl_bench.communicators.coordinator import GroupCoordinator, LegacyGroupCoordinator
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.over_transport import TransportCommunicator
from nccl_bench.communicators.registry import build
from nccl_bench.config.user_arms import UserArm, of_arm, spec_of
from nccl_bench.streams.base import Graph, Streams
from nccl_bench.transports.device import Device
from nccl_bench.user_arms.loaded import LoadedUserArm, bring

Operation = Callable[[], object]


def _all_reduce(comm: Communicator, case: Case, x: Tensor, y: Tensor) -> Operation:
    op = case.redop or RedOp.SUM
    return partial(comm.all_reduce, x, op) if y is x else partial(comm.outplace_all_reduce, x, y, op)


def _all_gather(comm: Communicator, case: Case, x: Tensor, y: Tensor) -> Operation:
    return partial(comm.all_gather, y, x)


def _reduce_scatter(comm: Communicator, case: Case, x: Tensor, y: Tensor) -> Operation:
    return partial(comm.reduce_scatter, y, x, case.redop or RedOp.SUM)


def _all_to_all(comm: Communicator, case: Case, x: Tensor, y: Tensor) -> Operation:
    return partial(comm.all_to_all, y, x)


def _broadcast(comm: Communicator, case: Case, x: Tensor, y: Tensor) -> Operation:
    return partial(comm.broadcast, x, case.root or 0, None if y is x else y)


def _reduce(comm: Communicator, case: Case, x: Tensor, y: Tensor) -> Operation:
    return partial(comm.reduce, x, case.root or 0, case.redop or RedOp.SUM, None if y is x else y)


def _send_recv(comm: Communicator, case: Case, x: Tensor, y: Tensor) -> Operation:
    return partial(comm.send_recv, y, x, (comm.rank + 1) % comm.world_size, (comm.rank - 1) % comm.world_size)


# One row per collective of the table: the communicator's operation from input `x` to output `y`, which are the same
# tensor where the collective is in place on the whole buffer.
OPERATIONS: Mapping[str, Callable[[Communicator, Case, Tensor, Tensor], Operation]] = {
    "all_reduce": _all_reduce,
    "all_gather": _all_gather,
    "reduce_scatter": _reduce_scatter,
    "all_to_all": _all_to_all,
    "broadcast": _broadcast,
    "reduce": _reduce,
    "send_recv": _send_recv,
}


# Which lie above the communicators: a coordinator has one, and torch.distributed beside it.
COORDINATORS: Mapping[str, type[GroupCoordinator]] = {
    "coordinator": GroupCoordinator,
    "coordinator-legacy": LegacyGroupCoordinator,
}


class Arm:
    """One arm on this rank, with a communicator that no other arm shares. Construction is collective.

    ``routes`` are those of an arm whose communicator is a coordinator; ``user_arms`` has the arms that are not ours.
    """

    def __init__(
        self,
        name: str,
        group: dist.ProcessGroup,
        device: Device,
        routes: Routes = ROUTES,
        user_arms: Sequence[UserArm] = (),
    ) -> None:
        self.spec: ArmSpec = spec_of(user_arms, name)
        self.name = name
        self.foreign: LoadedUserArm | None = None
        user_arm = of_arm(user_arms, name)
        coordinator = COORDINATORS.get(self.spec.communicator)
        self.communicator: Communicator
        if user_arm is not None and user_arm.transport is not None:
            device = device.over(user_arm.transport)
        if user_arm is not None and not user_arm.ours:
            self.foreign = foreign = bring(user_arm, group, device)
            self.communicator = foreign.communicator
            self.spec = replace(self.spec, order=foreign.order)
        elif coordinator is not None:
            self.communicator = coordinator(group, device, routes)
        else:
            self.communicator = build(self.spec.communicator, group, device)
        self._streams = device.streams
        self._transport = device.transport.name
        self._environment = (
            "" if user_arm is None else "".join(f", {k}={v}" for k, v in sorted(user_arm.variables.items()))
        )
        # Allocated once: what is timed records and waits, and makes no event.
        self._fork = device.streams.new_event()
        self._join = device.streams.new_event()

    def supports(self, case: Case) -> bool:
        """Whether the communicator can do ``case``; what ours cannot do is in the table."""
        return self.foreign is None or self.foreign.can(case)

    def bind(self, case: Case, x: Tensor, y: Tensor) -> Operation:
        """``case`` from input ``x`` to output ``y`` as one call, ordered as this arm orders it.

        Call it where the current stream is the one that the operation will be called on.
        """
        return self.order(OPERATIONS[case.collective](self.communicator, case, x, y))

    def order(self, operation: Operation) -> Operation:
        """``operation``, a call on this arm's communicator, ordered as this arm orders it; see ``bind``."""
        if isinstance(self.communicator, RecordedCommunicator):
            return self.communicator.record(operation)
        private = self.communicator.stream
        if self.foreign is not None and self.spec.order is Order.CURRENT and not self._streams.follows:
            # Plain code that knows nothing of the CPU's queues.
            return partial(self._streams.submit, operation)
        if private is None or self.spec.order is Order.BARE:
            return operation
        if self.spec.order is Order.WAIT_STREAM:
            return _wait_stream(operation, self._streams, private)
        return _fork_join(operation, self._streams, private, self._fork, self._join)

    def paths(self, case: Case, x: Tensor, y: Tensor) -> dict[Mode, str]:
        """What ``case`` from ``x`` to ``y`` runs, eagerly and in graphs: which calls, on which stream.

        The calls are made, and each is collective.
        """
        operation = OPERATIONS[case.collective](self.communicator, case, x, y)
        eager = self._path(operation)
        if not isinstance(self.communicator, GroupCoordinator):
            return dict.fromkeys(Mode, eager)
        with self.communicator.graph_capture():
            return {Mode.EAGER: eager, Mode.GRAPH: self._path(operation)}

    def _path(self, operation: Operation) -> str:
        carrier = self.carrier
        current = self._streams.current_handle(self._streams.index)
        if self.foreign is not None:
            self.order(operation)()
            return f"{self.foreign.where}, {self.spec.order}{self._environment}"
        if carrier is None:
            self.order(operation)()
            return _torch_path(self.spec.communicator == "process-group-async")
        # A recorded operation would call the transport past the communicator.
        ordered = operation if isinstance(carrier, RecordedCommunicator) else self.order(operation)
        with carrier.traced() as calls:
            ordered()
        if not calls:
            return _torch_path(asynchronous=False)
        where = "the current stream" if {handle for _, handle in calls} == {current} else "a private stream"
        order = "" if where == "the current stream" else f", {self.spec.order}"
        names = " and ".join(dict.fromkeys(name for name, _ in calls))
        return f"{self._transport} {names} on {where}{order}{self._environment}"

    @property
    def carrier(self) -> TransportCommunicator | None:
        """The communicator over a transport that it has, behind a coordinator too; ``None`` where it has none."""
        communicator = self.communicator
        carrier = communicator.communicator if isinstance(communicator, GroupCoordinator) else communicator
        return carrier if isinstance(carrier, TransportCommunicator) else None

    def private_streams(self) -> list[Any]:
        """The streams that the communicator keeps; a caller's stream that is one of them is ordered by accident."""
        communicator = self.communicator
        if isinstance(communicator, GroupCoordinator):
            return communicator.private_streams()
        return [] if communicator.stream is None else [communicator.stream]

    @property
    def can_move(self) -> bool:
        """Whether the communicator's private stream can be changed for another."""
        return isinstance(self.communicator, DedicatedStreamCommunicator)

    def move(self, stream: Any) -> None:
        """Give the communicator another private stream. What was ordered before has to be ordered anew."""
        assert isinstance(self.communicator, DedicatedStreamCommunicator)
        self.communicator.stream = stream

    def capture(self, body: Callable[[], None]) -> Graph:
        """A graph of what ``body`` enqueues, captured as this arm's users capture theirs."""
        if isinstance(self.communicator, GroupCoordinator):
            with self.communicator.graph_capture() as stream:
                return self._streams.capture(body, stream)
        return self._streams.capture(body)

    def close(self) -> None:
        """Close the communicator; graphs that captured it have to be reset before."""
        self.communicator.close()


def _fork_join(operation: Operation, streams: Streams, private: Any, fork: Any, join: Any) -> Operation:
    # Both arms fetch the current stream the same cheap way; the object behind the handle is one look-up away.
    current_handle, index, from_handle = streams.current_handle, streams.index, streams.from_handle

    def ordered() -> None:
        caller = from_handle(current_handle(index))
        fork.record(caller)
        fork.wait(private)
        operation()
        join.record(private)
        join.wait(caller)

    return ordered


def _torch_path(asynchronous: bool) -> str:
    return f"torch.distributed, {'asynchronous' if asynchronous else 'synchronous'}"


def _wait_stream(operation: Operation, streams: Streams, private: Any) -> Operation:
    current_stream = streams.current_stream

    def ordered() -> None:
        private.wait_stream(current_stream())
        operation()
        current_stream().wait_stream(private)

    return ordered
