"""Reads the JSON lines that NCCL's inspector plugin writes: one line for each call, of one or several ranks."""

import json
from collections import Counter, defaultdict

from nccl_bench.errors import RecordError
from nccl_bench.traces.names import collective_of
from nccl_bench.traces.recording import Call, Mode, Recording, message_of_blocks
from nccl_bench.traces.streaming import Unpacked
from nccl_bench.traces.values import mapping, text, whole

SOURCE = "NCCL inspector"


def recognise(head: bytes) -> bool:
    """Return True if a file that begins with ``head`` is written by NCCL's inspector."""
    return head.lstrip().startswith(b"{") and b'"coll_perf"' in head


def read(unpacked: Unpacked, file: str) -> list[Recording]:
    """Return a recording for each rank of the file."""
    calls: dict[tuple[int | None, int | None], Counter[Call]] = defaultdict(Counter)
    malformed = 0
    for line in unpacked.lines():
        if not line.strip():
            continue
        try:
            fields = mapping(json.loads(line))
        except (ValueError, RecursionError):
            malformed += 1
            continue
        if "coll_perf" not in fields:
            continue
        header, perf = mapping(fields.get("header")), mapping(fields["coll_perf"])
        collective = collective_of(text(perf.get("coll")))
        size = whole(perf.get("coll_msg_size_bytes"))
        # The plugin's size is the count of NCCL's call times the size of an element.
        message = (
            message_of_blocks(collective, size, 1, whole(header.get("n_ranks")), None)
            if collective is not None and size is not None
            else None
        )
        if message is None:
            malformed += 1
            continue
        process = whole(mapping(fields.get("metadata")).get("pid"))
        calls[whole(header.get("rank")), process][Call(message, Mode.UNKNOWN, "")] += 1
    if not calls:
        raise RecordError(f"it has no line of a call that can be read; {malformed} lines are damaged")
    remarks = (f"{malformed} lines are left out: they are damaged, or have an unknown collective",) if malformed else ()
    return [
        Recording(source=SOURCE, file=file, rank=rank, process=process, calls=of_rank, remarks=remarks)
        for (rank, process), of_rank in calls.items()
    ]
