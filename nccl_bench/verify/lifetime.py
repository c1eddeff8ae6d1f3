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

# The number of communicators in one series. A leak grows with each of them, and NCCL takes 0.5 s to close one.
COMMUNICATORS = 2
LONGEST_CLOSE_S = 5.0
# A closed communicator must release its resources, for example its threads, within this time.
SETTLING_S = 1.0
_TASKS, _FILES = Path("/proc/self/task"), Path("/proc/self/fd")


def lifetime(rig: Rig) -> None:
    """Check that a communicator leaves no temporary streams after its construction, and nothing after its close."""
    exchanges = rig.exchanges()
    error_type: type[str] = str
    # Reading `rig.arm` makes the arm that all probes use. A built-in arm can always be closed, so it need not be asked.
    if rig.arm_probe.arm not in ARMS:
        rig.reason_not_applicable = rig.arm.communicator.reason_not_ended
        if rig.reason_not_applicable is not None:
            return
        if rig.arm.communicator.is_dropped:
            error_type = Leak
    _run_series(rig, exchanges, "warm-up communicator", 1)
    counts = [_count_resources(rig)]
    counts.append(_count_after_series(rig, exchanges, "communicator", counts[-1]))
    # A leak grows in every series. The memory of other processes, and what a process loads once, grows only once.
    if rig.control.sum([_any_grew(*counts)])[0]:
        counts.append(_count_after_series(rig, exchanges, "communicator of the second series", counts[-1]))
    for resource in counts[0]:
        first, *later = (count[resource] for count in counts)
        grew = all(more > less for less, more in pairwise([first, *later]))
        more = f", {later[1]} after {COMMUNICATORS} more" if len(later) > 1 else ""
        each = (later[-1] - first) / (COMMUNICATORS * len(later))
        counted = (
            f"{first} before {COMMUNICATORS} communicators, {later[0]} after{more}: {each:.10g} for each communicator"
        )
        rig.record(resource, error_type(counted) if grew else None)


def _count_after_series(
    rig: Rig, exchanges: Sequence[Exchange], label: str, before: Mapping[str, int]
) -> Mapping[str, int]:
    """Run a series, wait a little until threads end, and return the amounts of the resources in use."""
    _run_series(rig, exchanges, label, COMMUNICATORS)
    after = _count_resources(rig)
    give_up = time.monotonic() + SETTLING_S
    while _any_grew(before, after) and time.monotonic() < give_up:
        time.sleep(0.05)
        after = _count_resources(rig)
    return after


def _run_series(rig: Rig, exchanges: Sequence[Exchange], label: str, count: int) -> None:
    """Make ``count`` communicators one after the other, use each of them, then close all, and record every trial."""
    arms, errors = [], []
    for number in range(1, count + 1):
        rig.announce_trial(f"{label} {number}")
        # Counting streams takes as long as the rest of a trial, so count streams for one communicator only.
        arm, error = _make_and_use(rig, exchanges, count_streams=number == COMMUNICATORS)
        arms.append(arm)
        errors.append(error)
    close_errors = [_close_first(arms) for _ in errors]
    for number, (error, close_error) in enumerate(zip(errors, close_errors, strict=True), start=1):
        rig.record(f"{label} {number}", error or close_error)


def _close_first(arms: list[Arm]) -> str | None:
    """Close the first of ``arms`` and drop it. An object that has no method to end it ends by being dropped."""
    begin = time.monotonic()
    arms.pop(0).close()
    gc.collect()
    took_s = time.monotonic() - begin
    if took_s > LONGEST_CLOSE_S:
        return f"close took {took_s:.1f} s, more than {LONGEST_CLOSE_S:g} s, although all graphs were already reset"
    return None


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
