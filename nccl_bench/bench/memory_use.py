"""Measures the memory that each arm's communicator took, and the memory that its calls strand in torch's allocator."""

from collections.abc import Callable, Mapping, Sequence
from textwrap import shorten
from typing import TypeVar

import torch
from torch import Tensor

from nccl_bench.arms.arm import Arm
from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.first_call import try_first_calls
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.errors import NcclBenchError
from nccl_bench.plan.cases import PlannedCase
from nccl_bench.ranks.control import Control
from nccl_bench.records.meta import RecordedMemory
from nccl_bench.safety.secrets import masked
from nccl_bench.streams.base import Streams
from nccl_bench.streams.memory_use import MemoryUse

# The largest message. Tensors of larger messages could fill the memory, and the stranded share does not depend on the
# size.
_MOST_BYTES = 16 * 1024**2
# The number of calls. Each call has tensors of its own, which are freed after it.
_CALLS = 8
# The length of the gate. The host makes all calls in much less time, so the device has run none of them when the last
# tensor is freed. The host spends most of its time on new memory from the driver.
_GATE_S = 0.1
# The largest number of tensors in one call, all of the message's size: the input, the output, and copies that an arm
# makes.
_COPIES = 4
# The errors of a call that refuses new tensors, for example because the user's library does not know their memory. An
# error of torch is a RuntimeError, also the error of too little memory.
_REFUSALS = (NcclBenchError, RuntimeError, LookupError, ValueError, TypeError, AssertionError)
_LONGEST_REASON = 200
_Made = TypeVar("_Made")


def with_growth(streams: Streams, make: Callable[[], _Made]) -> tuple[_Made, MemoryUse]:
    """Return the result of ``make``, and the growth of the used memory during the call."""
    before = streams.memory_use()
    made = make()
    streams.synchronize()
    after = streams.memory_use()
    return made, MemoryUse(
        device_bytes=_difference(before.device_bytes, after.device_bytes),
        host_bytes=_difference(before.host_bytes, after.host_bytes),
    )


def _difference(before: int | None, after: int | None) -> int | None:
    # The rest of the process can free memory in the meantime. Then the difference is negative.
    return None if before is None or after is None else max(0, after - before)


def memory_of_ranks(control: Control, growths: Mapping[str, MemoryUse], *, alone: bool) -> dict[str, RecordedMemory]:
    """Return the memory that the communicator of each arm took on each rank of ``control``. Collective.

    Unless the ranks are ``alone`` on their devices, other processes make communicators at the same time, so the memory
    of the device is unknown.
    """
    memory: dict[str, RecordedMemory] = {}
    for name, growth in growths.items():
        memory[name] = {}
        if (host := _of_ranks(control, growth.host_bytes)) is not None:
            memory[name]["host_bytes"] = host
        if alone and (device := _of_ranks(control, growth.device_bytes)) is not None:
            memory[name]["device_bytes"] = device
    return memory


def _of_ranks(control: Control, growth: int | None) -> list[int] | None:
    """Return the growth on each rank; ``None`` if the growth on any rank is unknown."""
    if control.minimum(-1 if growth is None else 0) < 0:
        return None
    return control.each_value(growth or 0)


def case_for_memory(cases: Sequence[PlannedCase]) -> PlannedCase | None:
    """Return the case with the largest message that is not too large for new tensors; ``None`` if all are too large."""
    possible = [planned for planned in cases if planned.case.size_bytes <= _MOST_BYTES]
    return max(possible, key=lambda planned: planned.case.size_bytes, default=None)


