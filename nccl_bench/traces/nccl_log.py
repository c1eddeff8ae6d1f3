"""Reads the log of NCCL with the subsystems COLL and TUNING.

``NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=COLL,TUNING`` makes NCCL write one line for each call. A graph's calls are there
once, from the time when they were captured. One file can hold the lines of several ranks.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from nccl_bench.traces.names import collective_of, nccl_type
from nccl_bench.traces.recording import Call, Message, Mode, Recording, message_of_blocks
from nccl_bench.traces.streaming import Unpacked

SOURCE = "NCCL log"
_MARK = b"NCCL INFO "
# node0:961:961 [0] NCCL INFO AllReduce: opCount 0 sendbuff ...
_PROCESS = re.compile(rb"(\S{1,255}):(\d{1,9}):\d{1,9} \[(\d{1,4})\] $")
_CALL = re.compile(
    rb"(\w{1,30}): opCount [0-9a-f]{1,16} sendbuff \S{1,20} recvbuff \S{1,20} count (\d{1,18}) datatype (\d{1,2}) "
    rb"op \d{1,10} root -?\d{1,9} comm (\S{1,20}) \[nranks=(\d{1,7})\] stream (\S{1,20})"
)


@dataclass(slots=True)
class _Process:
    """What was read of one process so far."""

    device: int  # the number of the GPU in the process's prefix
    calls: Counter[Call] = field(default_factory=Counter)  # calls, and how often each was made
    # (communicator, stream) -> the messages in order.
    sequences: dict[tuple[str, str], list[Message]] = field(default_factory=lambda: defaultdict(list))


def recognise(head: bytes) -> bool:
    """Return True if a file that begins with ``head`` is a log with lines of NCCL."""
    return _MARK in head


def read(unpacked: Unpacked, file: str) -> list[Recording]:
    """Return a recording for each process of the log that called NCCL."""
    processes: dict[tuple[bytes, int], _Process] = {}
    unreadable = 0
    for line in unpacked.lines():
        prefix, mark, rest = line.partition(_MARK)
        if not mark or b"opCount" not in rest:
            continue
        found, call = _PROCESS.search(prefix[-300:]), _CALL.match(rest)
        message = call and _message(call[1], int(call[2]), int(call[3]), int(call[5]))
        if found is None or call is None or message is None:
            unreadable += 1
            continue
        process = processes.setdefault((found[1], int(found[2])), _Process(device=int(found[3])))
        stream = call[6].decode(errors="replace")
        process.calls[Call(message, Mode.UNKNOWN, stream)] += 1
        process.sequences[call[4].decode(errors="replace"), stream].append(message)
    devices = Counter(process.device for process in processes.values())
    lacks = tuple(_remarks(unreadable, bool(processes)))
    return [
        Recording(
            source=SOURCE,
            file=file,
            # On one node, the number of the GPU is the rank.
            rank=process.device if len(processes) > 1 and devices[process.device] == 1 else None,
            process=number,
            calls=process.calls,
            sequences=process.sequences,
            remarks=lacks,
        )
        for (_, number), process in processes.items()
    ] or [Recording(source=SOURCE, file=file, remarks=lacks)]


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
        yield "it has no line of a call: run the program with NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=COLL,TUNING"
