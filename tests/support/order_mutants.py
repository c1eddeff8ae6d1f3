"""The order with one of its rules left out, to see that tests notice it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """A change of one line of the order."""

    name: str  # the rule that is left out
    module: str  # the file in nccl_bench/audit/order
    line: str  # text of the file, there once
    instead: str

    def plant(self, directory: Path) -> None:
        """Change the file in ``directory``."""
        path = directory / f"{self.module}.py"
        source = path.read_text(encoding="utf-8")
        if source.count(self.line) != 1:
            raise ValueError(f"{self.name}: {self.line!r} is in {path.name} {source.count(self.line)} times, not once")
        path.write_text(source.replace(self.line, self.instead), encoding="utf-8")


MUTANTS = (
    Mutant(
        "a stream does not wait for its event",
        "clocks",
        "self._end(lane, joined(self.begin(thread, lane), self._marks.get(mark, START)))",
        "self._end(lane, self.begin(thread, lane))",
    ),
    Mutant(
        "an event keeps its first recording",
        "clocks",
        "        self._end(lane, clock)\n        self._marks[mark] = clock",
        "        self._end(lane, clock)\n        self._marks.setdefault(mark, clock)",
    ),
    Mutant(
        "an event that was destroyed still orders",
        "clocks",
        "self._marks.pop(mark, None)",
        "pass",
    ),
    Mutant(
        "work does not wait for what its thread waited for",
        "clocks",
        "clock = joined(self.knows(lane), self.knows(thread))",
        "clock = self.knows(lane)",
    ),
    Mutant(
        "a blocking stream does not wait for the default stream",
        "clocks",
        "clock = joined(clock, self._legacy.get(lane.stream.device, START))",
        "pass",
    ),
    Mutant(
        "the default stream does not wait for blocking streams",
        "clocks",
        "clock = joined(clock, self._lanes[other])",
        "pass",
    ),
    Mutant(
        "the default stream orders non-blocking streams too",
        "clocks",
        "other.stream is not None and other.stream.kind is StreamKind.BLOCKING",
        "other.stream is not None",
    ),
    Mutant(
        "the default stream orders other devices too",
        "clocks",
        "lane.stream is not None and lane.stream.device == device]",
        "lane.stream is not None]",
    ),
    Mutant(
        "collectives of one communicator are not ordered",
        "clocks",
        "before = joined(before, self._marks.get(after, START))",
        "pass",
    ),
    Mutant(
        "a wait for the device is no wait",
        "clocks",
        "self.learn(thread, self._lanes[lane])",
        "pass",
    ),
    Mutant(
        "all threads are one",
        "order",
        "        thread = self._threads.get(number)\n",
        "        number = 0\n        thread = self._threads.get(number)\n",
    ),
    Mutant(
        "an accidental wait counts",
        "order",
        "for clocks in (observed,) if observed else self._eager.all_clocks:",
        "for clocks in self._eager.all_clocks:",
    ),
    Mutant(
        "threads are never seen as one host",
        "order",
        "if len(self._threads) > 1:",
        "if False:",
    ),
    Mutant(
        "a stream with a used handle continues the old stream",
        "order",
        "self._streams.pop(action.stream, None)",
        "pass",
    ),
    Mutant(
        "inline work does not hold up its thread",
        "order",
        "if stream.kind is StreamKind.INLINE:\n            return thread",
        "if False:\n            return thread",
    ),
    Mutant(
        "a read hides an earlier write",
        "history",
        "if not ordered or (old.writes and not new.writes) or (by_host and old.moment.lane.stream):",
        "if not ordered:",
    ),
    Mutant(
        "a write does not hide what it follows",
        "history",
        "if not ordered or (old.writes and not new.writes) or (by_host and old.moment.lane.stream):",
        "if True:",
    ),
    Mutant(
        "an access of the host hides one of a stream from other threads",
        "history",
        " or (by_host and old.moment.lane.stream):",
        ":",
    ),
    Mutant(
        "reads conflict with reads",
        "history",
        "if not ordered and (old.writes or new.writes):",
        "if not ordered:",
    ),
    Mutant(
        "a read does not conflict with an earlier write",
        "history",
        "if not ordered and (old.writes or new.writes):",
        "if not ordered and new.writes:",
    ),
    Mutant(
        "a later access takes the place of one that it does not follow",
        "history",
        "if not ordered or (old.writes and not new.writes) or (by_host and old.moment.lane.stream):",
        "if old.writes and not new.writes:",
    ),
    Mutant(
        "the last byte of a range is left out",
        "places",
        "return self.address + self.length",
        "return self.address + max(self.length - 1, 1)",
    ),
    Mutant(
        "record_stream does nothing",
        "order",
        "for lane in (thread, *block.streams):",
        "for lane in (thread,):",
    ),
    Mutant(
        "the thread that frees memory is not asked what it knows",
        "order",
        "for lane in (thread, *block.streams):",
        "for lane in block.streams:",
    ),
    Mutant(
        "only the block that was freed is handed out",
        "blocks",
        "return self.block.stream == new.stream and same_pool and wanted.length <= memory.length",
        "return False",
    ),
    Mutant(
        "memory that was handed out again is not recognised",
        "reports",
        "if not changes_owner and block is not None and old.moment.time <= block.time:",
        "if False:",
    ),
    Mutant(
        "a capture does not check its order",
        "order",
        "self._captures[self._place(action.thread, action.stream)[1]] = World()",
        "pass",
    ),
    Mutant(
        "a stream does not join the capture whose event it waits for",
        "order",
        "world = self._captures[lane] = recorded",
        "world = recorded",
    ),
    Mutant(
        "a replay does nothing",
        "order",
        "        if graph is None:\n            return ()\n        replay =",
        "        if graph is not None:\n            return ()\n        replay =",
    ),
    Mutant(
        "replays of one graph are not ordered",
        "order",
        'accesses, ("graph", action.graph))',
        "accesses, None)",
    ),
    Mutant(
        "a graph reads what it writes",
        "graphs",
        "access = replace(writes[-1] if writes else of_range[0], in_graph=True)",
        "access = replace(of_range[0], in_graph=True, mode=AccessMode.READ)",
    ),
    Mutant(
        "accesses are forgotten that only one thread follows",
        "clocks",
        "times = {lane: min(clock.get(lane, 0) for clock in clocks) for lane in clocks[0]}",
        "times = {lane: max(clock.get(lane, 0) for clock in clocks) for clock in clocks for lane in clock}",
    ),
    Mutant(
        "clocks of lanes with accesses are forgotten",
        "clocks",
        "kept = used | self._lanes.keys()",
        "kept = set(self._lanes)",
    ),
    Mutant(
        "uses of freed blocks are not forgotten with their lanes",
        "order",
        "        self._blocks.forget(common)\n",
        "",
    ),
    Mutant(
        "two accesses of the host race",
        "order",
        "races = [each for each in conflicts if each.old.moment.lane.stream or each.new.moment.lane.stream]",
        "races = list(conflicts)",
    ),
    Mutant(
        "a race of the host is a race of kernels",
        "reports",
        "elif first.stream is None or second.stream is None:",
        "elif False:",
    ),
    Mutant(
        "an assumed wait is for everything",
        "world",
        "clocks.learn(lane, repaired, mark)",
        "clocks.learn(lane, {other: 10**9 for each in clocks._lanes.values() for other in each})",
    ),
    Mutant(
        "no wait is assumed after a race",
        "world",
        "clocks.learn(lane, repaired, mark)",
        "pass",
    ),
    Mutant(
        "work does not know of the wait that is assumed before it",
        "world",
        "moment.clock = joined(moment.clock, repaired)",
        "pass",
    ),
)
