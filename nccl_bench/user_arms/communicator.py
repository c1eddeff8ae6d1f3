"""A user's object behind our protocol, as an arm works with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn

import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.arms import Order
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement, RedOp
from nccl_bench.communicators.base import ArmCommunicator
from nccl_bench.config.user_arms import Adapter
from nccl_bench.errors import InvalidArgumentError
from nccl_bench.streams.base import Streams
from nccl_bench.user_arms import signatures
from nccl_bench.user_arms.offers import Offer, supported
from nccl_bench.user_arms.operations import FORMS, PROTOCOL_OPERATIONS, Operation


class UserCommunicator(ArmCommunicator):
    """A user's object with the operations of our protocol, each of them an attribute.

    The attribute is the user's own method where that can be called as ours. An operation that the object does not have
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
    close: Callable[[], None]

    def __init__(
        self,
        made: Any,
        group: dist.ProcessGroup,
        streams: Streams,
        *,
        adapter: Adapter,
        order: Order,
        stream: Any,
        offers: Mapping[str, Offer],
        close: Callable[[], None],
        ends: bool,
        ready: bool,
        description: str,
    ) -> None:
        self.rank = dist.get_rank(group)
        self.world_size = dist.get_world_size(group)
        self.adapter = adapter  # the convention that the object follows
        self.order = order  # how an arm orders its calls
        self.stream = stream  # the private stream that its calls run on; None where `order` is `current`
        self.close = close  # switches the object off, and ends it if `ends` is set
        self.ends = ends  # whether `close` ends the object: it was made here, and has a method for its end
        self.ready = ready  # whether the target named the object itself, so that two arms share it
        self.description = description  # one line on how it is called
        self.where = ""  # file and line of its definition
        self.supported = supported(offers)  # its collectives, each with a placement
        # The collectives whose reduction is always a sum.
        self.only_sums = frozenset(
            name.removeprefix("outplace_")
            for name, offer in offers.items()
            if "op" in FORMS[name].options and "op" not in offer.options
        )
        # The collectives whose blocks may differ in size.
        self.takes_sizes = frozenset(name for name, offer in offers.items() if "sizes" in offer.options)
        self.change_state = getattr(made, "change_state", partial(_refuse, made, "change_state"))
        for name in PROTOCOL_OPERATIONS:
            setattr(self, name, offers[name].call if name in offers else partial(_refuse, made, name))
        self._streams = streams

    @property
    def not_ended(self) -> str | None:
        """Why ``close`` does not end what the user's code made, or ``None``."""
        if self.ends:
            return None
        if self.ready:
            return "it was not made here, and so is not ended here either"
        return "it has no close(), destroy() or shutdown(), so nothing can end what it makes"

    @property
    def untraced_path(self) -> str:
        """The user's line, and the order of its calls."""
        return f"{self.where}, {self.order}"

    @property
    def exclusive_stream(self) -> None:
        """Nothing: which of its communicators share a stream is the user's choice."""

    def prepare(self, operation: Operation) -> Operation:
        """Return ``operation``, queued on the current stream where the user's code would not do that itself."""
        if self.order is Order.CURRENT and not self._streams.follows:
            return partial(self._streams.submit, operation)
        return operation

    def supports(self, case: Case) -> bool:
        """Return whether it has the collective of ``case``, in its placement and with its reduction."""
        sums = case.redop in (None, RedOp.SUM) or case.collective not in self.only_sums
        return sums and (case.collective, case.placement) in self.supported

    def has_exchange(self, name: str) -> bool:
        """Return whether it can do the exchange ``name`` of a verification."""
        if name.endswith("v"):
            return name.removesuffix("v") in self.takes_sizes
        placement = Placement.IN_PLACE if name == "all_reduce" else Placement.OUT_OF_PLACE
        return (name.removeprefix("outplace_"), placement) in self.supported

    def close_deadline_s(self, timeout_s: float) -> float:
        """Return ``timeout_s``: a user's code that hangs is found as early as in an operation."""
        return timeout_s

    def describe(self) -> dict[str, object]:
        """Return what the record says about it."""
        return {
            "where": self.where,
            "adapter": self.adapter,
            "order": self.order,
            "described": self.description,
            "ready": self.ready,
            "supports": sorted(f"{collective} {placement}" for collective, placement in self.supported),
        }


def _refuse(made: object, name: str, *_arguments: object, **_options: object) -> NoReturn:
    raise InvalidArgumentError(f"{signatures.name_of(made)} has no {name} that the adapter could call")
