"""Reads a ``summary.csv``, which holds the medians of a run. The run's directory is not needed."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nccl_bench.catalog.cases import CASE_SETTINGS, Case, Scenario
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.timings import Timing
from nccl_bench.errors import RecordError
from nccl_bench.records.decoding import read_text
from nccl_bench.records.schema import Crash, Hang, Skipped, Status

# The format of numbers in the file. Before you compare other times with times of the file, round them with this format.
NUMBERS = "%.8g"
# Today's summaries have fewer than a hundred columns.
MOST_COLUMNS = 1000
_STATUSES = (*Status, Skipped.kind, Hang.kind, Crash.kind)
_NEEDED = (
    *("scenario", "collective", "dtype", "redop", "placement", "root", "size_bytes", "count"),
    *("world_size", "arm", "timing", "status", "time_us", "baseline"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryMedians:
    """The content of a ``summary.csv``."""

    baseline: str  # the name of the baseline's arm
    world_size: int  # the number of ranks
    times_us: Mapping[tuple[Case, Timing, str], float]  # median time per operation, by case, timing and arm
    # The placement of the arm's calls, by case, timing and arm. Absent in files older than schema 5, where it is the
    # placement of the case.
    placements: Mapping[tuple[Case, Timing, str], Placement]
    left_out: Mapping[str, int]  # status -> number of rows without a time; `ok` means that no batch was kept


def read_summary(path: Path) -> SummaryMedians:
    """Return the medians in ``path``; raise ``RecordError`` with the line, the value and what is allowed."""
    reader = csv.DictReader(read_text(path).splitlines(), strict=True)
    times: dict[tuple[Case, Timing, str], float] = {}
    placements: dict[tuple[Case, Timing, str], Placement] = {}
    baselines: dict[str, None] = {}
    world_sizes: dict[int, None] = {}
    left_out: Counter[str] = Counter()
    try:
        if len(reader.fieldnames or ()) > MOST_COLUMNS:
            raise RecordError(
                f"{path} is not a summary of nccl-bench: it has {len(reader.fieldnames or ()):,} columns, and the most "
                f"are {MOST_COLUMNS:,}"
            )
        missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
        if missing:
            raise RecordError(f"{path} is not a summary of nccl-bench: it has no column {', '.join(missing)}")
        for row in reader:
            # DictReader stores surplus cells under the key None, and gives missing cells the value None.
            if None in row or None in row.values():
                raise ValueError(f"the line must have {len(reader.fieldnames or ())} cells, one for each column")
            _one_of(row["status"], _STATUSES, "status")
            if row["status"] != Status.OK or not row["time_us"]:
                left_out[row["status"]] += 1
                continue
            key = (_case(row), Timing(_one_of(row["timing"], Timing, "timing")), row["arm"])
            if key in times:
                raise ValueError(f"{row['arm']!r} has {key[0].label} {row['timing']} twice")
            times[key] = _positive(row["time_us"])
            if placement := row.get("arm_placement"):
                placements[key] = Placement(_one_of(placement, Placement, "arm_placement"))
            baselines[row["baseline"]] = None
            world_sizes[_whole(row, "world_size", 1)] = None
    except (csv.Error, ValueError) as error:
        raise RecordError(f"{path}, line {reader.line_num}: {error}") from error
    if not times:
        raise RecordError(f"{path} has no measured row")
    if len(baselines) > 1 or len(world_sizes) > 1:
        raise RecordError(
            f"{path} holds several runs: it has {len(baselines)} baselines and {len(world_sizes)} world sizes, "
            "and a summary of one run has one of each"
        )
    return SummaryMedians(
        baseline=next(iter(baselines)),
        world_size=next(iter(world_sizes)),
        times_us=times,
        placements=placements,
        left_out=dict(left_out),
    )


def _case(row: Mapping[str, str]) -> Case:
    return Case(
        scenario=Scenario(_one_of(row["scenario"], Scenario, "scenario")),
        collective=_one_of(row["collective"], COLLECTIVES, "collective"),
        dtype=_one_of(row["dtype"], DTYPES, "dtype"),
        redop=RedOp(_one_of(row["redop"], RedOp, "redop")) if row["redop"] else None,
        placement=Placement(_one_of(row["placement"], Placement, "placement")),
        root=_whole(row, "root", 0) if row["root"] else None,
        size_bytes=_whole(row, "size_bytes", 1),
        count=_whole(row, "count", 1),
        # Older summaries have no columns of scenarios.
        **{name: _whole(row, name, 0) for name in CASE_SETTINGS if row.get(name)},
    )


def _one_of(text: str, known: Iterable[str], name: str) -> str:
    if text not in list(known):
        raise ValueError(f"{name} is {text!r}: known are {', '.join(known)}")
    return text


def _whole(row: Mapping[str, str], name: str, least: int) -> int:
    text = row[name]
    # int() also accepts 1_0 and the digits of other scripts, and refuses texts of thousands of digits.
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) >= least):
        raise ValueError(f"{name} is {text!r}: it has to be a whole number from {least}")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"time_us is {text!r}: a time is a number above 0")
    return value
