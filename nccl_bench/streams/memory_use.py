"""The memory that a process uses, and the free memory that the caller's stream cannot use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nccl_bench.records.environment import proc_fields

# The state of a freed block whose memory another stream may still use (torch, CUDACachingAllocator).
_PENDING = "active_pending_free"
_FREE = "inactive"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """The memory that is used at one time, in bytes."""

    device_bytes: int | None  # used memory of the device, without the memory of torch's allocator; None on the CPU
    host_bytes: int | None  # resident memory of this process; None if the system does not report it


def resident_bytes() -> int | None:
    """Return the resident memory of this process (proc(5), ``VmRSS``); ``None`` if the system does not report it."""
    text = proc_fields(Path("/proc/self/status")).get("VmRSS", "").partition(" ")[0]
    return int(text) * 1024 if text.isdigit() else None


def stranded_bytes(segments: Iterable[Mapping[str, Any]], stream: int) -> int:
    """Return the free bytes in ``segments`` that a tensor on the stream with this handle cannot use.

    ``segments`` are those of ``torch.cuda.memory_snapshot``. A tensor can use neither a freed block that
    another stream may still use, nor a free block that belongs to another stream.
    """
    return sum(
        block["size"]
        for segment in segments
        for block in segment["blocks"]
        if block["state"] == _PENDING or (block["state"] == _FREE and segment["stream"] != stream)
    )
