"""Features that only some users' objects have: a context for captures, windows, an all-gather on a given stream."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from nccl_bench.errors import SetupError
from nccl_bench.user_arms import signatures

# The names of the all-gather for context parallelism: of a group coordinator, then of a communicator.
ASYNC_GATHERS = ("cp_all_gather_into_tensor_async", "cp_all_gather_into_tensor")
# The methods that return the contexts which an engine enters before it captures a graph: of a communicator, of a group
# coordinator, of a custom all-reduce. An object can have several of these methods; the first is used.
_CAPTURES = ("graph_capture_context", "graph_capture", "capture")


@contextmanager
def graph_capture(user_object: Any) -> Iterator[Any]:
    """Prepare ``user_object`` for the capture of a graph, as its engine does. Collective, if its own method is.

    Yields the stream to capture on, or ``None`` if any stream is allowed. A custom all-reduce registers the buffers of
    the graph when its context ends. An object without a context can have ``register_graph_buffers()``, which is then
    called at the end. Raises ``SetupError`` if the object's method returns something else than contexts.
    """
    method = _method(user_object, _CAPTURES)
    given = None if method is None else method()
    contexts = [given] if given is not None and not isinstance(given, list | tuple) else given or []
    with ExitStack() as entered:
        stream = None
        for context in contexts:
            if not hasattr(context, "__enter__"):
                raise SetupError(
                    f"{signatures.name_of(method)}() returned a {type(context).__name__}: return a context manager, "
                    "a list of context managers, or None"
                )
            stream = _stream_of(entered.enter_context(context)) or stream
        yield stream
    if method is None and (register := _method(user_object, ("register_graph_buffers",))):
        register()


def window_registration(user_object: Any) -> tuple[Callable[[int, int], Any], Callable[[Any], object]] | None:
    """Return the functions of ``user_object`` that register and deregister a window; ``None`` if it has none.

    The first function takes a pointer and a size in bytes. It returns a handle, or ``None`` for a null handle.
    """
    register = getattr(user_object, "register_comm_window_raw", None)
    deregister = getattr(user_object, "deregister_comm_window", None)
    if not (callable(register) and callable(deregister)):
        return None
    return partial(_handle_of, register), deregister


def find_async_gather(user_object: Any) -> Callable[..., object] | None:
    """Return the method that gathers on a given stream, called with (output, input, stream); ``None`` without one."""
    methods = (getattr(user_object, name, None) for name in ASYNC_GATHERS)
    taking = (method for method in methods if callable(method) and signatures.takes(method, None, None, None))
    return next(taking, None)


def _handle_of(register: Callable[[int, int], Any], ptr: int, size: int) -> Any:
    handle = register(ptr, size)
    # The value of a ctypes pointer is None if it is null.
    return handle if getattr(handle, "value", handle) else None


def _method(user_object: Any, names: tuple[str, ...]) -> Callable[[], Any] | None:
    methods = (getattr(user_object, name, None) for name in names)
    return next((method for method in methods if callable(method) and signatures.takes(method)), None)


def _stream_of(given: Any) -> Any:
    """Return the stream that a context yielded: the value, or its attribute ``stream``; ``None`` without one."""
    candidates = (given, getattr(given, "stream", None))
    return next((candidate for candidate in candidates if hasattr(candidate, "wait_event")), None)
