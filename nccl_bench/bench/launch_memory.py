"""The search for the best launch memory of streams and graphs, done in the same way for every arm.

CUDA puts each stream and each graph into a page of launch memory. A page has 2 MiB and holds roughly 11 streams, or
1,000 graph nodes. On 2x H200, some pages make every launch of their streams and graphs 0.1 to 0.3 us longer. An
all_reduce of 8 B took 6.1 or 6.4 us, depending on the stream. The same all_reduce took 5.6 or 5.75 us in a graph, and
7.9 to 8.9 us in a graph with a fork and a join. A fork and a join took 1 us longer if the private stream and the
caller's stream were on different hardware queues. The pages differ from process to process. Each arm is
measured in the best page that its rank has found, because the speed of a page says nothing about an arm.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch

from nccl_bench.arms.arm import Arm
from nccl_bench.arms.ordering import fork_join
from nccl_bench.bench.schedule import gate_length_s
from nccl_bench.bench.timing import Batch, Clock, no_operation
from nccl_bench.communicators.protocol import Operation
from nccl_bench.ranks.control import Control
from nccl_bench.streams.base import Graph, Streams

# Enough for the resolution of events: a batch of 32 launches shows a difference of 0.02 us per launch.
_LAUNCHES = 32
_BATCHES = 3
# A kernel with this many tensors has as many bytes of arguments as a kernel of NCCL, so both take equal launch memory.
_TENSORS = 100
# The number of pages to try. Roughly half of all pages are good, so a rank almost always finds a good page.
_PAGES = 8
# This many graph nodes (kernels) fill roughly one page of launch memory.
_BALLAST_NODES = 900
# Enough for the resolution of events: a batch of 64 operations shows a difference of 0.01 us per operation.
_REPLAYS = 2
# Every page gets one batch, and these pages, which were the fastest in it, get the other batches.
_FINALISTS = 4
# At most this many ranks search for the best page of graphs, one after the other. More ranks would take too long.
_MOST_RANKS = 8


class LaunchMemory:
    """The search for the best launch memory of one rank's streams and graphs."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._tensors = [torch.zeros(1, device=streams.device) for _ in range(_TENSORS)]
        self._spare = list(streams.spare_streams())
        # Kind of search -> the shortest and longest time in the first such search, in microseconds per operation.
        self._range_us: dict[str, tuple[float, float]] = {}

    def callers_stream(self) -> Any:
        """Return the spare stream on which launches are fastest, or a new stream if there is no spare stream."""
        if not self._spare:
            return self._streams.new_stream()
        return self._take_best("stream", lambda stream: (stream, self._kernel))

    def settle(self, arms: Iterable[Arm], caller: Any) -> None:
        """Give each movable arm the spare stream on which its fork and join with ``caller`` are fastest."""
        for arm in arms:
            if self._spare and arm.can_move:
                arm.move(self._take_best("fork and join", partial(self._fork_join, arm, caller)))

    def _fork_join(self, arm: Arm, caller: Any, private: Any) -> tuple[Any, Operation]:
        arm.move(private)
        return caller, arm.order(self._kernel_on(private))

    def second_stream(self, caller: Any) -> Any:
        """Return the spare stream on which a fork from ``caller`` and a join are fastest, or a new stream."""
        if not self._spare:
            return self._streams.new_stream()
        events = self._streams.new_event(), self._streams.new_event()

        def use(spare: Any) -> tuple[Any, Operation]:
            return caller, fork_join(self._kernel_on(spare), self._streams, spare, *events)

        return self._take_best("fork and join", use)

    def _kernel_on(self, stream: Any) -> Operation:
        def kernel() -> None:
            with self._streams.stream(stream):
                self._kernel()

        return kernel

    def _take_best(self, kind: str, use: Callable[[Any], tuple[Any, Operation]]) -> Any:
        """Take the spare stream with the fastest launches from the spare streams.

        ``use`` puts a spare stream to use. It returns the stream on which to time launches, and the launch.
        """
        gate_s, times_us = 0.0, []
        for spare in self._spare:
            stream, launch = use(spare)
            # Kernels on one rank are enough to compare streams. Such kernels need no other rank, and so no alignment.
            with self._streams.stream(stream):
                clock = Clock(self._streams, stream, no_operation)
                calls = [launch] * _LAUNCHES
                # A launch costs the host the same on every stream.
                gate_s = gate_s or _gate_s(clock, calls)
                times_us.append(_shortest_us(clock.gated(calls, gate_s) for _ in range(_BATCHES)))
        self._range_us.setdefault(kind, (min(times_us), max(times_us)))
        return self._spare.pop(times_us.index(min(times_us)))

    def _kernel(self) -> None:
        torch._foreach_add_(self._tensors, 0)

    def best_graphs(
        self,
        names: Sequence[str],
        capture: Callable[[str], Graph],
        operations: int,
        clock: Clock,
        control: Control,
        begin_choice: Callable[[], None],
    ) -> dict[str, Graph]:
        """Return a graph of ``operations`` operations for each of ``names``, all in the best page. Collective.

        Each page gets a graph of every arm, then a second graph of the first arm. If both graphs of the first arm are
        fast, all graphs of the page are fast. One rank at a time tries its pages, because ranks wait for each other
        while they measure. The other ranks use their best pages so far. Every rank tries its pages twice, because
        another rank in a slow page can hide differences in the first pass.
        ``begin_choice`` is called between the captures and the measurements.
        """
        pages: list[list[Graph]] = []
        ballast: list[Graph] = []
        for _ in range(_PAGES):
            pages.append([capture(name) for name in (*names, names[0])])
            ballast.append(self._streams.capture(self._fill_page))
        begin_choice()
        # The first replay of a graph takes longer than later ones.
        for graph in chain(*((page[0], page[-1]) for page in pages)):
            graph.replay()
        gate_s = _gate_s(clock, [pages[0][0].replay] * _REPLAYS)
        best = 0
        measure = partial(clock.graph, replays=_REPLAYS, operations=operations, gate_s=gate_s)
        for rank in 2 * list(range(min(control.world_size, _MOST_RANKS))):
            tried = pages if rank == control.rank else [pages[best]] * _PAGES
            fastest = self._fastest_page([(page[0], page[-1]) for page in tried], measure, control)
            if rank == control.rank:
                best = fastest
        self._streams.synchronize()
        chosen = pages.pop(best)
        for graph in chain(*pages, ballast, [chosen.pop()]):
            graph.reset()
        return dict(zip(names, chosen, strict=True))

    def _fastest_page(
        self, both_ends: Sequence[tuple[Graph, Graph]], measure: Callable[[Graph], Batch], control: Control
    ) -> int:
        """Return the index of the page whose slower end is fastest on the slowest rank. Collective."""
        # Page -> the shortest time of each end so far, in microseconds per operation.
        shortest_us = [[math.inf, math.inf] for _ in both_ends]
        pages = list(range(len(both_ends)))
        # A slow batch of a fast page costs the page its other batches. Then another fast page is chosen.
        for batches in (1, _BATCHES - 1):
            for page in pages:
                for end, graph in enumerate(both_ends[page]):
                    time_us = _shortest_us(measure(graph) for _ in range(batches))
                    shortest_us[page][end] = min(shortest_us[page][end], time_us)
            # The maxima are the same on all ranks, so all ranks choose the same pages.
            slowest_us = control.maximum([max(shortest_us[page]) for page in pages])
            # Keep the times of the first batch, because later batches measure only the fastest pages.
            self._range_us.setdefault("graph", (min(slowest_us), max(slowest_us)))
            pages = [page for _, page in sorted(zip(slowest_us, pages, strict=True))[:_FINALISTS]]
        return pages[0]

    def _fill_page(self) -> None:
        for _ in range(_BALLAST_NODES):
            self._kernel()

    def describe(self) -> Mapping[str, Sequence[float]]:
        """Return the shortest and longest time in the first search of each kind, in microseconds per operation."""
        return {kind: [round(time_us, 3) for time_us in ends] for kind, ends in self._range_us.items()}


def _gate_s(clock: Clock, calls: Sequence[Operation]) -> float:
    """Return the length in seconds of a gate for ``calls``. Make the calls twice to measure their cost."""
    return gate_length_s(min(clock.call_cost_us(calls) for _ in range(2)) * len(calls))


def _shortest_us(batches: Iterable[Batch]) -> float:
    # Noise and a gate that opens early can make a launch look longer, never shorter.
    return min(batch.time_us for batch in batches)
