"""The probes that need many operations or many communicators: many, lifetime."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import cycle, pairwise
from pathlib import Path

import torch
from torch import Tensor

from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.probes import Place
from nccl_bench.streams.base import Graph
from nccl_bench.verify.exchanges import Exchange
from nccl_bench.verify.rig import Rig

# At each place, over both communicators.
OPERATIONS = 600
REPLAY_EVERY = 50
SMALL_PER_LARGE = 8
SALTS = 3
CYCLES = 10
LONGEST_CLOSE_S = 5.0
# Threads of a closed communicator end by themselves; what is leaked is still there after this.
SETTLING_S = 1.0
_TASKS, _FILES = Path("/proc/self/task"), Path("/proc/self/fd")


def many(rig: Rig) -> None:
    """Do two communicators get along on one stream, over thousands of operations?"""
    second = rig.new_arm()
    users = [_User(rig, arm) for arm in (rig.arm, second)]
    for place in Place:
        rig.at(str(place))
        with rig.placed(place):
            graphs = [user.captured() for user in users] if rig.has_graphs else []
            for number in range(OPERATIONS):
                users[number % 2].operate(number // 2)
                if graphs and number % REPLAY_EVERY >= REPLAY_EVERY - 2:
                    users[number % 2].replay(graphs[number % 2])
            rig.device.streams.synchronize()
            for graph in graphs:
                graph.reset()
            for which, user in zip(("first", "second"), users, strict=True):
                wrong = user.take_wrong()
                rig.note(
                    f"{place}, {which} communicator",
                    f"{wrong} of its operations had a wrong result" if wrong else None,
                )
    second.close()


class _User:
    """One communicator's operations, checked on the device as they go: nothing waits for the host."""

    def __init__(self, rig: Rig, arm: Arm) -> None:
        self._arm = arm
        self._streams = rig.device.streams
        small, large = rig.device_spec.probe_sizes
        self._exchanges = [*rig.exchanges([small]) * SMALL_PER_LARGE, *rig.exchanges([large])]
        self._captured = rig.exchanges([small])
        # No exchange has the same salt twice running: what an operation left undone would look right.
        self._trials = {
            id(e): cycle([(e.fresh(salt), e.expected(salt)) for salt in range(SALTS)])
            for e in {id(e): e for e in (*self._exchanges, *self._captured)}.values()
        }
        self._wrong = torch.zeros(1, dtype=torch.int64, device=rig.device.streams.device)
        self._streams.synchronize()

    def operate(self, number: int) -> None:
        """The next operation on a fresh input."""
        exchange = self._exchanges[number % len(self._exchanges)]
        fresh, expected = next(self._trials[id(exchange)])
        self._streams.submit(exchange.x.copy_, fresh)
        self._arm.order(exchange.operation(self._arm.communicator))()
        self._streams.submit(_count, self._wrong, exchange.y, expected)

    def captured(self) -> Graph:
        """A graph of one operation of each kind."""
        return self._arm.capture(partial(_call_each, self._arm, self._captured))

    def replay(self, graph: Graph) -> None:
        """The graph on fresh inputs."""
        trials = [(exchange, *next(self._trials[id(exchange)])) for exchange in self._captured]
        for exchange, fresh, _ in trials:
            self._streams.submit(exchange.x.copy_, fresh)
        graph.replay()
        for exchange, _, expected in trials:
            self._streams.submit(_count, self._wrong, exchange.y, expected)

    def take_wrong(self) -> int:
        """How many results were wrong since the last time; the device has to be idle."""
        wrong = int(self._wrong.item())
        self._wrong.zero_()
        self._streams.synchronize()
        return wrong


def _count(wrong: Tensor, result: Tensor, expected: Tensor) -> None:
    wrong.add_((result != expected).any())


def _call_each(arm: Arm, exchanges: Sequence[Exchange]) -> None:
    for exchange in exchanges:
        arm.order(exchange.operation(arm.communicator))()


