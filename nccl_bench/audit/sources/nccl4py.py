"""NCCL through NVIDIA's nccl4py: the functions of the module ``nccl.bindings.nccl``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar

from nccl_bench.audit.sources.base import Replacements, Source
from nccl_bench.audit.sources.feed import Feed
from nccl_bench.audit.sources.model import DeviceModel
from nccl_bench.audit.sources.nccl_calls import CommFacts, NcclCalls

MODULE = "nccl.bindings.nccl"
# nccl4py's name -> the name in nccl.h. The arguments have the same order.
_NAMES: Mapping[str, str] = {
    "all_reduce": "ncclAllReduce",
    "broadcast": "ncclBroadcast",
    "bcast": "ncclBcast",
    "reduce": "ncclReduce",
    "all_gather": "ncclAllGather",
    "reduce_scatter": "ncclReduceScatter",
    "allto_all": "ncclAlltoAll",
    "gather": "ncclGather",
    "scatter": "ncclScatter",
    "send": "ncclSend",
    "recv": "ncclRecv",
    "group_start": "ncclGroupStart",
    "group_end": "ncclGroupEnd",
    "comm_destroy": "ncclCommDestroy",
    "comm_abort": "ncclCommAbort",
    "comm_finalize": "ncclCommFinalize",
}


class Nccl4pySource(Source):
    """Watches nccl4py's low-level functions, which its high-level classes call too."""

    name: ClassVar[str] = "nccl4py"
    sees: ClassVar[str] = "every call of nccl.bindings.nccl, and so of nccl.core"
    blind_to: ClassVar[tuple[str, ...]] = ("Functions that the program fetched from the module before the watch.",)

    def __init__(self, feed: Feed, model: DeviceModel) -> None:
        self._feed = feed
        self._calls = NcclCalls(feed, model)
        self._replacements = Replacements()
        self._is_on = False

    def refusal(self) -> str | None:
        try:
            import_module(MODULE)
        except ImportError as error:
            return f"nccl4py cannot be imported: {error}"
        return None

    def start(self) -> None:
        self._is_on = True
        module = sys.modules[MODULE]
        for name, function in _NAMES.items():
            self._replacements.replace(module, name, self._watched(module, function))
            self._replacements.replace(module, f"{name}_config", self._watched(module, f"{function}Config"))

    def stop(self) -> None:
        self._replacements.restore()
        self._is_on = False

    def _watched(self, module: Any, function: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def facts(comm: int) -> CommFacts:
            handle = module.Comm(comm)
            return CommFacts(rank=module.comm_user_rank(handle), world_size=module.comm_count(handle))

        def make(call: Callable[..., Any]) -> Callable[..., Any]:
            def watched(*args: Any) -> Any:
                # A program can keep this function, and call it after the watch.
                if not self._is_on:
                    return call(*args)
                with self._feed.hiding():
                    result = call(*args)
                self._calls.called(function, [_as_int(arg) for arg in args], facts)
                return result

            return watched

        return make


def _as_int(value: Any) -> int:
    """Return an argument as a plain int; 0 for a configuration, which nobody reads."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0
