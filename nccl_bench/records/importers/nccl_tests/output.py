"""The content of one file of nccl-tests, JSON or table: rows, and the settings with which they were measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from nccl_bench.catalog.bounds import Bounds, TimeUs
from nccl_bench.catalog.collectives import Collective, Placement
from nccl_bench.catalog.timings import Timing
from nccl_bench.errors import RecordError
from nccl_bench.records.importers.imported import LibraryVersion, OverRanks
from nccl_bench.records.schema import PerIteration

# A float can hold every whole number up to this limit. No count of a real run is larger.
_LARGEST_COUNT = 2**53
# The times that a record can have. nccl-tests prints no more than six digits after the point.
_TIMES: Bounds = get_args(TimeUs)[1]
# The sentence about a number of wrong results that the rows do not explain.
WRONG_WITHOUT_ROW = "nccl-tests counted {} wrong results, and no complete row has them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The message sizes that the settings imply."""

    minimum: int  # the first size in bytes
    maximum: int  # the largest size in bytes
    step: int  # the factor or the bytes from one size to the next
    is_factor: bool  # True if the step is a factor


@dataclass(frozen=True, slots=True)
class Figure:
    """A number as nccl-tests printed it."""

    value: float  # the number
    step: float  # the value of one unit of its last digit


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementResult:
    """The results of one placement in a row."""

    time_us: Figure  # time per operation
    algbw_gb_s: Figure  # algorithm bandwidth, which nccl-tests computes from the time on the GPU
    busbw_gb_s: Figure  # bus bandwidth
    operations: int  # operations in the timed batch
    wrong: int | None  # wrong elements; None if nothing was checked
    per_iteration: PerIteration | None  # times of single operations; None without -I


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """A row of results."""

    where: str  # the place of the row in the file, such as "line 17"
    size_bytes: int  # the size of the message
    count: int  # the number of elements of one block
    dtype: str  # data type, by nccl-tests' name
    redop: str  # reduction, by nccl-tests' name; printed even for collectives that do not reduce
    root: int  # root rank; -1 if there is none
    results: Mapping[Placement, PlacementResult]  # results by placement; empty if the message is empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The content of one file. A field is ``None`` if this kind of file does not contain its value."""

    collective: Collective  # the collective that the program measures
    world_size: int  # the number of ranks
    processes: int  # the number of processes that ran the ranks
    timing: Timing  # timing, which follows from -G, -C and -z
    sizes: Sizes  # the message sizes that the settings imply
    cycles: int = 1  # times that each size is measured (-N)
    over_ranks: OverRanks | None = None  # rule for the time of all ranks; None also if the value of -a is unknown
    started: str | None = None  # start time in ISO 8601, without a time zone
    finished: str | None = None  # end time in ISO 8601; None also if nccl-tests did not finish
    library: LibraryVersion | None  # the library that the program called
    hostnames: tuple[str, ...]  # host name of each listed device
    gpus: tuple[str, ...]  # GPU model of each listed device
    variables: Mapping[str, str] | None = None  # NCCL's environment variables
    rows: tuple[ResultRow, ...]  # the complete rows
    left_out: tuple[str, ...]  # sentences about what is missing
    notes: tuple[str, ...] = ()  # sentences about what is unusual, or not read, although no result is missing


def timing_of(*, graph_launches: int, cpu_time: bool, blocking: bool) -> Timing:
    """Return the timing for nccl-tests' ``-G``, ``-C`` and ``-z``; raise ``RecordError`` if no timing fits."""
    if blocking:
        raise RecordError("its calls were blocking (-z), and nccl-bench has no such timing: measure without -z")
    if graph_launches and cpu_time:
        raise RecordError("it timed graph launches (-G with -C), and nccl-bench has no such timing: measure without -C")
    if cpu_time:
        return Timing.ENQUEUE
    return Timing.GRAPH if graph_launches else Timing.EAGER


def whole_number(value: object, where: str) -> int:
    """Return ``value`` as a count; raise ``RecordError`` with ``where`` if ``value`` is not a whole number."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= _LARGEST_COUNT:
        raise RecordError(f"{where} is not a whole number from 0")
    return value


def duration_us(value: object, where: str) -> float:
    """Return ``value`` as a time in microseconds; raise ``RecordError`` with ``where`` if ``value`` is no time."""
    if type(value) is int and value <= _LARGEST_COUNT:
        value = float(value)
    if type(value) is not float or not _TIMES.contain(value):
        raise RecordError(f"{where} is not a time in microseconds above 0")
    return value
