"""Finds out whether NCCL uses registered buffers in the calls of each arm. NCCL's log of an untimed call says so.

Registered buffers make large gathers faster. NCCL registers the buffers of captured calls by itself if it can. In other
calls, NCCL uses registered buffers only if the caller has registered them.
"""

from collections.abc import Sequence

from nccl_bench.bench.context import CaseContext
from nccl_bench.catalog.routes import Mode
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.records.schema import BuffersRegistered
from nccl_bench.transports.nccl_log import NewLines
from nccl_bench.transports.nccl_registration import SUBSYSTEMS, has_call, ranks_with_registered_buffers

# Outside graphs NCCL uses what the caller has registered, which is all buffers or none. So one call is enough. In
# graphs NCCL can register the buffers of some slots only. On segments of 20 MiB this repeats after five slots.
_CALLS = {Mode.EAGER: 1, Mode.GRAPH: 8}


def find_registered(
    context: CaseContext, names: Sequence[str], timings: Sequence[Timing]
) -> dict[tuple[str, Timing], BuffersRegistered]:
    """Make calls of each arm, and return for each arm and timing what NCCL's log says about the buffers. Collective.

    Without NCCL the result is empty. Captured calls are not replayed, so the device does nothing.
    """
    log = context.log
    if log is None:
        return {}
    modes = {timing: Mode.GRAPH if TIMINGS[timing].captured else Mode.EAGER for timing in timings}
    registered: dict[tuple[str, Mode], BuffersRegistered] = {}
    for mode in dict.fromkeys(modes.values()):
        counts = dict.fromkeys(names, (0, 0))
        for name in context.arms.visit(names, f"log of {mode} calls"):
            if log.reason_absent is None:
                with log.switched_on(SUBSYSTEMS) as new_lines:
                    counts[name] = _count(context, name, mode, new_lines)
        sums = context.control.sum([count for pair in counts.values() for count in pair])
        for name, calls, with_registered in zip(names, sums[::2], sums[1::2], strict=True):
            registered[name, mode] = _result(calls, with_registered)
    context.restore(_CALLS[Mode.EAGER])
    return {(name, timing): registered[name, mode] for timing, mode in modes.items() for name in names}


def _count(context: CaseContext, name: str, mode: Mode, new_lines: NewLines) -> tuple[int, int]:
    """Return the number of calls that reached NCCL, and of those with registered buffers. Sum both over the ranks."""
    calls = with_registered = 0
    world_size = context.arms.ranks.own_set.world_size

    def make_calls() -> None:
        nonlocal calls, with_registered
        for call in context.calls(name, min(_CALLS[mode], context.buffers.slots)):
            call()
            lines = new_lines()
            calls += has_call(lines)
            with_registered += ranks_with_registered_buffers(lines, world_size)

    if mode is Mode.GRAPH:
        context.arms[name].capture(make_calls).reset()
    else:
        make_calls()
    context.streams.synchronize()
    return calls, with_registered


def _result(calls: int, with_registered: int) -> BuffersRegistered:
    if not calls:
        return BuffersRegistered.UNKNOWN
    if not with_registered:
        return BuffersRegistered.NO
    return BuffersRegistered.YES if with_registered == calls else BuffersRegistered.PARTLY