def lifetime(rig: Rig) -> None:
    """Does a communicator leave nothing behind, neither after its construction nor after its end?"""
    exchanges = rig.exchanges()
    # Arms of ours are made by the cycles alone.
    if rig.cell.arm not in ARMS and rig.arm.communicator.not_ended is not None:
        rig.inapplicable = rig.arm.communicator.not_ended
        return
    rig.at("warm cycle")
    rig.note("warm cycle", _cycle(rig, exchanges))
    counts = [_census(rig)]
    counts.append(_after_cycles(rig, exchanges, range(1, CYCLES + 1), counts[-1]))
    # What is leaked grows with every cycle. What other processes take of a device, or what is set up late, does not.
    if rig.control.sum([_any_grown(*counts)])[0]:
        counts.append(_after_cycles(rig, exchanges, range(CYCLES + 1, 2 * CYCLES + 1), counts[-1]))
    for what in counts[0]:
        first, *later = (count[what] for count in counts)
        grew = all(more > less for less, more in pairwise([first, *later]))
        more = f", {later[1]} after {CYCLES} more" if len(later) > 1 else ""
        rig.note(what, f"{first} before {CYCLES} cycles and {later[0]} after{more}" if grew else None)


def _after_cycles(
    rig: Rig, exchanges: Sequence[Exchange], numbers: Sequence[int], before: Mapping[str, int]
) -> Mapping[str, int]:
    """The census once cycles with these ``numbers`` are over and what ends by itself has ended."""
    for number in numbers:
        rig.at(f"cycle {number}")
        # To look for streams takes as long as all the rest of a cycle, and once is enough.
        rig.note(f"cycle {number}", _cycle(rig, exchanges, watched=number == CYCLES))
    after = _census(rig)
    give_up = time.monotonic() + SETTLING_S
    while _any_grown(before, after) and time.monotonic() < give_up:
        time.sleep(0.05)
        after = _census(rig)
    return after


def _any_grown(before: Mapping[str, int], after: Mapping[str, int]) -> bool:
    return any(after[what] > before[what] for what in before)


def _cycle(rig: Rig, exchanges: Sequence[Exchange], *, watched: bool = False) -> str | None:
    """A communicator's life: construction, every exchange at every place, a graph, the end.

    ``watched`` says to look for the streams that construction leaves.
    """
    streams = rig.device.streams
    before = _live_streams(rig) if watched else 0
    arm = rig.new_arm()
    allowed = arm.spec.private_streams
    kept = _live_streams(rig) - before if watched else allowed
    for place in Place:
        with rig.placed(place):
            _call_each(arm, exchanges)
            streams.synchronize()
    if rig.has_graphs:
        graph = arm.capture(partial(_call_each, arm, exchanges))
        graph.replay()
        streams.synchronize()
        graph.reset()
    begin = time.monotonic()
    arm.close()
    took_s = time.monotonic() - begin
    if took_s > LONGEST_CLOSE_S:
        return f"close took {took_s:.1f} s, its graphs having been reset"
    if kept > allowed:
        return (
            f"construction left {kept} of its streams behind, and the communicator has {allowed}: a temporary one, "
            "such as the warm-up's, was not released"
        )
    return None


def _live_streams(rig: Rig) -> int:
    """Stream objects that something still refers to."""
    gc.collect()
    kind = type(rig.device.streams.default_stream())
    return sum(1 for thing in gc.get_objects() if issubclass(type(thing), kind))


def _census(rig: Rig) -> Mapping[str, int]:
    """What a communicator may take and has to give back."""
    census = {"reachable Stream objects": _live_streams(rig), "threads": threading.active_count()}
    if _TASKS.is_dir():  # those of libraries too; only Linux tells
        census |= {"threads": len(os.listdir(_TASKS)), "open files": len(os.listdir(_FILES))}
    # What another rank has not given back yet would be counted too.
    if not (rig.device_spec.shares_memory or rig.device.shared):
        free, total = rig.device.streams.memory()
        census["bytes of device memory, whoever took them"] = total - free
    return census
