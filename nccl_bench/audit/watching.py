"""``watch``: find races in the code of a ``with`` block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch

from nccl_bench.audit.order.order import Order
from nccl_bench.audit.order.races import Race
from nccl_bench.audit.sources.base import Source, SourceStatus, living
from nccl_bench.audit.sources.cpu_streams import CpuStreamsSource
from nccl_bench.audit.sources.cuda_streams import CudaStreamsSource
from nccl_bench.audit.sources.distributed import DistributedSource
from nccl_bench.audit.sources.feed import Feed
from nccl_bench.audit.sources.gloo_transport import GlooTransportSource
from nccl_bench.audit.sources.memory import Memory
from nccl_bench.audit.sources.model import find_model
from nccl_bench.audit.sources.nccl4py import Nccl4pySource
from nccl_bench.audit.sources.nccl_ctypes import NcclCtypesSource
from nccl_bench.audit.sources.operators import Operators
from nccl_bench.audit.sources.threads import ThreadsSource
from nccl_bench.audit.sources.triton_kernels import TritonSource
from nccl_bench.errors import UsageError
from nccl_bench.streams import cpu


class Watch:
    """What a watch has found. It can be read within the block and after it."""

    def __init__(self, order: Order, feed: Feed) -> None:
        self._order = order
        self._feed = feed
        self.sources: tuple[SourceStatus, ...] = ()  # all sources, also those that are off

    @property
    def races(self) -> tuple[Race, ...]:
        """Return each race once, with its count. Work that CPU streams have not done yet is not judged yet."""
        self._feed.flush()
        return self._order.races

    @property
    def actions(self) -> int:
        """Return the number of actions that were judged: works, waits, allocations."""
        self._feed.flush()
        return self._feed.actions


_running: list[Watch] = []


@contextmanager
def watch() -> Iterator[Watch]:
    """Find races in the ``with`` block: accesses to the same bytes that no stream, event or wait orders.

    The GPUs of this process are watched; without a GPU, the CPU and the streams of ``nccl_bench.streams.cpu``. The
    operators of the calling thread are watched, and those of threads that start in the block. Yields a ``Watch``.

    Raises ``UsageError`` within another watch of this process.
    """
    if _running:
        raise UsageError("a watch is running in this process: use its result, or end it first")
    order = Order()
    feed = Feed(order.take)
    model = find_model()
    memory = Memory(feed, model)
    operators = Operators(feed, model, memory)
    sources: Sequence[Source] = (
        CudaStreamsSource(feed, model, memory),
        CpuStreamsSource(feed, model, operators, memory),
        DistributedSource(feed, model, memory, operators),
        NcclCtypesSource(feed, model),
        Nccl4pySource(feed, model),
        GlooTransportSource(feed, model),
        TritonSource(feed, model, memory),
        ThreadsSource(feed, operators),
        operators,
    )
    result = Watch(order, feed)
    _running.append(result)
    statuses = []
    with ExitStack() as stack:
        stack.callback(_running.remove, result)
        stack.callback(setattr, feed, "is_open", False)
        for tensor in living(torch.Tensor):
            memory.note_existing(tensor)
        for source in sources:
            refusal = source.refusal()
            statuses.append(
                SourceStatus(name=source.name, sees=source.sees, blind_to=source.blind_to, reason_off=refusal)
            )
            if refusal is None:
                source.start()
                stack.callback(source.stop)
        result.sources = tuple(statuses)
        yield result
        cpu.drain()  # what the CPU's streams still do is part of the block
        feed.flush()
