"""Reads from NCCL's log of untimed calls whether NCCL used registered buffers, and which kernels it ran.

Registered buffers make large gathers faster. NCCL registers the buffers of captured calls by itself if it can. In
other calls, NCCL uses registered buffers only if the caller has registered them.

A log would slow timed calls down: NCCL formats and writes at least two lines in every call. So the log is on only
within this module (see ``transports.nccl_log``), and off while calls are timed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from nccl_bench.bench.context import CaseContext
from nccl_bench.catalog.routes import Mode
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.records.kernels import Kernel, Kernels
from nccl_bench.records.schema import BuffersRegistered
from nccl_bench.traces.nccl_kernels import kernels_in
from nccl_bench.transports.nccl_log import NewLines
from nccl_bench.transports.nccl_registration import SUBSYSTEMS, has_call, ranks_with_registered_buffers

# The number of calls. Outside graphs NCCL uses what the caller has registered: all buffers or none. So one call is
# enough. In graphs NCCL can register the buffers of some slots and not of others. On segments of 20 MiB the pattern
# repeats after five slots.
_CALLS = {Mode.EAGER: 1, Mode.GRAPH: 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """The content of NCCL's log about calls of one arm in one timing."""

    registered: BuffersRegistered | None = None  # the use of registered buffers; None without NCCL
    kernels: Kernels | None = None  # the kernels; None without --tuning, without NCCL, or without its log


@dataclass(slots=True)
class _Calls:
    """The calls of one arm whose lines were read on this rank."""

    calls: int = 0  # calls that reached NCCL
    with_registered: int = 0  # calls with registered buffers, summed over the ranks that the lines describe
    kernels: tuple[Kernel, ...] = ()  # the kernels; only the first rank of a communicator logs them


def read_log(context: CaseContext, names: Sequence[str], timings: Sequence[Timing]) -> dict[tuple[str, Timing], Logged]:
    """Make calls of each arm, and return what NCCL logs about them, for each arm and timing. Collective.

    Without NCCL the result is empty. Captured calls are not replayed, so the device does not run them.
    """
    log = context.log
    if log is None:
        return {}
    modes = {timing: Mode.GRAPH if TIMINGS[timing].captured else Mode.EAGER for timing in timings}
    logged: dict[tuple[str, Mode], Logged] = {}
    for mode in dict.fromkeys(modes.values()):
        of_arms = {name: _Calls() for name in names}
        for name in context.arms.visit(names, f"log of {mode} calls"):
            if log.reason_absent is None:
                with log.switched_on(SUBSYSTEMS) as new_lines:
                    of_arms[name] = _make_calls(context, name, mode, new_lines)
        sums = context.control.sum([count for each in of_arms.values() for count in (each.calls, each.with_registered)])
        kernels = _kernels(context, of_arms) if context.config.tuning else {}
        for name, calls, with_registered in zip(names, sums[::2], sums[1::2], strict=True):
            logged[name, mode] = Logged(
                registered=_result(calls, with_registered), kernels=kernels.get(name) if calls else None
            )
    context.restore(_CALLS[Mode.EAGER])
    return {(name, timing): logged[name, mode] for timing, mode in modes.items() for name in names}


def _make_calls(context: CaseContext, name: str, mode: Mode, new_lines: NewLines) -> _Calls:
    """Make calls of an arm, and return what NCCL logs about them."""
    made = _Calls()
    world_size = context.arms.ranks.own_set.world_size

    def make_calls() -> None:
        for call in context.calls(name, min(_CALLS[mode], context.buffers.slots)):
            call()
            lines = new_lines()
            made.calls += has_call(lines)
            made.with_registered += ranks_with_registered_buffers(lines, world_size)
            made.kernels += tuple(kernels_in(lines))

    if mode is Mode.GRAPH:
        context.arms[name].capture(make_calls).reset()
    else:
        make_calls()
    context.streams.synchronize()
    return made


def _kernels(context: CaseContext, of_arms: Mapping[str, _Calls]) -> dict[str, Kernels]:
    """Return the kernels of each arm's calls, from the first rank of the arm's processes. Collective."""
    own = context.arms.present(of_arms)
    merged = context.arms.merge({name: asdict(Kernels.of(of_arms[name].kernels))["distinct"] for name in own})
    return {name: Kernels(distinct=tuple(Kernel(**each) for each in kernels)) for name, kernels in merged.items()}


def _result(calls: int, with_registered: int) -> BuffersRegistered:
    if not calls:
        return BuffersRegistered.UNKNOWN
    if not with_registered:
        return BuffersRegistered.NO
    return BuffersRegistered.YES if with_registered == calls else BuffersRegistered.PARTLY
