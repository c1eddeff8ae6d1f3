"""An arm on one rank: a communicator, and how its calls are ordered with the caller's stream."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch.distributed as dist
from torch import Tensor

from nccl_bench.arms.ordering import fork_join, fork_join_parts, wait_stream, wait_stream_parts
from nccl_bench.arms.split import SplitCall, on_current_stream, on_stream, on_stream_waiting
from nccl_bench.catalog.arms import ArmSpec, Order
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.cost_parts import CostPart
from nccl_bench.catalog.routes import ROUTES, Mode, Routes
from nccl_bench.communicators.base import ArmCommunicator
from nccl_bench.communicators.protocol import CALLS, RETURNING, Operation
from nccl_bench.communicators.registry import build
from nccl_bench.config.user_arms import UserArm, spec_of, user_arm_of
from nccl_bench.errors import SetupError
from nccl_bench.streams.base import Graph
from nccl_bench.transports.device import Device
from nccl_bench.transports.nccl_library import SONAME
from nccl_bench.user_arms.building import build_user_arm


class Arm:
    """An arm on this rank, with a communicator of its own. Construction is collective.

    ``routes`` are used only if the communicator is a coordinator. ``user_arms`` are all user arms of the run.
    """

    def __init__(
        self,
        name: str,
        group: dist.ProcessGroup,
        device: Device,
        routes: Routes = ROUTES,
        user_arms: Sequence[UserArm] = (),
    ) -> None:
        self.name = name
        self.spec: ArmSpec = spec_of(user_arms, name)
        self.communicator: ArmCommunicator
        user_arm = user_arm_of(user_arms, name)
        if user_arm is not None and user_arm.transport is not None:
            device = device.over(user_arm.transport)
        if user_arm is not None and not user_arm.built_in:
            self.communicator = communicator = build_user_arm(user_arm, group, device)
            self.spec = replace(self.spec, order=communicator.order)
        else:
            self.communicator = build(self.spec.communicator, group, device, routes)
        self.streams = device.streams
        self._transport = device.transport.name
        if user_arm is not None and user_arm.library is not None:
            self._refuse_other_library(user_arm.library)
        settings = () if user_arm is None else user_arm.process_settings
        self._settings = "".join(f", {setting}" for setting in settings)
        # Make the events once, so that a timed call makes no events.
        self._fork = device.streams.new_event()
        self._join = device.streams.new_event()

    def _refuse_other_library(self, library: str) -> None:
        """Raise ``SetupError`` unless the communicator calls ``library``. Its processes loaded this file first."""
        called = dict.fromkeys(self.communicator.libraries())
        if {os.path.realpath(path) for path in called} != {os.path.realpath(library)}:
            self.communicator.close()
            raise SetupError(
                f"the arm {self.name} has the library {library}, but it calls {' and '.join(called) or 'another one'}: "
                f"leave the library out, or give a file with the soname {SONAME}"
            )

    def able(self, case: Case, placements: Sequence[Placement]) -> tuple[Placement, ...]:
        """Return the ``placements`` in which the arm can run ``case``, the preferred ones first.

        ``catalog.support`` has the limits of built-in arms.
        """
        return self.communicator.able(case, placements)

    def bind(
        self, case: Case, x: Tensor, y: Tensor | None, keep: Callable[[object], object] | None = None
    ) -> Operation:
        """Return a call that runs ``case`` from input ``x`` to output ``y``, ordered as this arm orders its calls.

        ``y`` is ``None`` if the call returns its output. With ``keep``, each call passes its result to ``keep``.
        The stream that is current now must also be current when the returned operation is called.
        """
        return self.order(_call(self.communicator, case, x, y, keep))

    def split(
        self, case: Case, x: Tensor, y: Tensor | None, side: Any, keep: Callable[[object], object] | None = None
    ) -> SplitCall:
        """Return the call of ``bind`` in three steps, so that the caller can enqueue other work beside the call.

        A communicator with a stream of its own uses that stream. Any other communicator is called on ``side``, a second
        stream of the caller. Its method takes ``side`` as an argument, or ``side`` is current during the call.
        """
        communicator, private = self.communicator, self.communicator.stream
        on_given = None if private is not None or y is None else communicator.call_on(case, x, y, side)
        if on_given is not None:
            call = communicator.prepare(on_given if keep is None else partial(_call_and_keep, on_given, keep))
            return on_stream(call, self.streams, side, self._fork, self._join)
        if private is not None:
            call = communicator.prepare(_call(communicator, case, x, y, keep))
            if self.spec.order is Order.WAIT_STREAM:
                return on_stream_waiting(call, self.streams, private)
            return on_stream(call, self.streams, private, self._fork, self._join)
        if deferring := communicator.deferring():
            without_wait, wait = deferring
            call = _call(without_wait, case, x, y, keep)
            return SplitCall(fork=_nothing, call=call, join=wait, stream=None)
        make_call = partial(_prepared, communicator, case, x, y, keep)
        return on_current_stream(make_call, self.streams, side, self._fork, self._join)

    def cost_parts(
        self, case: Case, x: Tensor, y: Tensor | None, keep: Callable[[object], object]
    ) -> dict[CostPart, list[Operation]]:
        """Return the parts of a call that can run alone, each as functions. The arguments are those of ``bind``.

        The library's call writes into the memory of the tensors that ``keep`` gets.
        """
        parts = self.communicator.cost_parts(_call(self.communicator, case, x, y, keep))
        for part, operation in self._parts_of_order().items():
            parts[part] = [operation, *parts.get(part, ())]
        return parts

    def _parts_of_order(self) -> dict[CostPart, Operation]:
        """Return the parts that the order of this arm adds to a call."""
        private = self.communicator.stream
        if private is None or self.spec.order is Order.BARE:
            return {}
        if self.spec.order is Order.WAIT_STREAM:
            return wait_stream_parts(self.streams, private)
        return fork_join_parts(self.streams, private, self._fork, self._join)

    def order(self, operation: Operation) -> Operation:
        """Return ``operation``, a call on this arm's communicator, ordered as this arm orders calls. See ``bind``."""
        operation = self.communicator.prepare(operation)
        private = self.communicator.stream
        if private is None or self.spec.order is Order.BARE:
            return operation
        if self.spec.order is Order.WAIT_STREAM:
            return wait_stream(operation, self.streams, private)
        return fork_join(operation, self.streams, private, self._fork, self._join)

    def paths(self, case: Case, x: Tensor, y: Tensor | None) -> dict[Mode, str]:
        """Run ``case``, and describe for each mode the calls that the arm makes and their stream. Collective."""
        eager = self._path(case, x, y)
        if not self.communicator.has_routes:
            return dict.fromkeys(Mode, eager)
        with self.communicator.graph_capture():
            return {Mode.EAGER: eager, Mode.GRAPH: self._path(case, x, y)}

    def _path(self, case: Case, x: Tensor, y: Tensor | None) -> str:
        current = self.streams.current_handle(self.streams.index)
        with self.communicator.traced() as calls:
            self.bind(case, x, y)()
        if not calls:
            return f"{self.communicator.untraced_path}{self._settings}"
        names = " and ".join(dict.fromkeys(name for name, _ in calls))
        is_current = {handle for _, handle in calls} == {current}
        stream = "the current stream" if is_current else f"a private stream, {self.spec.order}"
        return f"{self._transport} {names} on {stream}{self._settings}"

    def private_streams(self) -> list[Any]:
        """Return the communicator's private streams. If a caller uses such a stream, work is in order by accident."""
        return self.communicator.private_streams()

    @property
    def can_move(self) -> bool:
        """True if ``move`` can replace the communicator's private stream."""
        return self.communicator.stream_is_movable

    def move(self, stream: Any) -> None:
        """Give the communicator another private stream. After a move, call ``order`` again for every operation."""
        assert self.can_move
        self.communicator.stream = stream

    def capture(self, body: Callable[[], None]) -> Graph:
        """Return a graph of the work that ``body`` enqueues, captured inside the communicator's ``graph_capture``."""
        with self.communicator.graph_capture() as stream:
            return self.streams.capture(body, stream)

    def close(self) -> None:
        """Close the communicator. All graphs of the communicator's calls must already be reset."""
        self.communicator.close()


def _call(
    communicator: ArmCommunicator, case: Case, x: Tensor, y: Tensor | None, keep: Callable[[object], object] | None
) -> Operation:
    """Return the call of ``case`` on ``communicator``, without any order. See ``Arm.bind``."""
    name = case.collective
    if y is None:
        call: Operation = partial(communicator.returning(name), x, *RETURNING[name](communicator, case))
    else:
        call = CALLS[name](communicator, case, x, y)
    return call if keep is None else partial(_call_and_keep, call, keep)


def _prepared(
    communicator: ArmCommunicator, case: Case, x: Tensor, y: Tensor | None, keep: Callable[[object], object] | None
) -> Operation:
    return communicator.prepare(_call(communicator, case, x, y, keep))


def _nothing() -> None:
    """Do nothing: the library forks by itself."""


def _call_and_keep(call: Operation, keep: Callable[[object], object]) -> None:
    keep(call())
