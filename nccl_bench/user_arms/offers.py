"""The operations that a user's methods can do, and the arguments that each method takes."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch

from nccl_bench.catalog.collectives import COLLECTIVES, Placement
from nccl_bench.transports.device import Device
from nccl_bench.user_arms import signatures
from nccl_bench.user_arms.operations import FORMS, PROTOCOL_OPERATIONS, Binder, Method, make_send_recv
from nccl_bench.user_arms.results import placement_of

# The number of elements in the all-reduce of `_returns`. Some implementations take only multiples of 16 bytes.
_TRIED_COUNT = 64
_WORDS: Mapping[Placement, str] = {
    Placement.IN_PLACE: "in place",
    Placement.OUT_OF_PLACE: "out of place",
    Placement.RETURNED: "returning a new tensor",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An operation of our protocol that a user's method can do."""

    call: Method  # the user's method, called as our protocol calls the operation
    options: frozenset[str] = frozenset()  # the operation's optional arguments that the method takes
    # The placements of the operation. None if the method's result shows the placement, and another one was seen.
    placements: tuple[Placement, ...] = ()


def offers_of(methods: Mapping[str, Method], binder: Binder, device: Device) -> dict[str, Offer]:
    """Return the operations that ``methods`` can do, by their names in ``FORMS``, the preferred ones first.

    Collective, because ``_returns`` can call an all-reduce.
    """
    offers = _all_reduces(methods, binder, device)
    for name in PROTOCOL_OPERATIONS:
        if collective_of(name) != "all_reduce" and (offer := _offer(name, methods.get(name), binder)) is not None:
            offers[name] = offer
    send, recv = (_offer(name, methods.get(name), binder) for name in ("send", "recv"))
    start, end = methods.get("group_start"), methods.get("group_end")
    if "send_recv" not in offers and send and recv and start and end:
        call = make_send_recv(start, send.call, recv.call, end)
        offers["send_recv"] = Offer(call=call, placements=_placements("send_recv", ()))
    return offers


def collective_of(name: str) -> str:
    """Return the collective of the operation ``name``."""
    return name.removeprefix("outplace_").removeprefix("return_")


def _offer(name: str, method: Method | None, binder: Binder) -> Offer | None:
    call = None if method is None else binder.bind(name, method)
    if method is None or call is None:
        return None
    options = frozenset(binder.options(name, method)) & frozenset(FORMS[name].options)
    return Offer(call=call, options=options, placements=_placements(name, options))


def _placements(name: str, options: Collection[str]) -> tuple[Placement, ...]:
    """Return the placements of the operation ``name`` with the optional arguments ``options``."""
    if name.startswith("return_"):
        return (Placement.RETURNED,)
    if name.startswith("outplace_"):
        return (Placement.OUT_OF_PLACE,)
    if name == "all_reduce" or ("out" in FORMS[name].options and "out" not in options):
        return (Placement.IN_PLACE,)
    placements = COLLECTIVES[name].placements if name in COLLECTIVES else ()
    return tuple(placement for placement in placements if placement is not Placement.RETURNED)


def _all_reduces(methods: Mapping[str, Method], binder: Binder, device: Device) -> dict[str, Offer]:
    """Return the all-reduces of every placement, the preferred one first."""
    offers: dict[str, Offer | None] = {}
    if (method := methods.get("all_reduce")) is not None:
        by_argument = "out" in binder.options("all_reduce", method)
        offers = (_by_argument if by_argument else _by_result)(method, binder, device)
    if (method := methods.get("outplace_all_reduce")) is not None:
        if "out" in binder.options("outplace_all_reduce", method):
            offers["outplace_all_reduce"] = _offer("outplace_all_reduce", method, binder)
        returning = offers.get("return_all_reduce")
        if returning is None or not returning.placements:
            offers["return_all_reduce"] = _offer("return_all_reduce", method, binder) or returning
    return {name: offer for name, offer in offers.items() if offer is not None}


def _by_argument(method: Method, binder: Binder, device: Device) -> dict[str, Offer | None]:
    """Return the all-reduces of a method with an output argument: it works in place and out of place.

    A method that returns a new tensor if it gets no output is preferably called so, as in its engine.
    """
    returning = _offer("return_all_reduce", method, binder)
    returns = returning is not None and _returns(returning.call, method, device)
    return {
        "return_all_reduce": returning if returns else None,
        "all_reduce": _offer("all_reduce", method, binder),
        "outplace_all_reduce": _offer("outplace_all_reduce", method, binder),
    }


def _by_result(method: Method, binder: Binder, device: Device) -> dict[str, Offer | None]:
    """Return the all-reduces of a method that gets one tensor: it works in place, or it returns a new tensor.

    The method is called the same way for both, and its result can be another one for another size.
    """
    in_place, returning = _offer("all_reduce", method, binder), _offer("return_all_reduce", method, binder)
    if in_place is None or returning is None:
        return {}
    if _returns(returning.call, method, device):
        return {"return_all_reduce": returning, "all_reduce": replace(in_place, placements=())}
    return {"all_reduce": in_place, "return_all_reduce": replace(returning, placements=())}


def _returns(call: Method, method: Method, device: Device) -> bool:
    """Return whether an all-reduce returns a new tensor. Its signature does not show this, so call it once."""
    if signatures.returns_nothing(method):
        return False
    tensor = torch.zeros(_TRIED_COUNT, device=device.streams.device)
    device.streams.synchronize()
    result = call(tensor)
    device.streams.synchronize()
    return placement_of(call, result, tensor, tensor) is Placement.RETURNED


def supported_placements(offers: Mapping[str, Offer]) -> tuple[tuple[str, Placement], ...]:
    """Return every pair of a collective and a placement that ``offers`` support, the preferred placements first."""
    pairs = ((collective_of(name), placement) for name, offer in offers.items() for placement in offer.placements)
    return tuple(dict.fromkeys(pairs))


def describe_all_reduces(offers: Mapping[str, Offer]) -> str:
    """Return a description of the all-reduces in ``offers``."""
    words = [_WORDS[placement] for name, placement in supported_placements(offers) if name == "all_reduce"]
    if len(words) > 1:
        words[-2:] = [f"{words[-2]} and {words[-1]}"]
    return f"all_reduce {', '.join(words)}" if words else "no all_reduce"
