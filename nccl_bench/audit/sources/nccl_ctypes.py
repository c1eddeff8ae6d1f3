"""NCCL through ctypes, whoever loads it: PyNccl of SGLang and vLLM, this package, a script.

ctypes gives each library object a class for its functions. A ``__call__`` on that class sees every call of every
function of the library, also of functions that were fetched before the watch. After the watch the ``__call__`` is
removed, and calls cost no extra time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, ClassVar

from nccl_bench.audit.sources.base import Replacements, Source, living
from nccl_bench.audit.sources.feed import Feed
from nccl_bench.audit.sources.model import DeviceModel
from nccl_bench.audit.sources.nccl_calls import WATCHED, CommFacts, NcclCalls

_ACCEPTED = (0, 7)  # ncclSuccess, and ncclInProgress of a non-blocking communicator
_call_function: Callable[..., Any] = vars(ctypes)["_CFuncPtr"].__call__


class NcclCtypesSource(Source):
    """Watches the functions of each libnccl that ctypes has loaded or loads."""

    name: ClassVar[str] = "NCCL through ctypes"
    sees: ClassVar[str] = "every call of a function of libnccl that ctypes makes, with stream, buffers and group"
    blind_to: ClassVar[tuple[str, ...]] = (
        "Functions made with ctypes.CFUNCTYPE from an address or a tuple; calls through cffi or a C++ extension.",
        "One-sided calls (ncclPutSignal) and kernels that write into the memory of another process.",
        "Races that hide behind NCCL's own order: it runs the operations of one communicator one after another.",
    )

    def __init__(self, feed: Feed, model: DeviceModel) -> None:
        self._calls = NcclCalls(feed, model)
        self._replacements = Replacements()
        self._classes: list[Any] = []

    def refusal(self) -> str | None:
        return None

    def start(self) -> None:
        for library in living(ctypes.CDLL):
            if _has_nccl(library):
                self._watch(library)
        self._replacements.replace(ctypes.CDLL, "__getattr__", self._watched_lookup)
        self._replacements.replace(ctypes.CDLL, "__getitem__", self._watched_lookup)

    def stop(self) -> None:
        self._replacements.restore()
        for functions in self._classes:
            del functions.__call__
        self._classes.clear()

    def _watched_lookup(self, lookup: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def watched(library: Any, name: Any) -> Any:
            if isinstance(name, str) and name.startswith("nccl"):
                self._watch(library)
            return lookup(library, name)

        return watched

    def _watch(self, library: Any) -> None:
        """Put a ``__call__`` on the class of the library's functions, once."""
        functions = library._FuncPtr
        if "__call__" in vars(functions):
            return

        def facts(comm: int) -> CommFacts:
            return CommFacts(
                rank=_ask(library, "ncclCommUserRank", comm), world_size=_ask(library, "ncclCommCount", comm)
            )

        def watched_call(function: Any, *args: Any) -> Any:
            name = getattr(function, "__name__", None)
            if name not in WATCHED:
                return _call_function(function, *args)
            result = _call_function(function, *args)
            if _as_int(result) in _ACCEPTED:
                self._calls.called(name, [_as_int(arg) for arg in args], facts)
            return result

        functions.__call__ = watched_call
        self._classes.append(functions)


def _has_nccl(library: Any) -> bool:
    """Return whether code has fetched a function of NCCL from ``library``: it is then an attribute of ``library``."""
    return any(name.startswith("nccl") for name in vars(library))


def _ask(library: Any, function: str, comm: int) -> int:
    # Make a new function object: the program may have set other types on the library's own object.
    bound = library._FuncPtr((function, library))
    bound.argtypes, bound.restype = (ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)), ctypes.c_int
    answer = ctypes.c_int()
    bound(comm, ctypes.byref(answer))
    return answer.value


def _as_int(value: Any) -> int:
    """Return an argument of a call as a plain int: a null pointer is 0."""
    if value is None:
        return 0
    if isinstance(value, int):
        return int(value)
    if isinstance(value, ctypes._SimpleCData):
        return int(value.value or 0)
    if isinstance(value, ctypes._Pointer):
        return ctypes.cast(value, ctypes.c_void_p).value or 0
    return int(getattr(value, "_as_parameter_", 0))
