"""The probe ``lifetime``, which checks that a communicator leaves nothing behind."""

import gc
import os
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.probes import Place
from nccl_bench.verify.exchanges import Exchange
from nccl_bench.verify.outcomes import Leak
from nccl_bench.verify.rig import Rig, call_each

LONGEST_CLOSE_S = 5.0
# A closed communicator must release its resources, for example its threads, within this time.
SETTLING_S = 1.0
_TASKS, _FILES = Path("/proc/self/task"), Path("/proc/self/fd")


def lifetime(rig: Rig) -> None:
    """Check that a communicator leaves no temporary streams after its construction, and nothing after its close."""
    exchanges = rig.exchanges()
    error_type: type[str] = str
    # Reading `rig.arm` makes the arm that all probes use. A built-in arm can always be closed, so only user arms are
    # asked.
    if rig.arm_probe.arm not in ARMS:
        rig.reason_not_applicable = rig.arm.communicator.reason_not_ended
        if rig.reason_not_applicable is not None:
            return
        if rig.arm.communicator.is_dropped:
            error_type = Leak
    _try_communicator(rig, exchanges, "first communicator")
    counts = [_count_resources(rig)]
    counts.append(_count_after(rig, exchanges, "second communicator", counts[-1]))
    # A leak grows with every communicator. Memory of other processes, and what a process loads once, grows only once.
    if rig.control.sum([_any_grew(*counts)])[0]:
        counts.append(_count_after(rig, exchanges, "third communicator", counts[-1]))
    for resource in counts[0]:
        first, *later = (count[resource] for count in counts)
        grew = all(more > less for less, more in pairwise([first, *later]))
        more = f", {later[1]} after three" if len(later) > 1 else ""
        each = (later[-1] - first) / len(later)
        counted = f"{first} after one communicator, {later[0]} after two{more}: {each:.10g} for each communicator"
        rig.record(resource, error_type(counted) if grew else None)


def _count_after(rig: Rig, exchanges: Sequence[Exchange], label: str, before: Mapping[str, int]) -> Mapping[str, int]:
    """Try a communicator, wait a little until threads end, and return the amounts of the resources in use."""
    _try_communicator(rig, exchanges, label, count_streams=True)
    after = _count_resources(rig)
    give_up = time.monotonic() + SETTLING_S
    while _any_grew(before, after) and time.monotonic() < give_up:
        time.sleep(0.05)
        after = _count_resources(rig)
    return after


def _try_communicator(rig: Rig, exchanges: Sequence[Exchange], label: str, *, count_streams: bool = False) -> None:
    """Make a communicator, use it, close it, and record the trial."""
    rig.announce_trial(label)
    arm, error = _make_and_use(rig, exchanges, count_streams=count_streams)
    begin = time.monotonic()
    arm.close()
    # An object without a method that ends it ends when nothing refers to it any more.
    del arm
    gc.collect()
    took_s = time.monotonic() - begin
    if took_s > LONGEST_CLOSE_S:
        slow = f"close took {took_s:.1f} s, more than {LONGEST_CLOSE_S:g} s, although all graphs were already reset"
        error = error or slow
    rig.record(label, error)


def _any_grew(before: Mapping[str, int], after: Mapping[str, int]) -> bool:
    return any(after[resource] > before[resource] for resource in before)


def _make_and_use(rig: Rig, exchanges: Sequence[Exchange], *, count_streams: bool) -> tuple[Arm, str | None]:
    """Make an arm, and run every exchange at every place and in a graph. Return the arm and any error.

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
    if kept > allowed:
        return arm, (
            f"after construction, streams in use: {kept}, allowed: {allowed}. Release every "
            "temporary stream, for example the stream of the warm-up"
        )
    return arm, None


def _count_live_streams(rig: Rig) -> int:
    """Return the number of stream objects that are still referenced."""
    gc.collect()
    kind = type(rig.device.streams.default_stream())
    return sum(1 for item in gc.get_objects() if issubclass(type(item), kind))


def _count_resources(rig: Rig) -> Mapping[str, int]:
    """Return how much is in use of each resource. A communicator takes these resources, and must give them back."""
    resources = {"reachable Stream objects": _count_live_streams(rig), "threads": threading.active_count()}
    if _TASKS.is_dir():  # Linux only; the directory also lists the threads of libraries
        resources |= {"threads": len(os.listdir(_TASKS)), "open files": len(os.listdir(_FILES))}
    # If ranks share a device, the count would include the memory of other ranks.
    if not (rig.device_spec.shares_memory or rig.device.shared):
        free, total = rig.device.streams.memory()
        resources["bytes of device memory, of all processes"] = total - free
    return resources
