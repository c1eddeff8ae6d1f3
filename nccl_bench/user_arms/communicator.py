"""A user's object as a communicator with our protocol, for use by an arm."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.arms import Order
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement, RedOp
from nccl_bench.communicators.base import ArmCommunicator
from nccl_bench.communicators.protocol import Operation
from nccl_bench.config.user_arms import Adapter
from nccl_bench.errors import InvalidArgumentError, SetupError
from nccl_bench.transports.device import Device
from nccl_bench.transports.gloo_operations import TORCH_REDOPS
from nccl_bench.user_arms import adapting, contexts, signatures
from nccl_bench.user_arms.making import end_of, make, methods_of, switch_on
from nccl_bench.user_arms.offers import collective_of, describe_all_reduces, offers_of, supported_placements
from nccl_bench.user_arms.operations import FORMS, PROTOCOL_OPERATIONS, Binder
from nccl_bench.user_arms.results import placement_of, refuse_unlike


class UserCommunicator(ArmCommunicator):
    """A user's object with the operations of our protocol. Each operation is an attribute.

    The attribute is the user's own method if the method takes our arguments. An operation that the object does not have
    raises ``InvalidArgumentError``.
    """

    all_reduce: Callable[..., None]
    outplace_all_reduce: Callable[..., Tensor]
    all_gather: Callable[..., None]
    reduce_scatter: Callable[..., None]
    all_to_all: Callable[..., None]
    broadcast: Callable[..., None]
    reduce: Callable[..., None]
    send_recv: Callable[..., None]
    change_state: Callable[..., Any]
    graph_capture: Callable[[], AbstractContextManager[Any]]
    close: Callable[[], None]  # the function that disables the object, and ends it if the object can be ended
    may_share_stream = True  # the user decides which communicators share a stream

    def __init__(
        self,
        value: object,
        group: dist.ProcessGroup,
        device: Device,
        *,
        adapter: Adapter | None = None,
        order: Order | None = None,
        where: str = "",
    ) -> None:
        """Make the object from ``value``: a class or function that makes it, a ready object, or an all-reduce.

        ``adapter`` and ``order`` follow from the object if they are ``None``. ``where`` is the file and line of the
        definition of ``value``. Collective, for two reasons: the user's constructor can be collective, and an
        all-reduce is called once if its signature does not show whether it returns a new tensor. Raises ``SetupError``
        if ``value`` does not fit. Exceptions of the user's code propagate.
        """
        self.rank = dist.get_rank(group)
        self.world_size = dist.get_world_size(group)
        self.where = where
        self._streams = device.streams
        with ExitStack() as closing:
            user_object, origin = make(value, group, device, adapter)
            self.ready = user_object is value  # True if the object is not the arm's own; then the arm must not end it
            end = None if self.ready else end_of(user_object)
            if end is not None:
                closing.callback(end)
            elif self.ready:
                self.reason_not_ended = "the object existed before the arm, so closing the arm does not end it"
            else:
                self.how_ended = "dropped, because the object has no close(), destroy() or shutdown()"
            self.adapter = adapting.choose_adapter(user_object, adapter)
            switch_on(user_object, self.world_size, closing)
            methods = {"all_reduce": user_object} if self.adapter is Adapter.CALLABLE else methods_of(user_object)
            private, self.order = adapting.choose_order(user_object, order)
            self.stream = None if self.order is Order.CURRENT else private
            current, calls = adapting.choose_stream_argument(methods, private, self.order, device)
            ours = (adapting.vocabulary_of(methods) or self.adapter) is Adapter.PROTOCOL
            binder = Binder(redops=None if ours else TORCH_REDOPS, current=current)
            offers = offers_of(methods, binder, device)
            if not offers:
                got = ", ".join(signatures.signature_text(method) for method in methods.values())
                raise SetupError(
                    f"the {self.adapter} adapter needs one of {adapting.WANTED}, with these arguments, and got {got}"
                )
            self.close = closing.pop_all().close
        self.untraced_path = f"{where}, {self.order}"
        self.description = f"{self.adapter}: {origin}, {describe_all_reduces(offers)}, {calls}"
        self.supported = supported_placements(offers)
        # The collectives whose reduction is always a sum.
        self.only_sums = frozenset(
            collective_of(name)
            for name, offer in offers.items()
            if "op" in FORMS[name].options and "op" not in offer.options
        )
        # The collectives whose blocks can have different sizes.
        self.takes_sizes = frozenset(name for name, offer in offers.items() if "sizes" in offer.options)
        self.change_state = getattr(user_object, "change_state", partial(_refuse, user_object, "change_state"))
        self.graph_capture = partial(contexts.graph_capture, user_object)
        self._windows = contexts.window_registration(user_object)
        # The collectives whose method is called the same way in place and returning. Its result shows the placement.
        self._shown_by_result = frozenset(collective_of(name) for name, offer in offers.items() if not offer.placements)
        for name in PROTOCOL_OPERATIONS:
            setattr(self, name, partial(_refuse, user_object, name))
        for name, offer in offers.items():
            setattr(self, name, offer.call)

    def prepare(self, operation: Operation) -> Operation:
        """Return ``operation`` or, if the device needs ``Streams.submit``, a function that submits ``operation``."""
        if self.order is Order.CURRENT and not self._streams.follows:
            return partial(self._streams.submit, operation)
        return operation

    def supports(self, case: Case) -> bool:
        """Return whether the object has the collective of ``case``, in its placement and with its reduction."""
        sums = case.redop in (None, RedOp.SUM) or case.collective not in self.only_sums
        return sums and (case.collective, case.placement) in self.supported

    def able(self, case: Case, placements: Sequence[Placement]) -> tuple[Placement, ...]:
        """Return those of ``placements`` in which the object can run ``case``, in the object's own order."""
        own = [placement for collective, placement in self.supported if collective == case.collective]
        return tuple(each for each in own if each in placements and self.supports(replace(case, placement=each)))

    def examine(self, case: Case, result: object, input: Tensor, output: Tensor | None) -> Placement:
        name, placement = case.collective, case.placement
        shown = name in self._shown_by_result
        examined = placement is Placement.RETURNED or (shown and placement is Placement.IN_PLACE)
        if output is None or not examined:
            return placement
        call = self.returning(name)
        if shown:
            return placement_of(call, result, input, output)
        refuse_unlike(call, result, input, output)
        return placement

    def has_exchange(self, name: str) -> bool:
        """Return whether the object can run the exchange ``name`` of ``verify.exchanges``."""
        if name.endswith("v"):
            return name.removesuffix("v") in self.takes_sizes
        collective = collective_of(name)
        placements = [placement for supported, placement in self.supported if supported == collective]
        if name == f"return_{collective}":
            return placements == [Placement.RETURNED]
        return (Placement.IN_PLACE if name == "all_reduce" else Placement.OUT_OF_PLACE) in placements

    def registration(self, window: bool) -> tuple[Callable[[int, int], Any], Callable[[Any], object]] | None:
        return self._windows if window else None

    def close_deadline_s(self, timeout_s: float) -> float:
        """Return ``timeout_s``: a hang in the user's ``close`` is reported as early as a hang in an operation."""
        return timeout_s

    def describe(self) -> dict[str, object]:
        """Return the communicator's entry in ``run.json``."""
        return {
            "where": self.where,
            "adapter": self.adapter,
            "order": self.order,
            "described": self.description,
            "ready": self.ready,
            "supports": sorted(f"{collective} {placement}" for collective, placement in self.supported),
        }


def _refuse(user_object: object, name: str, *_arguments: object, **_options: object) -> NoReturn:
    raise InvalidArgumentError(f"{signatures.name_of(user_object)} has no {name} that the adapter could call")
