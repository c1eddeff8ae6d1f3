"""What one file of nccl-tests says, in whichever form: its rows, and what stands around them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.timings import Timing
from nccl_bench.errors import RecordError
from nccl_bench.records.schema import PerIteration

FOREIGN = "it is no output of nccl-tests: give its JSON (-J) or all that it prints"
# Up to here a float holds every whole number; no count of a real run is beyond it.
_MOST = 2**53
# nccl-tests prints no more digits, and half of one is no time.
_SHORTEST_US = 1e-6


class OverRanks(StrEnum):
    """What a time is of those of the ranks, in the order of nccl-tests' ``-a``; nccl-bench's are ``MAXIMUM``."""

    FIRST = "rank 0"
    AVERAGE = "average"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """One placement of a row. ``time_us`` is per operation, ``operations`` those in the timed batch."""

    time_us: float
    operations: int
    wrong: int | None
    per_iteration: PerIteration | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One row of results, ``dtype`` and ``redop`` by nccl-tests' names; no ``halves`` where the message is empty."""

    size_bytes: int
    count: int
    dtype: str
    redop: str
    root: int
    halves: Mapping[Placement, Half]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One file. ``None`` is what this form does not tell; ``left_out`` says what was not whole."""

    program: str
    world_size: int
    timing: Timing
    over_ranks: OverRanks | None
    started: str | None
    finished: str | None
    nccl_version: int | None
    hostnames: tuple[str, ...]
    gpus: tuple[str, ...]
    variables: Mapping[str, str] | None
    rows: tuple[ResultRow, ...]
    left_out: tuple[str, ...]


def timing_of(*, graph_launches: int, cpu_time: bool, blocking: bool) -> Timing:
    """The timing that nccl-tests' ``-G``, ``-C`` and ``-z`` make; raises ``RecordError`` where it is none of ours."""
    if blocking:
        raise RecordError("every call was waited for (-z), which is none of nccl-bench's timings: measure without -z")
    if graph_launches and cpu_time:
        raise RecordError("the times are those of launching graphs (-G with -C), which is none of nccl-bench's timings")
    if cpu_time:
        return Timing.ENQUEUE
    return Timing.GRAPH if graph_launches else Timing.EAGER


def whole_number(value: object, where: str) -> int:
    """``value`` as a count, however it was written; raises ``RecordError`` naming ``where``."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= _MOST:
        raise RecordError(f"{where} is not a whole number from 0")
    return value


def duration_us(value: object, where: str) -> float:
    """``value`` as a time in microseconds; raises ``RecordError`` naming ``where``."""
    if type(value) is int and value <= _MOST:
        value = float(value)
    if type(value) is not float or not _SHORTEST_US <= value < math.inf:
        raise RecordError(f"{where} is not a time in microseconds above 0")
    return value
