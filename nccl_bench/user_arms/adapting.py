"""The choices that follow from a user's object: its adapter, the order of its calls, and their stream argument.

The names and signatures of the object's methods decide; the object need not derive from any class of ours. It may have
the form of an engine's class, of ours, or of one function. Three things are looked for:

- the class of its reductions: our ``RedOp`` or torch's ``ReduceOp``;
- an argument ``stream`` of its calls;
- a private stream in its attribute ``stream``. A call without a stream runs there, unless ``use_current_stream`` is set
  on the object. If there is no private stream, the call runs on the current one.
"""

from collections.abc import Callable, Mapping
from typing import Any

from nccl_bench.catalog.arms import Order
from nccl_bench.config.user_arms import Adapter
from nccl_bench.errors import SetupError
from nccl_bench.transports.device import Device
from nccl_bench.user_arms import signatures
from nccl_bench.user_arms.making import methods_of
from nccl_bench.user_arms.operations import FORMS, Method

WANTED = ", ".join(f"{name}({', '.join(form.leading)})" for name, form in FORMS.items())


def choose_adapter(user_object: Any, adapter: Adapter | None) -> Adapter:
    """Return ``adapter``, or for ``None`` an adapter that fits. Raise ``SetupError`` if none fits ``user_object``."""
    name, methods = signatures.name_of(user_object), methods_of(user_object)
    words = vocabulary_of(methods)
    if adapter is None:
        if methods:
            return words or Adapter.PYNCCL
        if callable(user_object):
            return Adapter.CALLABLE
        has = ", ".join(name for name in dir(user_object) if not name.startswith("_")) or "nothing"
        raise SetupError(
            f"{name} fits no adapter: give an object with {WANTED}, or a function of one tensor; it has {has}"
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
    """Return the private stream where calls without a stream run, or ``None``; and the order of the calls.

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
    """Return the function that gives every call its stream, or ``None``; and a description of the calls."""
    if order is not Order.CURRENT:
        return None, "calls without a stream run on its private stream"
    if stream is None:
        return None, "calls without a stream run on the current stream"
    if not any("stream" in signatures.signature_of(method).parameters for method in methods.values()):
        # The object may fork to its private stream and join it within its calls.
        return None, "calls take no stream and must order its private stream themselves"
    return device.streams.current_stream, "every call gets the current stream"
