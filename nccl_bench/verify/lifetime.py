"""The probe ``lifetime``, which checks that a communicator leaves nothing behind."""

import gc
import os
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.probes import Place
from nccl_bench.verify.exchanges import Exchange
from nccl_bench.verify.rig import Rig, call_each

CYCLES = 10
LONGEST_CLOSE_S = 5.0
# A closed communicator must release its resources, for example its threads, within this time.
SETTLING_S = 1.0
_TASKS, _FILES = Path("/proc/self/task"), Path("/proc/self/fd")


def lifetime(rig: Rig) -> None:
    """Check that a communicator leaves no temporary streams after its construction, and nothing after its close."""
    exchanges = rig.exchanges()
    # Built-in arms can always be closed. For these, avoid `rig.arm`, which would make the shared arm.
    if rig.arm_probe.arm not in ARMS and rig.arm.communicator.reason_not_ended is not None:
        rig.reason_not_applicable = rig.arm.communicator.reason_not_ended
        return
    rig.announce_trial("warm-up cycle")
    rig.record("warm-up cycle", _run_cycle(rig, exchanges))
    counts = [_count_resources(rig)]
    counts.append(_run_cycles(rig, exchanges, range(1, CYCLES + 1), counts[-1]))
    # A leak grows in every series of cycles. The memory of other processes or of late set-up grows only once.
    if rig.control.sum([_any_grew(*counts)])[0]:
        counts.append(_run_cycles(rig, exchanges, range(CYCLES + 1, 2 * CYCLES + 1), counts[-1]))
    for resource in counts[0]:
        first, *later = (count[resource] for count in counts)
        grew = all(more > less for less, more in pairwise([first, *later]))
        more = f", {later[1]} after {CYCLES} more" if len(later) > 1 else ""
        rig.record(resource, f"{first} before {CYCLES} cycles, {later[0]} after them{more}" if grew else None)


def _run_cycles(
    rig: Rig, exchanges: Sequence[Exchange], numbers: Sequence[int], before: Mapping[str, int]
) -> Mapping[str, int]:
    """Run the cycles ``numbers``, wait a little until threads end, and return the amounts of the resources in use."""
    for number in numbers:
        rig.announce_trial(f"cycle {number}")
        # Counting streams takes as long as the rest of a cycle, so count streams in one cycle only.
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
    """Make a communicator, run every exchange at every place and in a graph, and close it. Return any error.

    With ``count_streams``, also check the number of streams in use after the construction.
    """
    streams = rig.device.streams
    before = _count_live_streams(rig) if count_streams else 0
    arm = rig.make_arm()
    allowed = arm.spec.private_streams
    kept = _count_live_streams(rig) - before if count_streams else allowed
    for place in Place:
        with rig.at_place(place):
            call_each(arm, exchanges)
            streams.synchronize()
    if rig.device_spec.has_graphs:
        graph = arm.capture(partial(call_each, arm, exchanges))
        graph.replay()
        streams.synchronize()
        graph.reset()
    begin = time.monotonic()
    arm.close()
    took_s = time.monotonic() - begin
    if took_s > LONGEST_CLOSE_S:
        return f"close took {took_s:.1f} s, more than {LONGEST_CLOSE_S:g} s, although all graphs were already reset"
    if kept > allowed:
        return (
            f"after construction, streams in use: {kept}, allowed: {allowed}. Release every "
            "temporary stream, for example the stream of the warm-up"
        )
    return None


def _count_live_streams(rig: Rig) -> int:
    """Return the number of stream objects that are still referenced."""
    gc.collect()
    kind = type(rig.device.streams.default_stream())
    return sum(1 for item in gc.get_objects() if issubclass(type(item), kind))


def _count_resources(rig: Rig) -> Mapping[str, int]:
    """Return the amount in use of each resource that a communicator takes and must give back."""
    resources = {"reachable Stream objects": _count_live_streams(rig), "threads": threading.active_count()}
    if _TASKS.is_dir():  # Linux only; the directory also lists the threads of libraries
        resources |= {"threads": len(os.listdir(_TASKS)), "open files": len(os.listdir(_FILES))}
    # If ranks share a device, the count would include the memory of other ranks.
    if not (rig.device_spec.shares_memory or rig.device.shared):
        free, total = rig.device.streams.memory()
        resources["bytes of device memory, of all processes"] = total - free
    return resources
