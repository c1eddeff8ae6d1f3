"""Workloads: the messages that a model sends in a number of steps, as a TOML file. No torch."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from nccl_bench.catalog.bounds import AtLeastOne, Count, Size
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.options import refuse_unknown_keys
from nccl_bench.config.parsers import one_of
from nccl_bench.config.toml import read_toml
from nccl_bench.errors import UsageError

# The most bytes of a workload, which has a line for each different message.
MOST_BYTES = 1024**2
# How a message can be sent: the timings that a model's own calls have.
TIMINGS = (Timing.EAGER, Timing.GRAPH)
_LARGEST: Mapping[str, int] = {
    name: int(get_args(annotation)[1].most)
    for name, annotation in {"size_bytes": Size, "ranks": AtLeastOne, "count": Count, "steps": AtLeastOne}.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadMessage:
    """A message of a workload."""

    collective: str  # a name of the catalog
    dtype: str  # a name of the catalog
    size_bytes: int  # the size as nccl-tests counts it: the larger of what one rank sends and receives
    ranks: int  # the number of ranks in the group
    timing: Timing  # how the calls are made: eager or graph
    count: int  # the number of calls in all steps together


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The messages that one rank sends in some steps of a model."""

    messages: tuple[WorkloadMessage, ...]  # different messages
    steps: int = 1  # the number of steps that the counts belong to
    source: tuple[str, ...] = ()  # the names of the files that the messages were read from


def read_workload(path: Path) -> Workload:
    """Return the workload in a TOML file; raise ``UsageError`` if the file is missing or malformed."""
    values = read_toml(path, MOST_BYTES)
    refuse_unknown_keys(values, ("messages", "steps", "source"), str(path))
    tables, source = values.get("messages"), values.get("source", [])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{path} has no messages: give a list of tables, `messages = [{{collective = ...}}]`")
    if not isinstance(source, list) or not all(isinstance(name, str) for name in source):
        raise UsageError(f"{path} has the source {source!r}: give a list of names of files")
    return Workload(
        messages=tuple(_message(table, f"{path}, message {number}") for number, table in enumerate(tables, start=1)),
        steps=parse_number("steps", values.get("steps", 1), f"{path}: steps"),
        source=tuple(source),
    )


def parse_number(key: str, value: object, name: str) -> int:
    """Return ``value`` as the number ``key`` of a workload, such as ``steps``; messages call it ``name``.

    Raises ``UsageError`` if ``value`` is no such number.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LARGEST[key]:
        raise UsageError(f"{name} is {value!r}: give a whole number from 1 to {_LARGEST[key]:,}")
    return value


def workload_text(workload: Workload) -> str:
    """Return ``workload`` as TOML, from which ``read_workload`` reads an equal workload.

    Raises ``UsageError`` if there are more messages than ``read_workload`` reads.
    """
    lines = [
        "# The messages that one rank of a model sends, and how often in all steps together.",
        f"source = {_toml(list(workload.source))}",
        f"steps = {workload.steps}",
        "messages = [",
        *(f"    {{ {_pairs(asdict(message).items())} }}," for message in workload.messages),
        "]",
    ]
    text = "\n".join(lines) + "\n"
    if len(text) > MOST_BYTES:
        raise UsageError(
            f"the workload has {len(workload.messages):,} different messages, and a file of {MOST_BYTES:,} bytes holds "
            "fewer: record fewer steps"
        )
    return text


def _message(table: Mapping[str, object], where: str) -> WorkloadMessage:
    names = tuple(WorkloadMessage.__dataclass_fields__)
    refuse_unknown_keys(table, names, where)
    missing = [name for name in names if name not in table]
    if missing:
        raise UsageError(f"{where} has no {missing[0]}: give {', '.join(names)}")
    return WorkloadMessage(
        collective=one_of(f"{where}: collective", table["collective"], COLLECTIVES),
        dtype=one_of(f"{where}: dtype", table["dtype"], DTYPES),
        timing=one_of(f"{where}: timing", table["timing"], TIMINGS),
        **{key: parse_number(key, table[key], f"{where}: {key}") for key in ("size_bytes", "ranks", "count")},
    )


def _pairs(values: Iterable[tuple[str, object]]) -> str:
    return ", ".join(f"{name} = {_toml(value)}" for name, value in values)


def _toml(value: object) -> str:
    # The strings of JSON are those of TOML, except for one control character, which JSON does not escape.
    return json.dumps(value).replace("\x7f", "\\u007f")
