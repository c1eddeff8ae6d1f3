"""The probes that need many operations or many communicators: many, lifetime."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
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

# At each place, over both communicators together.
OPERATIONS = 600
REPLAY_EVERY = 50
SMALL_PER_LARGE = 8
SALTS = 3
CYCLES = 10
LONGEST_CLOSE_S = 5.0
# The threads of a closed communicator end within this time, unless they are leaked.
SETTLING_S = 1.0
_TASKS, _FILES = Path("/proc/self/task"), Path("/proc/self/fd")


def many(rig: Rig) -> None:
    """Check that two communicators on one stream do not disturb each other, over thousands of operations."""
    second = rig.make_arm()
    sequences = [_Sequence(rig, arm) for arm in (rig.arm, second)]
    for place in Place:
        rig.announce_trial(str(place))
        with rig.at_place(place):
            graphs = [sequence.capture() for sequence in sequences] if rig.has_graphs else []
            for number in range(OPERATIONS):
                sequences[number % 2].operate(number // 2)
                if graphs and number % REPLAY_EVERY >= REPLAY_EVERY - 2:
                    sequences[number % 2].replay(graphs[number % 2])
            rig.device.streams.synchronize()
            for graph in graphs:
                graph.reset()
            for name, sequence in zip(("first", "second"), sequences, strict=True):
                wrong = sequence.take_wrong()
                rig.record(
                    f"{place}, {name} communicator",
                    f"{wrong} of its operations had a wrong result" if wrong else None,
                )
    second.close()


class _Sequence:
    """The operations of one communicator, each checked on the device so that none waits for the host."""

    def __init__(self, rig: Rig, arm: Arm) -> None:
        self._arm = arm
        self._streams = rig.device.streams
        small, large = rig.device_spec.probe_sizes
        self._exchanges = [*rig.exchanges([small]) * SMALL_PER_LARGE, *rig.exchanges([large])]
        self._in_graph = rig.exchanges([small])
        distinct = {id(exchange): exchange for exchange in (*self._exchanges, *self._in_graph)}
        self._trials = {key: _trials(exchange) for key, exchange in distinct.items()}
        self._wrong = torch.zeros(1, dtype=torch.int64, device=rig.device.streams.device)
        self._streams.synchronize()

    def operate(self, number: int) -> None:
        """Enqueue operation ``number`` on a fresh input, and the check of its result."""
        exchange = self._exchanges[number % len(self._exchanges)]
        fresh, expected = next(self._trials[id(exchange)])
        self._streams.submit(exchange.input.copy_, fresh)
        self._arm.order(exchange.operation(self._arm.communicator))()
        self._streams.submit(_count_wrong, self._wrong, exchange.output, expected)

    def capture(self) -> Graph:
        """Return a graph of one operation of each kind."""
        return self._arm.capture(partial(_call_each, self._arm, self._in_graph))

    def replay(self, graph: Graph) -> None:
        """Enqueue a replay of ``graph`` on fresh inputs, and the checks of its results."""
        trials = [(exchange, *next(self._trials[id(exchange)])) for exchange in self._in_graph]
        for exchange, fresh, _ in trials:
            self._streams.submit(exchange.input.copy_, fresh)
        graph.replay()
        for exchange, _, expected in trials:
            self._streams.submit(_count_wrong, self._wrong, exchange.output, expected)

    def take_wrong(self) -> int:
        """Return the number of wrong results since the last call; the device must be idle."""
        wrong = int(self._wrong.item())
        self._wrong.zero_()
        self._streams.synchronize()
        return wrong


def _trials(exchange: Exchange) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs and expected outputs without end. Successive ones differ, so that a skipped operation is seen."""
    return cycle([(exchange.make_input(salt), exchange.make_expected(salt)) for salt in range(SALTS)])


def _count_wrong(wrong: Tensor, result: Tensor, expected: Tensor) -> None:
    wrong.add_((result != expected).any())


def _call_each(arm: Arm, exchanges: Sequence[Exchange]) -> None:
    for exchange in exchanges:
        arm.order(exchange.operation(arm.communicator))()


