"""Reading a ``summary.csv``: the medians of a run, where its directory is not at hand. No torch, no pandas."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.timings import Timing
from nccl_bench.errors import RecordError
from nccl_bench.records.schema import Crash, Hang, Skipped, Status

# How the file has a number; whoever compares its times with others has to round those too.
NUMBERS = "%.8g"
_STATUSES = (*Status, Skipped.kind, Hang.kind, Crash.kind)
_NEEDED = (
    *("scenario", "collective", "dtype", "redop", "placement", "root", "size_bytes", "count"),
    *("world_size", "arm", "timing", "status", "time_us", "baseline"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Medians:
    """``times_us`` by case, timing and arm; ``left_out`` counts the rows without one by status, ``ok`` among them."""

    baseline: str
    world_size: int
    times_us: Mapping[tuple[Case, Timing, str], float]
    left_out: Mapping[str, int]


def read_summary(path: Path) -> Medians:
    """The medians in ``path``; raises ``RecordError`` with the line, what was got and what is needed."""
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise RecordError(f"{path} cannot be read: {reason}") from error
    reader = csv.DictReader(text.splitlines(), strict=True)
    times: dict[tuple[Case, Timing, str], float] = {}
    baselines: dict[str, None] = {}
    world_sizes: dict[int, None] = {}
    left_out: Counter[str] = Counter()
    try:
        missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
        if missing:
            raise RecordError(f"{path} is no summary of nccl-bench: it has no column {', '.join(missing)}")
        for row in reader:
            # Cells beyond the header's, and those that are missing, are under, or are, None.
            if None in row or None in row.values():
                raise ValueError(f"it does not have {len(reader.fieldnames or ())} cells as the first line does")
            _one_of(row["status"], _STATUSES, "status")
            if row["status"] != Status.OK or not row["time_us"]:
                left_out[row["status"]] += 1
                continue
            key = (_case(row), Timing(_one_of(row["timing"], Timing, "timing")), row["arm"])
            if key in times:
                raise ValueError(f"{row['arm']!r} has {key[0].label} {row['timing']} twice")
            times[key] = _positive(row["time_us"])
            baselines[row["baseline"]] = None
            world_sizes[_whole(row, "world_size", 1)] = None
    except (csv.Error, ValueError) as error:
        raise RecordError(f"{path}, line {reader.line_num}: {error}") from error
    if not times:
        raise RecordError(f"{path} has no measured row")
    if len(baselines) > 1 or len(world_sizes) > 1:
        raise RecordError(f"{path} is of several runs: {len(baselines)} baselines, {len(world_sizes)} world sizes")
    return Medians(
        baseline=next(iter(baselines)), world_size=next(iter(world_sizes)), times_us=times, left_out=dict(left_out)
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
    )


def _one_of(text: str, known: Iterable[str], name: str) -> str:
    if text not in list(known):
        raise ValueError(f"{name} is {text!r}: known are {', '.join(known)}")
    return text


def _whole(row: Mapping[str, str], name: str, least: int) -> int:
    text = row[name]
    # Python reads 1_0 and other scripts' digits as well, and refuses thousands of them.
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
