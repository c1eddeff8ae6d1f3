"""``watch``: find races in the code of a ``with`` block."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch

from nccl_bench.audit.findings.record import WatchedSource
from nccl_bench.audit.order.order import Order
from nccl_bench.audit.order.races import Access, AccessMode, Race
from nccl_bench.audit.sources.base import Source, living
from nccl_bench.audit.sources.compiled import CompiledCodeSource
from nccl_bench.audit.sources.cpu_streams import CpuStreamsSource
from nccl_bench.audit.sources.cuda_streams import CudaStreamsSource
from nccl_bench.audit.sources.distributed import DistributedSource
from nccl_bench.audit.sources.feed import Feed
from nccl_bench.audit.sources.gloo_transport import GlooTransportSource
from nccl_bench.audit.sources.memory import Memory
from nccl_bench.audit.sources.model import DeviceModel, find_model
from nccl_bench.audit.sources.nccl4py import Nccl4pySource
from nccl_bench.audit.sources.nccl_ctypes import NcclCtypesSource
from nccl_bench.audit.sources.operators import Operators
from nccl_bench.audit.sources.ranges import Touched
from nccl_bench.audit.sources.stacks import Stack
from nccl_bench.audit.sources.threads import ThreadsSource
from nccl_bench.audit.sources.triton_kernels import TritonSource
from nccl_bench.audit.tally import Tally
from nccl_bench.errors import UsageError
from nccl_bench.streams import cpu


class Watch:
    """The findings of a watch. They can be read within the block and after it."""

    def __init__(self, model: DeviceModel) -> None:
        self.sources: tuple[WatchedSource, ...] = ()  # all sources, also those that are off
        self._model = model
        self._order = Order(confirms=_share_bytes)
        self._earlier: list[Race] = []  # the races before the latest pause
        self.tally = Tally(self._order.take)  # the actions that were judged so far, and the time for judging
        self._feed = Feed(self.tally.take)
        self._memory = Memory(self._feed, model)

    @property
    def races(self) -> tuple[Race, ...]:
        """Return each race once, with its count. Work that CPU streams have not done yet is not judged yet."""
        self._feed.flush()
        races: dict[Hashable, Race] = {}
        for race in (*self._earlier, *self._order.races):
            known = races.get(race.identity)
            races[race.identity] = race if known is None else replace(known, count=known.count + race.count)
        return tuple(races.values())

    @property
    def actions(self) -> int:
        """Return the number of actions that were judged: works, waits, allocations."""
        self._feed.flush()
        return self.tally.actions

    @property
    def remembered(self) -> int:
        """Return how much the order remembers: accesses, blocks of memory, clocks and the times in them."""
        return self._order.size

    @property
    def cost(self) -> float:
        """Return the factor by which the watch slowed the watched operators at least; 1.0 without operators.

        The factor leaves out the time between torch and the dispatch mode, some microseconds for each operator.
        """
        program = self._feed.program_ns
        return (program + self._feed.audit_ns) / program if program else 1.0

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Judge nothing within the ``with`` block, so that its code runs with little overhead.

        The device is synchronised before and after the block, because waits within the block are not seen.
        """
        self._model.synchronize()
        self._feed.flush()
        self._feed.is_open = False
        try:
            yield
        finally:
            self._model.synchronize()
            self._earlier += self._order.races
            self._order = Order(confirms=_share_bytes)
            self._memory.forget()
            self.tally.take_by(self._order.take)
            self._feed.restart()


def _share_bytes(first: Access, second: Access) -> bool:
    """Return whether two accesses really have bytes in common. Ranges that overlap can be spans with gaps."""
    if AccessMode.HAND_OUT in (first.mode, second.mode):
        return True
    touched = [access.work.where.touched for access in (first, second) if isinstance(access.work.where, Stack)]
    match touched:
        case [Touched() as one, Touched() as other] if one.has_spans or other.has_spans:
            return one.conflicts(other)
    return True


_running: list[Watch] = []


@contextmanager
def watch() -> Iterator[Watch]:
    """Find races in the ``with`` block: accesses to the same bytes that no stream, event or wait orders.

    The GPUs of this process are watched; without a GPU, the CPU and the streams of ``nccl_bench.streams.cpu``. The
    operators of the calling thread and of threads that start in the block are watched. Yields a ``Watch``.

    Raises ``UsageError`` within another watch of this process.
    """
    if _running:
        raise UsageError(
            "a watch is running in this process: use its result, or end it first. "
            "Under pytest --nccl-audit each test is watched: leave out this test with --deselect"
        )
    model = find_model()
    result = Watch(model)
    feed, memory = result._feed, result._memory
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
        CompiledCodeSource(),
        operators,
    )
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
                WatchedSource(name=source.name, sees=source.sees, blind_to=source.blind_to, reason_off=refusal)
            )
            if refusal is None:
                source.start()
                stack.callback(source.stop)
        result.sources = tuple(statuses)
        yield result
        cpu.drain()  # work that the CPU's streams still have is part of the block
        feed.flush()
