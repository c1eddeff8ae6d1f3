"""The operations that a user's methods can do, in every placement, and why a method cannot do an operation."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nccl_bench.catalog.collectives import COLLECTIVES, UNEVEN_FORMS, Placement
from nccl_bench.transports.device import Device
from nccl_bench.user_arms import signatures
from nccl_bench.user_arms.binding import Binder, Binding, Misfit
from nccl_bench.user_arms.forms import METHOD_NAMES, PROTOCOL_OPERATIONS, Method, collective_of
from nccl_bench.user_arms.inquiries import Inquiries
from nccl_bench.user_arms.results import placement_of, unpack

# The number of elements in the all-reduce that is tried. Some implementations take only multiples of 16 bytes.
_TRIED_COUNT = 64
_WORDS: Mapping[Placement, str] = {
    Placement.IN_PLACE: "in place",
    Placement.OUT_OF_PLACE: "out of place",
    Placement.RETURNED: "returning a new tensor",
}
# Methods that never work in place.
_RETURNING_METHODS = ("custom_all_reduce", "quick_all_reduce", "pcie_ipc_all_reduce", "outplace_all_reduce")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An operation of our protocol that a user's method can do."""

    binding: Binding  # the call of the method
    # The placements of the operation. Empty if a result decides the placement, and another placement is likely.
    placements: tuple[Placement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """The operations that a user's object can do."""

    by_name: Mapping[str, Offer]  # the operations, by their names in ``FORMS``, the preferred ones first
    misfits: Mapping[str, str]  # collective -> why the object's method cannot do it
    lacking: Mapping[str, str]  # collective -> which methods the object would need; only collectives without a method

    @property
    def supported(self) -> tuple[tuple[str, Placement], ...]:
        """Every pair of a collective and a placement, the preferred placements first."""
        items = self.by_name.items()
        pairs = [(collective_of(name), placement) for name, offer in items for placement in offer.placements]
        for name, base in UNEVEN_FORMS.items():
            if base in self.by_name and "sizes" in self.by_name[base].binding.options:
                placements = COLLECTIVES[name].placements
                pairs += [(name, placement) for placement in self.by_name[base].placements if placement in placements]
        return tuple(dict.fromkeys(pairs))

    @property
    def description(self) -> str:
        """A description of the all-reduces; if there are none, a list of the collectives."""
        words = [_WORDS[placement] for collective, placement in self.supported if collective == "all_reduce"]
        if len(words) > 1:
            words[-2:] = [f"{words[-2]} and {words[-1]}"]
        if not words:
            return f"only {', '.join(dict.fromkeys(map(collective_of, self.by_name)))}"
        return f"all_reduce {', '.join(words)}"


def offers_of(methods: Mapping[str, Method], binder: Binder, inquiries: Inquiries, device: Device) -> Offers:
    """Return the operations that ``methods`` can do.

    Collective, because an all-reduce is called once if its signature does not show whether it returns a new tensor.
    """
    maker = _Maker(methods, binder, inquiries, device)
    by_name = maker.all_reduces()
    for name in PROTOCOL_OPERATIONS:
        if collective_of(name) != "all_reduce":
            by_name |= maker.others(name)
    if "send_recv" not in by_name:
        by_name |= maker.send_recv()
    offered = {collective_of(name) for name in by_name}
    misfits = {collective: reason for collective, reason in maker.misfits.items() if collective not in offered}
    offers = Offers(by_name=by_name, misfits=misfits, lacking={})
    offered |= {collective for collective, _ in offers.supported}
    missing = [collective for collective in COLLECTIVES if collective not in offered | misfits.keys()]
    return replace(offers, lacking={each: _lacking_methods(each, offered) for each in missing})


def _lacking_methods(collective: str, offered: Collection[str]) -> str:
    """Return the reason why an object that can do the collectives ``offered`` cannot do ``collective``."""
    base = UNEVEN_FORMS.get(collective)
    if base is not None:
        return f"its {base} takes no sizes of the ranks' blocks" if base in offered else f"it has no {base}"
    names = METHOD_NAMES.get(collective, ())
    halves = ", or send and recv with group_start and group_end" if collective == "send_recv" else ""
    return f"it has no method {' or '.join(names)}{halves}"


class _Maker:
    """The maker of offers from the methods of one object."""

    def __init__(self, methods: Mapping[str, Method], binder: Binder, inquiries: Inquiries, device: Device) -> None:
        self._methods, self._binder, self._inquiries, self._device = methods, binder, inquiries, device
        self.misfits: dict[str, str] = {}

    def all_reduces(self) -> dict[str, Offer]:
        """Return the all-reduces of every placement, the preferred one first."""
        offers: dict[str, Offer] = {}
        for name in METHOD_NAMES["all_reduce"]:
            if not offers and name in self._methods:
                offers = self._all_reduces_of(self._methods[name])
        outplace = self._methods.get("outplace_all_reduce")
        if outplace is not None:
            outwards, returning = self._bind("outplace_all_reduce", outplace), self._bind("return_all_reduce", outplace)
            seen = offers.get("return_all_reduce")
            if returning is not None and (seen is None or not seen.placements):
                offers["return_all_reduce"] = Offer(binding=returning, placements=(Placement.RETURNED,))
            if outwards is not None and "out" in outwards.options:
                offers["outplace_all_reduce"] = Offer(binding=outwards, placements=(Placement.OUT_OF_PLACE,))
        return offers

    def _all_reduces_of(self, method: Method) -> dict[str, Offer]:
        in_place, returning = self._bind("all_reduce", method), self._bind("return_all_reduce", method)
        if in_place is None:
            return {}
        if in_place.gives_output or returning is None:
            offers: dict[str, Offer] = {}
            # The method works in place and out of place. If it can also return a new tensor, its engine uses that.
            if returning is not None and self._likely_placement(returning, method) is Placement.RETURNED:
                offers["return_all_reduce"] = Offer(binding=returning, placements=(Placement.RETURNED,))
            offers["all_reduce"] = Offer(binding=in_place, placements=(Placement.IN_PLACE,))
            if (outwards := self._bind("outplace_all_reduce", method)) is not None:
                offers["outplace_all_reduce"] = Offer(binding=outwards, placements=(Placement.OUT_OF_PLACE,))
            return offers
        if returning.returns is False:
            return {"all_reduce": Offer(binding=in_place, placements=(Placement.IN_PLACE,))}
        placements = self._allowed() if in_place.chooses_placement else {self._likely_placement(returning, method)}
        both = {"all_reduce": (in_place, Placement.IN_PLACE), "return_all_reduce": (returning, Placement.RETURNED)}
        made = {
            name: Offer(binding=binding, placements=(placement,) if placement in placements else ())
            for name, (binding, placement) in both.items()
        }
        return dict(sorted(made.items(), key=lambda item: not item[1].placements))

    def others(self, name: str) -> dict[str, Offer]:
        """Return the operation ``name``, and the operation that returns the output of ``name``."""
        offers: dict[str, Offer] = {}
        methods = [self._methods[each] for each in METHOD_NAMES[name] if each in self._methods]
        binding = self._best(self._bind(name, method) for method in methods)
        returning = self._best(self._bind(f"return_{name}", method) for method in methods)
        placements = [each for each in COLLECTIVES[name].placements if each is not Placement.RETURNED]
        # A method that gets one tensor works in place, unless its result is another tensor.
        one_tensor = "out" in PROTOCOL_OPERATIONS[name].options
        if binding is not None:
            if one_tensor and "out" not in binding.options:
                placements = [Placement.IN_PLACE]
            offers[name] = Offer(binding=binding, placements=tuple(placements))
        if returning is not None:
            offers[f"return_{name}"] = Offer(binding=returning, placements=() if one_tensor else (Placement.RETURNED,))
        return offers

    def send_recv(self) -> dict[str, Offer]:
        """Return the operation that ``send`` and ``recv`` do together."""
        start, send, recv, end = (self._methods.get(name) for name in ("group_start", "send", "recv", "group_end"))
        if start is None or send is None or recv is None or end is None:
            return {}
        sending, receiving = self._bind("send", send), self._bind("recv", recv)
        if sending is None or receiving is None:
            return {}
        call = _make_send_recv(start, sending.call, receiving.call, end)
        binding = replace(sending, call=call, text=f"{sending.text} and {receiving.text} in a group")
        return {"send_recv": Offer(binding=binding, placements=(Placement.OUT_OF_PLACE,))}

    def _bind(self, name: str, method: Method) -> Binding | None:
        binding = self._binder.bind(name, method)
        if isinstance(binding, Misfit):
            self.misfits.setdefault(collective_of(name), binding.reason)
            return None
        return binding

    def _best(self, bindings: Iterable[Binding | None]) -> Binding | None:
        """Return the first binding without lists; if all have lists, return the first one."""
        return min((each for each in bindings if each is not None), key=lambda each: each.has_lists, default=None)

    def _tried_tensor(self) -> Tensor:
        # The sum over several ranks differs from the value of every rank.
        rank = self._binder.rank
        return torch.full((_TRIED_COUNT,), float(rank + 1), device=self._device.streams.device)

    def _allowed(self) -> frozenset[Placement]:
        """Return the placements that the object allows for an all-reduce."""
        allowed = self._inquiries.ask("all_reduce", self._tried_tensor()).placements
        return frozenset(Placement) if allowed is None else allowed

    def _likely_placement(self, returning: Binding, method: Method) -> Placement:
        """Return the likely placement of an all-reduce. If its signature does not show it, call the method once."""
        if returning.returns is False:
            return Placement.IN_PLACE
        if (shown := self._placement_of_one_call(returning)) is not None:
            return shown
        name = signatures.name_of(method).rpartition(".")[2]
        return Placement.RETURNED if name in _RETURNING_METHODS or returning.returns else Placement.IN_PLACE

    def _placement_of_one_call(self, returning: Binding) -> Placement | None:
        """Return the placement that one call shows; ``None`` if the method does not take this call."""
        tensor = self._tried_tensor()
        before = tensor.clone()
        if self._inquiries.ask("all_reduce", tensor).declined is not None:
            return None
        self._device.streams.synchronize()
        try:
            output, handles = unpack(returning.call(tensor))
        except NotImplementedError:
            return None
        for handle in handles:
            handle.wait()
        self._device.streams.synchronize()
        placement = placement_of(returning.call, output, tensor, tensor)
        return Placement.IN_PLACE if placement is None and not torch.equal(tensor, before) else placement


def _make_send_recv(start: Method, send: Method, recv: Method, end: Method) -> Method:
    """Return a ``send_recv`` that calls ``send`` and ``recv`` within one group."""

    def send_recv(output: Tensor, input: Tensor, dst: int, src: int) -> None:
        start()
        try:
            send(input, dst)
            recv(output, src)
        finally:
            # An open group would hold back all later calls of this thread, even those of other arms.
            end()

    return send_recv
