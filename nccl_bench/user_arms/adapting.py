"""The choices that follow from a user's object: its adapter, the order of its calls, and the stream that a call gets.

The names and signatures of the object's methods decide; the object does not have to derive from a class of ours. The
object can have the methods of an engine's communicator or of our protocol, or be a function. The choices depend on:

- the class of reductions that the methods take: our ``RedOp`` or torch's ``ReduceOp``;
- an argument ``stream`` of the methods;
- a private stream in the object's attribute ``stream``. A call without a stream runs on the private stream. Without a
  private stream, or if the object sets ``use_current_stream``, the call runs on the current stream.
"""

from collections.abc import Callable, Mapping
from typing import Any

from nccl_bench.catalog.arms import Order
from nccl_bench.config.user_arms import Adapter
from nccl_bench.errors import SetupError
from nccl_bench.transports.device import Device
from nccl_bench.user_arms import signatures
from nccl_bench.user_arms.forms import HALVES, PROTOCOL_OPERATIONS, Method
from nccl_bench.user_arms.making import methods_of

_METHODS = {**PROTOCOL_OPERATIONS, **HALVES}
WANTED = ", ".join(f"{name}({', '.join(form.leading)})" for name, form in _METHODS.items())


def choose_adapter(user_object: Any, adapter: Adapter | None) -> Adapter:
    """Return ``adapter`` or, for ``None``, the adapter that fits. Raise ``SetupError`` if no adapter fits."""
    name, methods = signatures.name_of(user_object), methods_of(user_object)
    words = vocabulary_of(methods)
    if adapter is None:
        if methods:
            return words or Adapter.PYNCCL
        if callable(user_object):
            return Adapter.CALLABLE
        has = ", ".join(name for name in dir(user_object) if not name.startswith("_")) or "nothing"
        raise SetupError(
            f"{name} fits no adapter: give an object with {WANTED}, or a function of one tensor; the object has {has}"
        )
    if adapter is Adapter.CALLABLE:
        if not callable(user_object):
            raise SetupError(f"the callable adapter needs a function of one tensor, and {name} cannot be called")
    elif not methods:
        raise SetupError(f"the {adapter} adapter looks for {WANTED}, and {name} has none of these")
    elif words not in (None, adapter):
        kind = "nccl_bench's RedOp" if words is Adapter.PROTOCOL else "torch.distributed's ReduceOp"
        raise SetupError(f"the {adapter} adapter does not fit {name}, whose `op` is {kind}: use adapter={words}")
    return adapter


def vocabulary_of(methods: Mapping[str, Method]) -> Adapter | None:
    """Return the adapter whose class of reductions ``methods`` use, or ``None`` if no method shows the class."""
    return next(filter(None, map(signatures.vocabulary, methods.values())), None)


def choose_order(user_object: Any, order: Order | None) -> tuple[Any, Order]:
    """Return (1) the private stream on which calls without a stream run, or ``None``, and (2) the order of the calls.

    Raises ``SetupError`` if ``order`` needs a private stream and there is none.
    """
    stream = getattr(user_object, "stream", None)
    if not hasattr(stream, "wait_event") or getattr(user_object, "use_current_stream", False):
        stream = None
    if order is None:
        return stream, Order.CURRENT if stream is None else Order.FORK_JOIN
    if order is not Order.CURRENT and stream is None:
        raise SetupError(
            f"order={order} needs a private stream, and {signatures.name_of(user_object)} has none "
            "(no stream in its attribute `stream`, or use_current_stream is set): use order=current"
        )
    return stream, order


def choose_stream_argument(
    methods: Mapping[str, Method], stream: Any, order: Order, device: Device
) -> tuple[Callable[[], Any] | None, str]:
    """Return (1) a function that returns the stream for a call, or ``None``, and (2) a description of the calls."""
    if order is not Order.CURRENT:
        return None, "calls without a stream run on the object's private stream"
    if stream is None:
        return None, "calls without a stream run on the current stream"
    if not any("stream" in signatures.signature_of(method).parameters for method in methods.values()):
        # Each call of the object can fork to the private stream and join it.
        return None, "calls take no stream, so each call itself must fork to the object's private stream and join it"
    return device.streams.current_stream, "every call gets the current stream"
