"""A user's object as a communicator with our protocol, for use by an arm."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.arms import Order
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement, RedOp
from nccl_bench.communicators.base import ArmCommunicator
from nccl_bench.communicators.observations import Observation, Reply
from nccl_bench.communicators.protocol import Operation
from nccl_bench.config.user_arms import Adapter
from nccl_bench.errors import InvalidArgumentError, SetupError
from nccl_bench.transports.device import Device
from nccl_bench.transports.gloo_operations import TORCH_REDOPS
from nccl_bench.transports.nccl_library import loads_by_path
from nccl_bench.transports.torch_library import torch_library
from nccl_bench.user_arms import adapting, contexts, signatures
from nccl_bench.user_arms.binding import Binder, Binding
from nccl_bench.user_arms.blocks import ListCall
from nccl_bench.user_arms.forms import FORMS, PROTOCOL_OPERATIONS, Method, collective_of
from nccl_bench.user_arms.inquiries import Inquiries
from nccl_bench.user_arms.making import end_of, make, methods_of, switch_on
from nccl_bench.user_arms.offers import offers_of
from nccl_bench.user_arms.results import HandleForm, placement_of, refuse_unlike, unpack, waiting


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
        waiting_for: dict[str, HandleForm | None] | None = None,
    ) -> None:
        """Make the object from ``value``: a class or function that makes it, a ready object, or an all-reduce.

        ``adapter`` and ``order`` follow from the object if they are ``None``. ``where`` is the file and line of the
        definition of ``value``. ``waiting_for`` has the collectives whose calls return handles to wait for, as far as
        known; ``examine`` adds to it. Collective, for two reasons: the user's constructor can be collective, and an
        all-reduce is called once if its signature does not show whether it returns a new tensor. Raises ``SetupError``
        if ``value`` does not fit. Exceptions of the user's code propagate.
        """
        self.rank = dist.get_rank(group)
        self.world_size = dist.get_world_size(group)
        self.where = where
        self._streams = device.streams
        with ExitStack() as closing:
            with loads_by_path() as self._loaded:
                user_object, origin = make(value, group, device, adapter)
            self.ready = user_object is value  # True if the object existed before the arm, so the arm must not end it
            end = None if self.ready else end_of(user_object)
            if end is not None:
                closing.callback(end)
            elif self.ready:
                self.reason_not_ended = "the object existed before the arm, so closing the arm does not end it"
            else:
                self.is_dropped = True
            self.adapter = adapting.choose_adapter(user_object, adapter)
            switch_on(user_object, self.world_size, closing)
            methods = {"all_reduce": user_object} if self.adapter is Adapter.CALLABLE else methods_of(user_object)
            private, self.order = adapting.choose_order(user_object, order)
            self.stream = None if self.order is Order.CURRENT else private
            current, calls = adapting.choose_stream_argument(methods, private, self.order, device)
            ours = (adapting.vocabulary_of(methods) or self.adapter) is Adapter.PROTOCOL
            binder = Binder(
                redops=None if ours else TORCH_REDOPS, current=current, rank=self.rank, world_size=self.world_size
            )
            self._inquiries = Inquiries(user_object)
            offers = offers_of(methods, binder, self._inquiries, device)
            if not offers.by_name:
                got = ", ".join(signatures.signature_text(method) for method in methods.values())
                raise SetupError(
                    f"the {self.adapter} adapter needs one of {adapting.WANTED}, with these arguments, and got {got}"
                )
            self.close = closing.pop_all().close
        self.untraced_path = f"{where}, {self.order}"
        self.description = f"{self.adapter}: {origin}, {offers.description}, {calls}"
        self.supported = offers.supported
        self._offers = offers.by_name
        # The methods that have returned tensors, and the collectives whose calls return handles, as far as known.
        self._returning: list[Method] = []
        self._handles: dict[str, HandleForm | None] = {} if waiting_for is None else waiting_for
        self._misfits, self._lacking = offers.misfits, offers.lacking
        # The collectives whose reduction is always a sum.
        self.only_sums = frozenset(
            collective_of(name)
            for name, offer in offers.by_name.items()
            if "op" in FORMS[name].options and "op" not in offer.binding.options
        )
        # The collectives whose blocks can have different sizes.
        self.takes_sizes = frozenset(name for name, offer in offers.by_name.items() if "sizes" in offer.binding.options)
        self.change_state = getattr(user_object, "change_state", partial(_enable, user_object))
        self._async_gather = contexts.find_async_gather(user_object)
        if self._async_gather is None:
            self.reason_without_async_gather = f"the object has none of {', '.join(contexts.ASYNC_GATHERS)}"
        self.graph_capture = partial(contexts.graph_capture, user_object)
        self._windows = contexts.window_registration(user_object)
        # The collectives whose call is the same in place and returning: only the result shows the placement.
        self._shown_by_result = frozenset(
            collective_of(name) for name, offer in offers.by_name.items() if not offer.placements
        )
        for name in PROTOCOL_OPERATIONS:
            setattr(self, name, partial(_refuse, user_object, name))
        for name, offer in offers.by_name.items():
            setattr(self, name, offer.binding.call)
        for collective in self._handles:
            self._wait_in(collective)

    @property
    def async_gather(self) -> Callable[..., object] | None:
        """The object's own all-gather on a stream of the caller's choice."""
        return self._async_gather

    def prepare(self, operation: Operation) -> Operation:
        """Return ``operation`` or, if the device needs ``Streams.submit``, a function that submits ``operation``.

        Tensors that the user's method takes as lists of blocks are split here, and not in each call.
        """
        if isinstance(operation, partial) and isinstance(operation.func, ListCall):
            operation = operation.func.bind(*operation.args, **operation.keywords)
        if self.order is Order.CURRENT and not self._streams.follows:
            return partial(self._streams.submit, operation)
        return operation

    def supports(self, case: Case) -> bool:
        """Return whether the object has the collective of ``case``, in its placement and with its reduction."""
        sums = case.redop in (None, RedOp.SUM) or case.row.operation not in self.only_sums
        return sums and (case.collective, case.placement) in self.supported

    def able(self, case: Case, placements: Sequence[Placement]) -> tuple[Placement, ...]:
        """Return the ``placements`` in which the object can run ``case``, in the object's own order."""
        own = [placement for collective, placement in self.supported if collective == case.collective]
        return tuple(each for each in own if each in placements and self.supports(replace(case, placement=each)))

    def ask(self, case: Case, input: Tensor) -> Reply:
        return self._inquiries.ask(case.row.operation, input)

    def examine(self, case: Case, result: object, input: Tensor, output: Tensor | None) -> Placement | None:
        name, placement = case.row.operation, case.placement
        returned, handles = unpack(result)
        for handle in handles:
            handle.wait()
        if handles:  # the calls of this collective do not wait for handles yet
            self._handles[name] = HandleForm.of(result)
            self._wait_in(name)
        if output is None or returned is None:
            return placement if output is None else None
        shown = name in self._shown_by_result
        if placement is Placement.OUT_OF_PLACE or (placement is Placement.IN_PLACE and not shown):
            return placement
        seen: Placement | None = placement
        if shown:
            seen = placement_of(self.returning(name), returned, input, output)
        else:
            refuse_unlike(self.returning(name), returned, input, output)
        if seen is Placement.RETURNED and (method := self._binding(case).method) not in self._returning:
            self._returning.append(method)
        return seen

    def _wait_in(self, collective: str) -> None:
        """Make all calls of ``collective`` wait for the handles that they return."""
        wrap = partial(waiting, form=self._handles[collective])
        for name in self._operations_of(collective):
            call = getattr(self, name)
            setattr(self, name, call.around(wrap) if isinstance(call, ListCall) else wrap(call))

    def method_name(self, case: Case) -> str:
        return self._binding(case).text.partition("(")[0]

    def known(self, case: Case) -> frozenset[Observation]:
        binding = self._binding(case)
        if binding.returns or binding.method in self._returning:
            return frozenset({Observation.RETURNS})
        return frozenset() if binding.returns is None else frozenset({Observation.RETURNS_NOTHING})

    def _binding(self, case: Case) -> Binding:
        operation = case.row.operation
        names = {Placement.RETURNED: f"return_{operation}", Placement.OUT_OF_PLACE: f"outplace_{operation}"}
        name = names.get(case.placement, operation)
        return self._offers[name if name in self._offers else operation].binding

    def _operations_of(self, collective: str) -> list[str]:
        return [name for name in self._offers if collective_of(name) == collective]

    def has_exchange(self, name: str) -> bool:
        """Return whether the object can run the exchange ``name`` of ``verify.exchanges``."""
        if name.endswith("v"):
            return name.removesuffix("v") in self.takes_sizes
        collective = collective_of(name)
        placements = [placement for supported, placement in self.supported if supported == collective]
        if name == f"return_{collective}":
            # A caller uses this operation only if there is no other placement, or if a result or an answer decides.
            by_size = collective in self._shown_by_result or self._inquiries.concern(collective)
            return name in self._offers and (by_size or placements == [Placement.RETURNED])
        if name == "all_reduce":
            return name in self._offers
        return Placement.OUT_OF_PLACE in placements

    def registration(self, window: bool) -> tuple[Callable[[int, int], Any], Callable[[Any], object]] | None:
        return self._windows if window else None

    def libraries(self) -> list[str]:
        """Return the libnccl files that the object loaded by their paths; if there are none, the file that torch calls.

        An object that loads libnccl by name gets the file that torch calls.
        """
        of_torch = torch_library()
        return self._loaded or ([] if of_torch is None else [of_torch])

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
            "calls": {name: offer.binding.text for name, offer in self._offers.items()},
            "misfits": self._misfits,
            "lacking": self._lacking,
            "supports": sorted(f"{collective} {placement}" for collective, placement in self.supported),
        }


def _enable(user_object: object, enable: bool | None = None) -> AbstractContextManager[None]:
    """Replace ``change_state`` for an object without this method. Such an object is always enabled."""
    if not enable:
        _refuse(user_object, "change_state")
    return nullcontext()


def _refuse(user_object: object, name: str, *_arguments: object, **_options: object) -> NoReturn:
    raise InvalidArgumentError(f"{signatures.name_of(user_object)} has no {name} that the adapter could call")
