"""Which operations a user's methods give, and which of their arguments those take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nccl_bench.catalog.collectives import COLLECTIVES, Placement
from nccl_bench.transports.device import Device
from nccl_bench.user_arms import signatures
from nccl_bench.user_arms.operations import FORMS, Binder, Operation, copying, exchange, fits, refuse_result

# Elements of the all-reduce that shows whether it returns its result. Some take multiples of 16 bytes only.
_TRIED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One operation of our protocol.

    ``options`` are those of its arguments that can be other than by default; ``copies`` says that it copies a result
    which the user's method returns.
    """

    call: Operation
    options: frozenset[str]
    copies: bool = False


def offers_of(methods: Mapping[str, Operation], binder: Binder, device: Device, private: Any) -> dict[str, Offer]:
    """What ``methods``, by their names, give.

    ``private`` is the stream that they run on, or ``None``. Collective: see ``_all_reduces``.
    """
    offers = _all_reduces(methods, binder, device, private)
    for name in ("all_gather", "reduce_scatter", "all_to_all", "broadcast", "reduce", "send_recv"):
        if (offer := _offer(name, methods.get(name), binder)) is not None:
            offers[name] = offer
    if "send_recv" not in offers and (exchanged := _exchange(methods, binder)) is not None:
        offers["send_recv"] = Offer(call=exchanged, options=frozenset())
    return offers


def _offer(name: str, method: Operation | None, binder: Binder) -> Offer | None:
    call = None if method is None else binder.bind(name, method)
    if method is None or call is None:
        return None
    return Offer(call=call, options=frozenset(binder.options(name, method)) & frozenset(FORMS[name].options))


def _all_reduces(methods: Mapping[str, Operation], binder: Binder, device: Device, private: Any) -> dict[str, Offer]:
    """The all-reduces in place and out of place.

    One with an argument for its output gives both. One without is tried, since its signature does not tell whether it
    works in place: collective. What it returns is copied into the output, on the stream where it ran.
    """

    def out_of_place(method: Operation, returns: bool) -> Offer | None:
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


def _returns(call: Operation, method: Operation, device: Device) -> bool:
    """Whether an all-reduce returns a new tensor; raises ``SetupError`` for anything but that, its own or ``None``."""
    if signatures.returns_nothing(method):
        return False
    tensor = torch.zeros(_TRIED, device=device.streams.device)
    device.streams.synchronize()
    result = call(tensor)
    device.streams.synchronize()
    if result is None or (isinstance(result, Tensor) and result.data_ptr() == tensor.data_ptr()):
        return False
    if not fits(result, tensor):
        refuse_result(call, result, tensor)
    return True


def _exchange(methods: Mapping[str, Operation], binder: Binder) -> Operation | None:
    send, recv = (_offer(name, methods.get(name), binder) for name in ("send", "recv"))
    start, end = methods.get("group_start"), methods.get("group_end")
    if send is None or recv is None or start is None or end is None:
        return None
    return exchange(start, send.call, recv.call, end)


def supported(offers: Mapping[str, Offer]) -> frozenset[tuple[str, Placement]]:
    """The collectives and placements that ``offers`` cover."""
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


def described(offers: Mapping[str, Offer]) -> str:
    """What the all-reduces are, in words."""
    in_place, out_of_place = offers.get("all_reduce"), offers.get("outplace_all_reduce")
    if out_of_place is not None and out_of_place.copies:
        also = "" if in_place is None else "in place, or "
        return f"all_reduce {also}returning a new tensor, whose copy into the output is timed"
    places = [word for word, offer in (("in place", in_place), ("out of place", out_of_place)) if offer is not None]
    return f"all_reduce {' and '.join(places)}" if places else "no all_reduce"
