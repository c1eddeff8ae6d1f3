"""Communicators that others wrote, behind our protocol: in the shape of an engine's class, of ours, or one function.

What an object can do, and how it is called, is read off its methods' names and signatures; nothing has to derive from
anything. Three things are looked for: by which words it names reductions (``RedOp`` or torch's ``ReduceOp``), whether
its calls take a ``stream``, and whether it keeps a private one in its attribute ``stream``. Where it does, a call
without a stream runs there, unless its ``use_current_stream`` is set; where it does not, on the current one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch.distributed as dist

from nccl_bench.catalog.arms import Order
from nccl_bench.config.user_arms import Adapter
from nccl_bench.errors import SetupError
from nccl_bench.transports.device import Device
from nccl_bench.transports.gloo_operations import TORCH_REDOPS
from nccl_bench.user_arms import signatures
from nccl_bench.user_arms.communicator import UserCommunicator
from nccl_bench.user_arms.making import end_of, make, methods_of, switch_on
from nccl_bench.user_arms.offers import described, offers_of
from nccl_bench.user_arms.operations import FORMS, Binder, Operation

_WANTED = ", ".join(f"{name}({', '.join(form.leading)})" for name, form in FORMS.items())


def adapt(
    found: object, group: dist.ProcessGroup, device: Device, *, adapter: Adapter | None, order: Order | None
) -> UserCommunicator:
    """``found``, a class or function that makes a communicator, a ready one, or an all-reduce, as an arm needs it.

    ``adapter`` and ``order`` are found out where they are ``None``. Collective: making it may be, and an all-reduce
    whose signature does not tell what it returns is tried once. Raises ``SetupError`` for what does not fit, saying
    what was looked for, and whatever the user's code raises.
    """
    with ExitStack() as closing:
        made, origin = make(found, group, device, adapter)
        # What was ready may be another arm's too, and is not ours to end.
        ends = None if made is found else end_of(made)
        if ends is not None:
            closing.callback(ends)
        chosen = _choose(made, adapter)
        switch_on(made, dist.get_world_size(group), closing)
        methods = {"all_reduce": made} if chosen is Adapter.CALLABLE else methods_of(made)
        stream, order = _ordered(made, order)
        current, calls = _handing(methods, stream, order, device)
        ours = (_words(methods) or chosen) is Adapter.PROTOCOL
        binder = Binder(redops=None if ours else TORCH_REDOPS, current=current)
        private = None if order is Order.CURRENT else stream
        offers = offers_of(methods, binder, device, private)
        if not offers:
            has = ", ".join(signatures.written(method) for method in methods.values())
            raise SetupError(
                f"the {chosen} adapter looks for {_WANTED}, each to be called as it is here, and got {has}"
            )
        return UserCommunicator(
            made,
            group,
            device.streams,
            adapter=chosen,
            order=order,
            stream=private,
            offers=offers,
            close=closing.pop_all().close,
            ends=ends is not None,
            ready=made is found,
            description=f"{chosen}: {origin}, {described(offers)}, {calls}",
        )


def _choose(made: Any, adapter: Adapter | None) -> Adapter:
    who, methods = signatures.name_of(made), methods_of(made)
    words = _words(methods)
    if adapter is None:
        if methods:
            return words or Adapter.PYNCCL
        if callable(made):
            return Adapter.CALLABLE
        has = ", ".join(name for name in dir(made) if not name.startswith("_")) or "nothing"
        raise SetupError(f"{who} fits no adapter: looked for {_WANTED}, or a function of one tensor, and found {has}")
    if adapter is Adapter.CALLABLE:
        if not callable(made):
            raise SetupError(f"the callable adapter looks for a function of one tensor, and {who} cannot be called")
    elif not methods:
        raise SetupError(f"the {adapter} adapter looks for {_WANTED}, and {who} has none of these")
    elif words not in (None, adapter):
        kind = "nccl_bench's RedOp" if words is Adapter.PROTOCOL else "torch.distributed's ReduceOp"
        raise SetupError(f"the {adapter} adapter does not fit {who}, whose `op` is {kind}: use adapter={words}")
    return adapter


def _words(methods: Mapping[str, Operation]) -> Adapter | None:
    return next(filter(None, map(signatures.vocabulary, methods.values())), None)


def _ordered(made: Any, order: Order | None) -> tuple[Any, Order]:
    """The private stream that calls without a stream run on, if there is one, and the order."""
    stream = getattr(made, "stream", None)
    if not hasattr(stream, "wait_event") or getattr(made, "use_current_stream", False):
        stream = None
    if order is None:
        return stream, Order.CURRENT if stream is None else Order.FORK_JOIN
    if order is not Order.CURRENT and stream is None:
        raise SetupError(
            f"order={order} needs a private stream to order, and {signatures.name_of(made)} runs its calls on none "
            "(no stream in its attribute `stream`, or use_current_stream is set): use order=current"
        )
    return stream, order


def _handing(
    methods: Mapping[str, Operation], stream: Any, order: Order, device: Device
) -> tuple[Callable[[], Any] | None, str]:
    """Where the stream to hand to every call comes from, if one is handed, and how calls are made, in words."""
    if order is not Order.CURRENT:
        return None, "calls without a stream run on its private one"
    if stream is None:
        return None, "calls without a stream run on the current one"
    if not any("stream" in signatures.signature_of(method).parameters for method in methods.values()):
        # Its private stream may be its own affair, forked to and joined within its calls.
        return None, "calls take no stream, and have to order its private one themselves"
    return device.streams.current_stream, "the current stream handed to every call"
