"""The search for places of streams and graphs, with good and bad places on a device whose time is simulated."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import torch

from nccl_bench.arms.arm import Arm
from nccl_bench.bench.launch_memory import LaunchMemory
from nccl_bench.bench.timing import Clock
from nccl_bench.ranks.control import Control
from nccl_bench.streams.base import Graph, Streams
from nccl_bench.streams.cpu_device import CpuStreams


@dataclass(eq=False)
class Stream:
    """A stream in a place where every launch takes ``launch_us``."""

    launch_us: float = 1.0
    queue: int = 0
    now_us: float = 0.0

    def synchronize(self) -> None:
        """Return at once."""


@dataclass(eq=False)
class Event:
    streams: PlacedStreams
    stream: Stream = field(default_factory=Stream)
    at_us: float = 0.0

    def record(self, stream: Stream) -> None:
        self.stream, self.at_us = stream, stream.now_us

    def wait(self, stream: Stream) -> None:
        stream.now_us = max(stream.now_us, self.at_us) + abs(stream.queue - self.stream.queue)

    def query(self) -> bool:
        return False

    def synchronize(self) -> None:
        """Return at once."""

    def elapsed_time(self, end: Event) -> float:
        return (end.at_us - self.at_us) / 1e3


@dataclass(eq=False)
class PlacedGraph:
    streams: PlacedStreams
    replay_us: float
    is_reset: bool = False
    replays: int = 0

    def replay(self) -> None:
        assert not self.is_reset
        self.replays += 1
        self.streams.current.now_us += self.replay_us

    def reset(self) -> None:
        self.is_reset = True


class PlacedStreams:
    """A device with ``spare`` streams; the time of a kernel depends on its stream's place."""

    device = torch.device("cpu")

    def __init__(self, spare: Sequence[Stream] = ()) -> None:
        self.spare = spare
        self.current = Stream()
        self.graphs: list[PlacedGraph] = []
        self.launches = 0

    def spare_streams(self) -> Sequence[Stream]:
        return self.spare

    def new_stream(self) -> Stream:
        return Stream()

    def new_event(self, *, timing: bool = False) -> Event:
        return Event(self)

    def current_stream(self) -> Stream:
        return self.current

    def synchronize(self) -> None:
        """Return at once."""

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    def hold(self, seconds: float) -> None:
        self.current.now_us += seconds * 1e6

    def launch(self, _tensors: object, _value: object) -> None:
        self.launches += 1
        self.current.now_us += self.current.launch_us

    def capture(self, body: Callable[[], None], _stream: object = None) -> PlacedGraph:
        return self.graph(1.0)

    def graph(self, replay_us: float) -> PlacedGraph:
        self.graphs.append(PlacedGraph(self, replay_us))
        return self.graphs[-1]


class ForkJoinArm:
    """An arm with a private stream; without ``can_move`` it keeps that stream."""

    def __init__(self, streams: PlacedStreams, can_move: bool = True) -> None:
        self.can_move = can_move
        self.private = Stream()
        self._streams = streams
        self._event = Event(streams)

    def move(self, stream: Stream) -> None:
        self.private = stream

    def order(self, operation: Callable[[], object]) -> Callable[[], None]:
        def ordered() -> None:
            caller = self._streams.current
            self._event.record(caller)
            self._event.wait(self.private)
            operation()
            self._event.record(self.private)
            self._event.wait(caller)

        return ordered


class Ranks:
    """A control group of threads, each of which is a rank."""

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self._barrier = threading.Barrier(world_size)
        self._values: dict[int, Sequence[float]] = {}

    def maximum(self, rank: int, values: Sequence[float]) -> list[float]:
        self._values[rank] = values
        self._barrier.wait(10)
        slowest = [max(of_ranks) for of_ranks in zip(*self._values.values(), strict=True)]
        self._barrier.wait(10)
        return slowest


@dataclass(frozen=True)
class RankControl:
    ranks: Ranks
    rank: int

    @property
    def world_size(self) -> int:
        return self.ranks.world_size

    def maximum(self, values: Sequence[float]) -> list[float]:
        return self.ranks.maximum(self.rank, values)


def memory(streams: PlacedStreams, monkeypatch: pytest.MonkeyPatch) -> LaunchMemory:
    monkeypatch.setattr(torch, "_foreach_add_", streams.launch)
    return LaunchMemory(cast(Streams, streams))


