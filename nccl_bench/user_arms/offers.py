"""The operations that a user's methods can do, and the arguments that each method takes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nccl_bench.catalog.collectives import COLLECTIVES, Placement
from nccl_bench.transports.device import Device
from nccl_bench.user_arms import signatures
from nccl_bench.user_arms.operations import (
    FORMS,
    PROTOCOL_OPERATIONS,
    Binder,
    Method,
    check_result,
    copying,
    make_send_recv,
)

# The number of elements in the all-reduce of `_returns`. Some implementations take only multiples of 16 bytes.
_TRIED_COUNT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An operation of our protocol that a user's method can do."""

    call: Method  # the user's method, called as our protocol calls the operation
    options: frozenset[str] = frozenset()  # the operation's optional arguments that the method takes
    copies: bool = False  # True if the user's method returns a new tensor, which is then copied into the output


def offers_of(methods: Mapping[str, Method], binder: Binder, device: Device, private: Any) -> dict[str, Offer]:
    """Return the operations that ``methods`` can do; a key is the name in our protocol.

    ``private`` is the stream that the methods run on, or ``None`` for the current stream. Collective, because
    ``_returns`` can call an all-reduce.
    """
    offers = _all_reduces(methods, binder, device, private)
    for name in PROTOCOL_OPERATIONS:
        is_all_reduce = name.endswith("all_reduce")
        if not is_all_reduce and (offer := _offer(name, methods.get(name), binder)) is not None:
            offers[name] = offer
    send, recv = (_offer(name, methods.get(name), binder) for name in ("send", "recv"))
    start, end = methods.get("group_start"), methods.get("group_end")
    if "send_recv" not in offers and send and recv and start and end:
        offers["send_recv"] = Offer(call=make_send_recv(start, send.call, recv.call, end))
    return offers


def _offer(name: str, method: Method | None, binder: Binder) -> Offer | None:
    call = None if method is None else binder.bind(name, method)
    if method is None or call is None:
        return None
    return Offer(call=call, options=frozenset(binder.options(name, method)) & frozenset(FORMS[name].options))


def _all_reduces(methods: Mapping[str, Method], binder: Binder, device: Device, private: Any) -> dict[str, Offer]:
    """Return the all-reduces in place and out of place.

    A method with an output argument can do both. Any other method is called once, because the signature does not show
    whether the method works in place. A returned tensor is copied into the output on the method's stream.
    """

    def out_of_place(method: Method, returns: bool) -> Offer | None:
        if "out" in binder.options("all_reduce", method):
            return _offer("outplace_all_reduce", method, binder)
        returned = _offer("all_reduce", method, binder) if returns else None
        if returned is None:
            return None
        return replace(returned, call=copying(returned.call, device.streams, private), copies=True)

    offers: dict[str, Offer | None] = {}
    if (method := methods.get("all_reduce")) is not None:
        in_place = _offer("all_reduce", method, binder)
        has_output = "out" in binder.options("all_reduce", method)
        returns = in_place is not None and not has_output and _returns(in_place.call, method, device)
        offers = {
            "all_reduce": None if returns else in_place,
            "outplace_all_reduce": out_of_place(method, returns),
        }
    if (method := methods.get("outplace_all_reduce")) is not None:
        offers["outplace_all_reduce"] = out_of_place(method, returns=True) or offers.get("outplace_all_reduce")
    return {name: offer for name, offer in offers.items() if offer is not None}


def _returns(call: Method, method: Method, device: Device) -> bool:
    """Return whether an all-reduce returns a new tensor.

    Raises ``SetupError`` if the result is neither ``None`` nor a tensor like the input.
    """
    if signatures.returns_nothing(method):
        return False
    tensor = torch.zeros(_TRIED_COUNT, device=device.streams.device)
    device.streams.synchronize()
    result = call(tensor)
    device.streams.synchronize()
    if result is None or (isinstance(result, Tensor) and result.data_ptr() == tensor.data_ptr()):
        return False
    check_result(call, result, tensor)
    return True


def supported_placements(offers: Mapping[str, Offer]) -> frozenset[tuple[str, Placement]]:
    """Return every pair of a collective and a placement that ``offers`` support."""
    pairs = set()
    for name, offer in offers.items():
        if name == "all_reduce":
            pairs.add((name, Placement.IN_PLACE))
        elif name == "outplace_all_reduce":
            pairs.add(("all_reduce", Placement.OUT_OF_PLACE))
        elif "out" in FORMS[name].options and "out" not in offer.options:
            pairs.add((name, Placement.IN_PLACE))
        else:
            pairs |= {(name, placement) for placement in COLLECTIVES[name].placements}
    return frozenset(pairs)


def describe_all_reduces(offers: Mapping[str, Offer]) -> str:
    """Return a description of the all-reduces in ``offers``."""
    in_place, out_of_place = offers.get("all_reduce"), offers.get("outplace_all_reduce")
    if out_of_place is not None and out_of_place.copies:
        also = "" if in_place is None else "in place, or "
        return f"all_reduce {also}returning a new tensor, whose copy into the output is timed"
    places = [word for word, offer in (("in place", in_place), ("out of place", out_of_place)) if offer is not None]
    return f"all_reduce {' and '.join(places)}" if places else "no all_reduce"