def measure_stranded(
    context: CaseContext, names: Sequence[str], _timings: Sequence[Timing]
) -> dict[str, RecordedMemory]:
    """Return the bytes that calls of each arm strand in torch's allocator, on the rank with the most. Collective.

    Stranded memory is free, but the caller's stream cannot have it. Each call gets new tensors. They are freed when the
    call has returned, while a gate still keeps the device from running the calls. An arm whose calls cannot be measured
    has the reason instead of the bytes. The memory of the device must come from torch's allocator.
    """
    reasons: dict[str, str] = {**try_first_calls(context, names)}
    names = [name for name in names if name not in reasons]
    free_bytes, needed_bytes = context.free_bytes(), _COPIES * _CALLS * context.buffers.arena.slot_bytes
    if free_bytes < needed_bytes:
        short = f"new tensors of its calls need up to {needed_bytes} B, and {free_bytes} B are free"
        reasons |= dict.fromkeys(names, short)
        names = []
    stranded = dict.fromkeys(names, 0)
    # The first calls are not measured. They make objects that later calls use again, and let NCCL free what it kept for
    # graphs that no longer exist.
    for calls, measure in ((1, False), (_CALLS, True)):
        refusals = dict.fromkeys(names, "")
        for name in context.arms.visit(names, "memory"):
            stranded[name], refusals[name] = _stranded_by(context, name, calls, measure=measure)
        # If one rank leaves an arm out, all ranks do. Otherwise the other ranks would wait for this rank.
        refused = {name: context.control.first_message(refusals[name] or None) for name in names}
        reasons |= {name: message[1] for name, message in refused.items() if message is not None}
        names = [name for name in names if name not in reasons]
    most = context.control.maximum([stranded[name] for name in names]) if names else []
    measured: dict[str, RecordedMemory] = {name: {"stranded_absent": reason} for name, reason in reasons.items()}
    return measured | {name: {"stranded_bytes": int(number)} for name, number in zip(names, most, strict=True)}


def _stranded_by(context: CaseContext, name: str, calls: int, *, measure: bool) -> tuple[int, str]:
    """Return the bytes that ``calls`` calls strand, and why they are unknown; an empty reason if they are known."""
    streams, case = context.streams, context.case_of(name)
    pair = context.buffers.pair(0, case.placement)
    gate = streams.new_event()
    streams.synchronize()
    try:
        if measure:
            # Earlier calls can have left blocks on other streams. New calls would use these blocks again, and the
            # growth would not count them.
            streams.release_memory()
        before = streams.stranded_bytes()
        if measure:
            streams.hold(_GATE_S)
        gate.record(streams.current_stream())
        for _ in range(calls):
            _call_with(context.arms[name], case, *new_pair(*pair))
        after = streams.stranded_bytes()
        held = not gate.query()
    except _REFUSALS as error:
        return 0, _first_line(error)
    finally:
        streams.synchronize()
    if measure and not held:
        return 0, f"its calls took longer than {_GATE_S:g} s on the host"
    return max(0, (after or 0) - (before or 0)), ""


def _first_line(error: Exception) -> str:
    """Return what ``error`` says, in one line without secrets."""
    text = shorten(next(iter(masked(str(error)).strip().splitlines()), ""), _LONGEST_REASON, placeholder=" ...")
    return ": ".join(filter(None, (type(error).__name__, text)))


def _call_with(arm: Arm, case: Case, x: Tensor, y: Tensor | None) -> None:
    """Make a call. Its tensors exist until it has returned, because a bound call can have only their addresses."""
    arm.bind(case, x, y)()


def new_pair(x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return new tensors like the input ``x`` and the output ``y``; they overlap as ``x`` and ``y`` do."""
    if y is None:
        return torch.empty_like(x), None
    if y is x:
        new = torch.empty_like(x)
        return new, new
    if _holds(y, x):
        output = torch.empty_like(y)
        return _part(output, _offset(x, y), x), output
    if _holds(x, y):
        new = torch.empty_like(x)
        return new, _part(new, _offset(y, x), y)
    return torch.empty_like(x), torch.empty_like(y)


def _holds(whole: Tensor, part: Tensor) -> bool:
    return 0 <= _offset(part, whole) < whole.numel()


def _offset(part: Tensor, whole: Tensor) -> int:
    """Return the number of elements from the start of ``whole`` to the start of ``part``."""
    return (part.data_ptr() - whole.data_ptr()) // whole.element_size()


def _part(whole: Tensor, offset: int, like: Tensor) -> Tensor:
    return whole.view(-1)[offset : offset + like.numel()].view_as(like)