def test_the_callers_stream_is_the_spare_stream_with_the_shortest_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    spare = [Stream(2.4), Stream(2.2), Stream(2.3)]
    streams = PlacedStreams(spare)
    launches = memory(streams, monkeypatch)
    assert launches.callers_stream() is spare[1]
    assert launches.describe() == {"stream": [2.2, 2.4]}
    # Three batches on each stream, and two batches on one of them, which show how long gates must be.
    assert streams.launches == (3 * len(spare) + 2) * 32


def test_each_arm_gets_its_own_stream_with_the_shortest_fork_and_join(monkeypatch: pytest.MonkeyPatch) -> None:
    # The third stream has a better page, but another hardware queue than the caller's.
    spare = [Stream(2.4), Stream(2.0), Stream(2.1, queue=1), Stream(2.2), Stream(2.3)]
    streams = PlacedStreams(spare)
    launches = memory(streams, monkeypatch)
    caller = launches.callers_stream()
    arms = [ForkJoinArm(streams), ForkJoinArm(streams, can_move=False), ForkJoinArm(streams)]
    kept = arms[1].private
    launches.settle(cast(list[Arm], arms), caller)
    assert [arm.private for arm in arms] == [spare[3], kept, spare[4]]
    assert launches.describe()["fork and join"] == [2.2, 4.1]


def test_without_spare_streams_the_callers_stream_is_new_and_arms_keep_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams = PlacedStreams()
    launches = memory(streams, monkeypatch)
    arm = ForkJoinArm(streams)
    private = arm.private
    caller = launches.callers_stream()
    assert isinstance(caller, Stream)
    launches.settle([cast(Arm, arm)], caller)
    assert arm.private is private
    assert launches.describe() == {}


def test_the_cpu_has_no_spare_streams() -> None:
    streams = CpuStreams()
    assert list(streams.spare_streams()) == []
    assert LaunchMemory(streams).callers_stream() is not streams.default_stream()


def best(
    pages: Sequence[tuple[float, float, float]], control: object
) -> tuple[list[float], PlacedStreams, dict[str, Graph]]:
    """Return the chosen graphs; a page is the times of the first graph, the second, and the first once more."""
    streams = PlacedStreams()
    launches = LaunchMemory(cast(Streams, streams))
    times = iter([time_us for page in pages for time_us in page])
    clock = Clock(cast(Streams, streams), streams.current, lambda: None)
    chosen = launches.best_graphs(
        ["forked", "plain"], lambda _name: streams.graph(next(times)), 1, clock, cast(Control, control), lambda: None
    )
    return [cast(PlacedGraph, graph).replay_us for graph in chosen.values()], streams, chosen


GOOD, BAD = (8.0, 5.0, 8.0), (9.0, 6.0, 9.0)
# The last graphs of this set are in the next page.
ACROSS = (7.9, 6.0, 9.0)


def test_only_the_graphs_of_the_best_page_are_kept() -> None:
    chosen, streams, graphs = best([BAD, BAD, ACROSS, BAD, GOOD, BAD, BAD, BAD], RankControl(Ranks(1), 0))
    assert chosen == [8.0, 5.0]
    assert list(graphs) == ["forked", "plain"]
    assert [graph for graph in streams.graphs if not graph.is_reset] == list(graphs.values())
    # Each rank tries both ends twice: of all pages in a batch of two replays, and of the four fastest in two batches
    # more. Each graph is replayed once before, and the first one in two batches more, which show how long gates last.
    ends, ends_of_four = 2 * 8, 2 * 4
    assert sum(graph.replays for graph in streams.graphs) == ends * (2 * 2 + 1) + ends_of_four * 2 * 2 * 2 + 2 * 2


def test_every_rank_finds_its_best_page_even_beside_a_slower_rank() -> None:
    ranks = Ranks(2)
    # While the second rank replays a bad page, it hides all differences of the first rank.
    slower = [tuple(time_us + 1 for time_us in page) for page in (BAD, BAD, BAD, GOOD, BAD, BAD, BAD, BAD)]
    faster = [(9.5, 6.0, 9.5)] * 6 + [GOOD] + [(9.5, 6.0, 9.5)]
    chosen: dict[int, list[float]] = {}

    def rank(number: int, pages: Any) -> None:
        chosen[number] = best(pages, RankControl(ranks, number))[0]

    threads = [threading.Thread(target=rank, args=each, daemon=True) for each in enumerate([faster, slower])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert chosen == {0: [8.0, 5.0], 1: [9.0, 6.0]}