def lifetime(rig: Rig) -> None:
    """Check that a communicator leaves nothing behind, neither after its construction nor after its end."""
    exchanges = rig.exchanges()
    # A built-in arm can always be closed, so the shared arm need not be made for this.
    if rig.arm_probe.arm not in ARMS and rig.arm.communicator.not_ended is not None:
        rig.reason_not_applicable = rig.arm.communicator.not_ended
        return
    rig.announce_trial("warm cycle")
    rig.record("warm cycle", _run_cycle(rig, exchanges))
    counts = [_count_resources(rig)]
    counts.append(_run_cycles(rig, exchanges, range(1, CYCLES + 1), counts[-1]))
    # A leak grows with every cycle; what other processes take of a device, or what is set up late, does not.
    if rig.control.sum([_any_grew(*counts)])[0]:
        counts.append(_run_cycles(rig, exchanges, range(CYCLES + 1, 2 * CYCLES + 1), counts[-1]))
    for resource in counts[0]:
        first, *later = (count[resource] for count in counts)
        grew = all(more > less for less, more in pairwise([first, *later]))
        more = f", {later[1]} after {CYCLES} more" if len(later) > 1 else ""
        rig.record(resource, f"{first} before {CYCLES} cycles and {later[0]} after{more}" if grew else None)


def _run_cycles(
    rig: Rig, exchanges: Sequence[Exchange], numbers: Sequence[int], before: Mapping[str, int]
) -> Mapping[str, int]:
    """Run the cycles ``numbers``, and return the resources in use after them, once threads had time to end."""
    for number in numbers:
        rig.announce_trial(f"cycle {number}")
        # Counting streams takes as long as the rest of a cycle, and once is enough.
        rig.record(f"cycle {number}", _run_cycle(rig, exchanges, count_streams=number == CYCLES))
    after = _count_resources(rig)
    give_up = time.monotonic() + SETTLING_S
    while _any_grew(before, after) and time.monotonic() < give_up:
        time.sleep(0.05)
        after = _count_resources(rig)
    return after


def _any_grew(before: Mapping[str, int], after: Mapping[str, int]) -> bool:
    return any(after[resource] > before[resource] for resource in before)


def _run_cycle(rig: Rig, exchanges: Sequence[Exchange], *, count_streams: bool = False) -> str | None:
    """Make a communicator, run every exchange at every place and a graph, and close it; return what is wrong.

    With ``count_streams``, also count the streams that are left after construction.
    """
    streams = rig.device.streams
    before = _count_live_streams(rig) if count_streams else 0
    arm = rig.make_arm()
    allowed = arm.spec.private_streams
    kept = _count_live_streams(rig) - before if count_streams else allowed
    for place in Place:
        with rig.at_place(place):
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
        return f"close took {took_s:.1f} s, although its graphs were reset before"
    if kept > allowed:
        return (
            f"construction left {kept} of its streams behind, and the communicator has {allowed}: a temporary one, "
            "such as the warm-up's, was not released"
        )
    return None


def _count_live_streams(rig: Rig) -> int:
    """Return the number of stream objects that something still refers to."""
    gc.collect()
    kind = type(rig.device.streams.default_stream())
    return sum(1 for item in gc.get_objects() if issubclass(type(item), kind))


def _count_resources(rig: Rig) -> Mapping[str, int]:
    """Return how much of each resource is in use that a communicator takes and must give back."""
    resources = {"reachable Stream objects": _count_live_streams(rig), "threads": threading.active_count()}
    if _TASKS.is_dir():  # only on Linux; it counts the threads of libraries too
        resources |= {"threads": len(os.listdir(_TASKS)), "open files": len(os.listdir(_FILES))}
    # Memory that another rank has not given back yet would be counted too.
    if not (rig.device_spec.shares_memory or rig.device.shared):
        free, total = rig.device.streams.memory()
        resources["bytes of device memory, whoever took them"] = total - free
    return resources
