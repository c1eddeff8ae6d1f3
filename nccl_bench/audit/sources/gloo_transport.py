"""The package's own transport over Gloo. Its transports over NCCL are watched where they call NCCL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from nccl_bench.audit.sources.base import Replacements, Source
from nccl_bench.audit.sources.feed import Feed
from nccl_bench.audit.sources.model import CpuModel, DeviceModel
from nccl_bench.audit.sources.nccl_calls import CommFacts, NcclCalls
from nccl_bench.transports.gloo import GlooTransport
from nccl_bench.transports.gloo_operations import TORCH_DTYPES

# Method -> the function of NCCL with the same arguments.
_METHODS: Mapping[str, str] = {
    "all_reduce": "ncclAllReduce",
    "all_gather": "ncclAllGather",
    "reduce_scatter": "ncclReduceScatter",
    "all_to_all": "ncclAlltoAll",
    "broadcast": "ncclBroadcast",
    "reduce": "ncclReduce",
    "send": "ncclSend",
    "recv": "ncclRecv",
    "group_start": "ncclGroupStart",
    "group_end": "ncclGroupEnd",
    "destroy": "ncclCommDestroy",
    "abort": "ncclCommAbort",
}


class GlooTransportSource(Source):
    """Watches ``transports.gloo``, which runs on the CPU's streams."""

    name: ClassVar[str] = "Gloo transport"
    sees: ClassVar[str] = "every collective of nccl_bench.transports.gloo, as a call of NCCL would be seen"
    blind_to: ClassVar[tuple[str, ...]] = ()

    def __init__(self, feed: Feed, model: DeviceModel) -> None:
        self._feed = feed
        self._model = model
        item_bytes = {number: dtype.itemsize for number, dtype in enumerate(TORCH_DTYPES)}
        self._calls = NcclCalls(feed, model, item_bytes)
        self._replacements = Replacements()

    def refusal(self) -> str | None:
        return None if isinstance(self._model, CpuModel) else "the GPUs' streams are watched"

    def start(self) -> None:
        for method, function in _METHODS.items():
            self._replacements.replace(GlooTransport, method, self._watched(function))

    def stop(self) -> None:
        self._replacements.restore()

    def _watched(self, function: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def make(call: Callable[..., Any]) -> Callable[..., Any]:
            def watched(transport: GlooTransport, *args: int) -> Any:
                def facts(comm: int) -> CommFacts:
                    gloo = transport._comms[comm]
                    return CommFacts(rank=gloo.rank, world_size=gloo.world_size)

                # Hide the events of the transport: `Order` has its own rule for the operations of one communicator.
                with self._feed.hiding():
                    result = call(transport, *args)
                if not self._feed.is_hiding:
                    self._calls.called(function, args, facts)
                return result

            return watched

        return make
