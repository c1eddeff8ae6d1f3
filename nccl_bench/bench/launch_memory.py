"""Where a device keeps what it launches, which is luck: the best place found, for every arm alike.

CUDA gives each stream and each graph a place in a page of launch memory (2 MiB: about 11 streams, or 1,000 nodes of
graphs). On 2x H200 some pages make every launch 0.1 to 0.3 us longer: an all_reduce of 8 B took 6.1 or 6.4 us on one
stream or another, and 5.6 or 5.75 us in one graph or another, 7.9 to 8.9 us with a fork and a join, for as long as
those lived. A private stream on another hardware queue than the caller's cost a fork and a join one more microsecond.
Which comes where changes from process to process. Arms that differ by it differ for no reason of theirs, so each is
measured in the best place that its rank found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch

from nccl_bench.arms.arm import Arm
from nccl_bench.bench.schedule import gate_length_s
from nccl_bench.bench.timing import Batch, Clock, Operation
from nccl_bench.ranks.control import Control
from nccl_bench.streams.base import Graph, Streams

_LAUNCHES = 64
_BATCHES = 3
# As many bytes of arguments as a kernel of NCCL's has, which take places up as those do.
_TENSORS = 100
# Half of the pages are good ones, so that a rank rarely finds none.
_PAGES = 8
# About what a page has room for.
_BALLAST_NODES = 900
_REPLAYS = 4
# Every rank's turns take as long as the first one's.
_MOST_RANKS = 8


class LaunchMemory:
    """Good places for the streams and the graphs of one rank.

    ``seen_us`` is, by kind of place, the best and the worst seen first, in microseconds per launch.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._tensors = [torch.zeros(1, device=streams.device) for _ in range(_TENSORS)]
        self._spare = list(streams.spare_streams())
        self.seen_us: dict[str, tuple[float, float]] = {}

    # -- streams -------------------------------------------------------------------------------------------------

    def callers_stream(self) -> Any:
        """The stream, of those that nobody was given, on which kernels start soonest; any where none is spare."""
        if not self._spare:
            return self._streams.new_stream()
        return self._take("stream", lambda stream: self._launch_us(stream, self._kernel))

    def settle(self, arms: Iterable[Arm], caller: Any) -> None:
        """Give each arm that lets its private stream be changed the one that ``caller`` forks to and joins soonest."""
        for arm in arms:
            if self._spare and arm.can_move:
                arm.move(self._take("fork and join", partial(self._fork_join_us, arm, caller)))

    def _take(self, what: str, launch_us: Callable[[Any], float]) -> Any:
        times_us = [launch_us(stream) for stream in self._spare]
        self._saw(what, times_us)
        return self._spare.pop(times_us.index(min(times_us)))

    def _fork_join_us(self, arm: Arm, caller: Any, private: Any) -> float:
        arm.move(private)

        def kernel() -> None:
            with self._streams.stream(private):
                self._kernel()

        return self._launch_us(caller, arm.order(kernel))

    def _launch_us(self, stream: Any, operation: Operation) -> float:
        # A kernel of this rank's own shows its streams' places; no collective is needed.
        with self._streams.stream(stream):
            clock = Clock(self._streams, stream, _nothing)
            calls = [operation] * _LAUNCHES
            gate_s = gate_length_s(clock.call_cost_us(calls) * _LAUNCHES)
            return _shortest(clock.gated(calls, gate_s) for _ in range(_BATCHES))

    def _kernel(self) -> None:
        torch._foreach_add_(self._tensors, 0)

    # -- graphs --------------------------------------------------------------------------------------------------

    def best_graphs(
        self,
        names: Sequence[str],
        capture: Callable[[str], Graph],
        operations: int,
        clock: Clock,
        control: Control,
        choosing: Callable[[], None],
    ) -> dict[str, Graph]:
        """Graphs of ``names``, of ``operations`` operations each, which lie in the best page of some. Collective.

        They are captured once for every page, the first of ``names`` once more at the end: where its two graphs lie
        well, so do those between them. Only what is measured shows a graph's page, and ranks wait for each other, so
        they try their pages in turn, each beside the best that the others have found, and then once more: what a slower
        rank hid shows when that one lies well. ``choosing`` is called before.
        """
        pages: list[list[Graph]] = []
        ballast: list[Graph] = []
        for _ in range(_PAGES):
            pages.append([capture(name) for name in (*names, names[0])])
            ballast.append(self._streams.capture(self._fill))
        choosing()
        best = 0
        for rank in 2 * list(range(min(control.world_size, _MOST_RANKS))):
            both_ends = [(page[0], page[-1]) for page in (pages if rank == control.rank else [pages[best]] * _PAGES)]
            times_us = [max(self._replay_us(clock, graph, operations) for graph in ends) for ends in both_ends]
            slowest_us = control.maximum(times_us)
            self._saw("graph", slowest_us)
            if rank == control.rank:
                best = slowest_us.index(min(slowest_us))
        self._streams.synchronize()
        chosen = pages.pop(best)
        for graph in chain(*pages, ballast, [chosen.pop()]):
            graph.reset()
        return dict(zip(names, chosen, strict=True))

    def _fill(self) -> None:
        for _ in range(_BALLAST_NODES):
            self._kernel()

    def _replay_us(self, clock: Clock, graph: Graph, operations: int) -> float:
        gate_s = gate_length_s(clock.call_cost_us([graph.replay] * _REPLAYS) * _REPLAYS)
        return _shortest(clock.graph(graph, _REPLAYS, operations, gate_s) for _ in range(_BATCHES))

    # -- the record ----------------------------------------------------------------------------------------------

    def _saw(self, what: str, times_us: Sequence[float]) -> None:
        self.seen_us.setdefault(what, (min(times_us), max(times_us)))

    def describe(self) -> Mapping[str, Sequence[float]]:
        """For the record: the best and the worst place of each kind, microseconds per launch."""
        return {what: [round(time_us, 3) for time_us in seen] for what, seen in self.seen_us.items()}


def _shortest(batches: Iterable[Batch]) -> float:
    """Nothing makes a launch faster than it is, an early gate least of all."""
    return min(batch.time_us for batch in batches)


def _nothing() -> None:
    """Nobody to be aligned with."""
