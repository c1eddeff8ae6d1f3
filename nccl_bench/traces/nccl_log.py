"""Reads the log of NCCL with the subsystems COLL and TUNING.

``NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=COLL,TUNING`` makes NCCL write one line for each call. The log has a graph's
calls once, from the capture. One file can hold the lines of several ranks.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from nccl_bench.records.kernels import Kernel
from nccl_bench.traces.names import collective_of, nccl_type
from nccl_bench.traces.nccl_kernels import MARK, kernel_line
from nccl_bench.traces.recording import Call, Message, Mode, Recording, message_of_blocks
from nccl_bench.traces.streaming import Unpacked

SOURCE = "NCCL log"
# The variables with which NCCL writes such a log.
VARIABLES = "NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=COLL,TUNING"
# node0:961:961 [0] NCCL INFO AllReduce: opCount 0 sendbuff ...
_PROCESS = re.compile(rb"(\S{1,255}):(\d{1,9}):\d{1,9} \[(\d{1,4})\] $")
_CALL = re.compile(
    rb"(\w{1,30}): opCount [0-9a-f]{1,16} sendbuff \S{1,20} recvbuff \S{1,20} count (\d{1,18}) datatype (\d{1,2}) "
    rb"op \d{1,10} root -?\d{1,9} comm (\w{1,20}) \[nranks=(\d{1,7})\] stream (\w{1,20}|\(nil\))"
)


@dataclass(slots=True)
class _Process:
    """The lines of one process that have been read so far."""

    device: int  # the number of the GPU in the process's prefix
    calls: Counter[Call] = field(default_factory=Counter)  # calls, and how often each was made
    # (communicator, stream) -> the messages in order.
    sequences: dict[tuple[str, str], list[Message]] = field(default_factory=lambda: defaultdict(list))
    # (function, bytes) -> the message of the last such call; a line about a kernel names no more than these two.
    last: dict[tuple[bytes, int], Message] = field(default_factory=dict)
    kernels: dict[Message, set[Kernel]] = field(default_factory=lambda: defaultdict(set))  # the kernels that NCCL ran


def recognise(head: bytes) -> bool:
    """Return True if a file that begins with ``head`` is a log with lines of NCCL."""
    return MARK in head


def read(unpacked: Unpacked, file: str) -> list[Recording]:
    """Return a recording for each process of the log that called NCCL."""
    processes: dict[tuple[bytes, int], _Process] = {}
    unreadable = 0
    for line in unpacked.lines():
        prefix, mark, rest = line.partition(MARK)
        if not mark or not (b"opCount" in rest or b"Bytes ->" in rest):
            continue
        match = _PROCESS.search(prefix[-300:])
        process = match and processes.setdefault((match[1], int(match[2])), _Process(device=int(match[3])))
        if process is None or not (_read_kernel(process, rest) or _read_call(process, rest)):
            unreadable += 1
    called = {key: process for key, process in processes.items() if process.calls}
    devices = Counter(process.device for process in called.values())
    remarks = tuple(_remarks(unreadable, bool(called)))
    return [
        Recording(
            source=SOURCE,
            file=file,
            # On one node, the number of the GPU is the rank.
            rank=process.device if len(called) > 1 and devices[process.device] == 1 else None,
            process=number,
            calls=process.calls,
            sequences=process.sequences,
            kernels=process.kernels,
            remarks=remarks,
        )
        for (_, number), process in called.items()
    ] or [Recording(source=SOURCE, file=file, remarks=remarks)]


def _read_call(process: _Process, text: bytes) -> bool:
    """Add the call in ``text`` to ``process``; return False if it cannot be read."""
    call = _CALL.match(text)
    if call is None:
        return False
    function, count, datatype = call[1], int(call[2]), int(call[3])
    message, element = _message(function, count, datatype, int(call[5])), nccl_type(datatype)
    if message is None or element is None:
        return False
    stream = call[6].decode(errors="replace")
    process.calls[Call(message, Mode.UNKNOWN, stream)] += 1
    process.sequences[call[4].decode(errors="replace"), stream].append(message)
    process.last[function, count * element.itemsize] = message
    return True


def _read_kernel(process: _Process, text: bytes) -> bool:
    """Add the kernel in ``text`` to ``process``; return False if there is none."""
    line = kernel_line(text)
    if line is None:
        return False
    message = process.last.get((line.function, line.size_bytes))
    # Without COLL, a log has kernels but no calls.
    if message is not None:
        process.kernels[message].add(line.kernel)
    return True


@lru_cache(maxsize=4096)
def _message(function: bytes, count: int, datatype: int, ranks: int) -> Message | None:
    collective, element = collective_of(function.decode(errors="replace")), nccl_type(datatype)
    if collective is None or element is None or ranks < 1:
        return None
    return message_of_blocks(collective, count, element.itemsize, ranks, element.name)


def _remarks(unreadable: int, has_calls: bool) -> Iterator[str]:
    if unreadable:
        yield f"{unreadable} lines of calls are left out: they are damaged, or have an unknown collective or data type"
    if not has_calls:
        yield f"it has no line of a call: run the program with {VARIABLES}"
