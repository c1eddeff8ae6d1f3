"""Reads the traces of torch.profiler, which Kineto writes as JSON of Chrome's format.

torch.distributed records each of its calls with its size (``record_param_comms``). Other calls of NCCL appear only
as kernels, which have no size: calls in replays of a CUDA graph, and calls of an engine's communicator.

Where nothing called NCCL, as on a CPU, the calls of Gloo count. They have sizes if torch recorded shapes.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from nccl_bench.traces.names import collective_of, is_no_collective, kernel_collective, torch_type
from nccl_bench.traces.recording import Call, Launch, Message, Mode, Recording, left_out, message_of_tensors
from nccl_bench.traces.streaming import Unpacked
from nccl_bench.traces.values import elements, is_uneven, mapping, number_before, numbers_before, sequence, text, whole

SOURCE = "torch.profiler"
_CALL = "record_param_comms"
_GLOO = "gloo:"
# Parts of the names of kernels with which engines and torch reduce small messages without NCCL: vLLM and SGLang,
# FlashInfer and TensorRT-LLM, torch's symmetric memory.
_FOREIGN = (
    "cross_device_reduce",
    "allreduce_fusion",
    "one_shot_all_reduce",
    "two_shot_all_reduce",
    "multimem_all_reduce",
)


def recognise(head: bytes) -> bool:
    """Return True if a file that begins with ``head`` is a trace of torch.profiler."""
    return head.lstrip().startswith(b"{") and (
        b'"traceEvents"' in head or (b'"schemaVersion"' in head and b'"deviceProperties"' in head)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kernel:
    """A kernel of NCCL for which the trace has no size."""

    time: float  # when the kernel began, in the trace's microseconds
    correlation: int | None  # the number of the launch that the kernel belongs to
    collective: str  # the collective in the kernel's name
    channels: int | None  # the blocks of the kernel, one for each channel
    stream: str  # the stream
    call: int | None  # the External id of the call that the kernel belongs to


@dataclass(slots=True)
class _Trace:
    """The parts of a trace that have been read so far."""

    rank: int | None = None  # the rank; None until the head of the file or a call names it
    process: int | None = None  # the process of the first call
    calls: list[tuple[Message, int | None]] = field(default_factory=list)  # calls, each with its External id
    kernels: list[_Kernel] = field(default_factory=list)  # kernels that do not name their collective in their fields
    streams: dict[int | None, str] = field(default_factory=dict)  # External id of a call -> the stream of its kernel
    graphs: set[int] = field(default_factory=set)  # the numbers of launches of graphs
    of_gloo: list[Message] = field(default_factory=list)  # calls of Gloo
    of_gloo_unsized: int = 0  # calls of Gloo without a size
    group_size: int | None = None  # the number of ranks in every group; None if groups differ, or if it is absent
    not_of_nccl: int = 0  # kernels of all-reduces that are not NCCL's
    unnamed: int = 0  # calls without the name of their collective, which older versions of torch write
    unknown: Counter[str] = field(default_factory=Counter)  # names of collectives that this module does not know


def read(unpacked: Unpacked, file: str) -> list[Recording]:
    """Return the recording of the one rank of a trace."""
    sizes = {*numbers_before(unpacked.head, "pg_size", "traceEvents")}
    trace = _Trace(
        rank=number_before(unpacked.head, "rank", "traceEvents"), group_size=sizes.pop() if len(sizes) == 1 else None
    )
    for event in unpacked.items("traceEvents.item"):
        if isinstance(event, dict):
            _read_event(trace, event)
    return [
        Recording(
            source=SOURCE,
            file=file,
            rank=trace.rank,
            process=trace.process,
            calls=_calls(trace),
            launches=_launches(trace),
            remarks=_remarks(trace),
        )
    ]


def _read_event(trace: _Trace, event: dict[str, Any]) -> None:
    name = event.get("name")
    if not isinstance(name, str):
        return
    if name == _CALL:
        _read_call(trace, event)
    elif name.startswith(_GLOO):
        _read_call_of_gloo(trace, event, name)
    elif name.startswith("nccl") and text(event.get("cat")).lower() == "kernel":
        _read_kernel(trace, event, name)
    elif any(part in name for part in _FOREIGN) and text(event.get("cat")).lower() == "kernel":
        trace.not_of_nccl += 1
    elif "GraphLaunch" in name:
        number = whole(mapping(event.get("args")).get("correlation"))
        if number is not None:
            trace.graphs.add(number)


def _read_call(trace: _Trace, event: dict[str, Any]) -> None:
    fields = mapping(event.get("args"))
    if trace.process is None:
        trace.process = whole(event.get("pid"))
    if trace.rank is None:
        trace.rank = whole(fields.get("Rank"))
    name = text(fields.get("Collective name"))
    if not name:
        trace.unnamed += 1
    elif not is_no_collective(name):
        collective, element = collective_of(name), torch_type(text(fields.get("dtype")))
        if collective is None or element is None:
            trace.unknown[name if collective is None else f"{name} of {text(fields.get('dtype'))}"] += 1
            return
        message = message_of_tensors(
            collective,
            (whole(fields.get("In msg nelems")) or 0) * element.itemsize,
            (whole(fields.get("Out msg nelems")) or 0) * element.itemsize,
            whole(fields.get("Group size")),
            element.name,
            is_uneven(fields.get("In split size"), fields.get("Out split size")),
        )
        trace.calls.append((message, whole(fields.get("External id"))))


def _read_call_of_gloo(trace: _Trace, event: dict[str, Any], name: str) -> None:
    """Read a call of Gloo. Its event has the shapes of this rank's input tensors."""
    fields = mapping(event.get("args"))
    trace.process = whole(event.get("pid")) if trace.process is None else trace.process
    collective = collective_of(name)
    element = torch_type(text(next(iter(sequence(fields.get("Input type"))), None)))
    given = elements(fields.get("Input Dims"))
    if collective is None:
        trace.unknown[name] += 1
    elif element is None or not given:
        trace.of_gloo_unsized += 1
    else:
        in_bytes = given * element.itemsize
        trace.of_gloo.append(message_of_tensors(collective, in_bytes, 0, trace.group_size, element.name))


