"""The memory in use, and what a snapshot of torch's allocator says about stranded memory."""

from __future__ import annotations

from typing import Any

import pytest

from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.streams.memory_use import resident_bytes, stranded_bytes

CALLER, PRIVATE = 0x100, 0x200
MIB = 1024**2


def segment(stream: int, **blocks: int) -> dict[str, Any]:
    """Return a segment of ``stream`` with a block in each of the states."""
    return {"stream": stream, "blocks": [{"size": size, "state": state} for state, size in blocks.items()]}


@pytest.mark.parametrize(
    ("segments", "stranded"),
    [
        ([], 0),
        # The caller's stream can have its own free blocks.
        ([segment(CALLER, active_allocated=5, inactive=7)], 0),
        ([segment(CALLER, active_allocated=5, active_pending_free=3, inactive=7)], 3),
        ([segment(PRIVATE, active_allocated=5, inactive=7)], 7),
        ([segment(PRIVATE, active_pending_free=2, inactive=7), segment(CALLER, active_pending_free=1)], 10),
    ],
)
def test_stranded_is_what_the_callers_stream_cannot_have(segments: list[dict[str, Any]], stranded: int) -> None:
    assert stranded_bytes(segments, CALLER) == stranded


def test_the_resident_memory_grows_with_what_is_written() -> None:
    before = resident_bytes()
    written = bytearray(b"x" * (64 * MIB))
    after = resident_bytes()
    assert before is not None
    assert after is not None
    assert after - before > len(written) // 2


def test_the_cpu_has_no_memory_of_a_device_and_no_allocator_that_strands_any() -> None:
    streams = CpuStreams()
    assert streams.memory_use().device_bytes is None
    assert streams.stranded_bytes() is None