def _read_kernel(trace: _Trace, event: dict[str, Any], name: str) -> None:
    fields = mapping(event.get("args"))
    stream = whole(fields.get("stream"))
    shown = "" if stream is None else str(stream)
    call = whole(fields.get("External id"))
    if call is not None:
        trace.streams[call] = shown
    if "Collective name" in fields:
        return
    time = event.get("ts")
    trace.kernels.append(
        _Kernel(
            time=float(time) if isinstance(time, int | float) else 0.0,
            correlation=whole(fields.get("correlation")),
            collective=kernel_collective(name),
            channels=whole(next(iter(sequence(fields.get("grid"))), None)),
            stream=shown,
            call=call,
        )
    )


def _calls(trace: _Trace) -> Counter[Call]:
    if _only_gloo(trace):
        return Counter(Call(message, Mode.EAGER, "") for message in trace.of_gloo)
    return Counter(Call(message, Mode.EAGER, trace.streams.get(number, "")) for message, number in trace.calls)


def _only_gloo(trace: _Trace) -> bool:
    """Return True if no call reached NCCL. In a program with NCCL, Gloo carries only messages between hosts."""
    return not trace.calls and not trace.kernels


def _launches(trace: _Trace) -> Counter[Launch]:
    """Return one launch for each launch of a graph, and one for each stream with the program's own kernels."""
    of_launch: dict[tuple[Mode, object], list[_Kernel]] = defaultdict(list)
    sized = {number for _, number in trace.calls if number is not None}
    for kernel in sorted(trace.kernels, key=lambda each: each.time):
        if kernel.call in sized:
            continue
        if kernel.correlation in trace.graphs:
            of_launch[Mode.GRAPH, kernel.correlation].append(kernel)
        else:
            of_launch[Mode.EAGER, kernel.stream].append(kernel)
    return Counter(
        Launch(
            mode,
            tuple(kernel.collective for kernel in kernels),
            tuple(kernel.channels for kernel in kernels),
            tuple(sorted({kernel.stream for kernel in kernels}, key=lambda name: (len(name), name))),
        )
        for (mode, _), kernels in of_launch.items()
    )


def _remarks(trace: _Trace) -> tuple[str, ...]:
    remarks = []
    without = sum(number not in trace.streams for _, number in trace.calls)
    if trace.streams and without:
        remarks.append(
            f"{without} of {len(trace.calls)} calls of torch.distributed have no kernel of NCCL: they were captured "
            "for a graph, or their group has one rank or another backend"
        )
    if trace.of_gloo and _only_gloo(trace):
        remarks.append("no call reached NCCL: these are the calls of Gloo")
    if trace.of_gloo_unsized and _only_gloo(trace):
        remarks.append(
            f"{trace.of_gloo_unsized} calls of Gloo have no size and are not counted: record the trace with "
            "record_shapes=True"
        )
    if trace.not_of_nccl:
        remarks.append(
            f"{trace.not_of_nccl} kernels of all-reduces are not NCCL's and are not counted: engines send small "
            "messages through kernels of their own"
        )
    if trace.unnamed:
        remarks.append(
            f"{trace.unnamed} records of torch.distributed have no name and no size: record the trace with torch 2.2 "
            "or newer"
        )
    return (*remarks, *left_out(trace.unknown))
