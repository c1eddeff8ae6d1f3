"""Workloads: the messages that a model sends in a number of steps, as a TOML file. No torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from nccl_bench.catalog.bounds import AtLeastOne, Count, Name, Size
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.devices import DeviceSpec
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.options import Option, listed, refuse_unknown_keys
from nccl_bench.config.parsers import one_of
from nccl_bench.config.sizes import unique
from nccl_bench.config.toml import read_toml
from nccl_bench.errors import RecordError, UsageError

# The most bytes of a workload, which has a line for each different message.
MOST_BYTES = 1024**2
# The most messages of a workload. A record can hold this many.
MOST_MESSAGES = 10_000
# How a message can be sent: the timings that a model's own calls have.
TIMINGS = (Timing.EAGER, Timing.GRAPH)
_LARGEST: Mapping[str, int] = {
    name: int(get_args(annotation)[1].most)
    for name, annotation in {"size_bytes": Size, "ranks": AtLeastOne, "count": Count, "steps": AtLeastOne}.items()
}
# The most characters of a text.
_LONGEST: int = get_args(Name)[1].longest


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadMessage:
    """A message of a workload."""

    collective: str  # a name of the catalog
    dtype: str  # a name of the catalog
    size_bytes: int  # the size as nccl-tests counts it: the larger of what one rank sends and receives
    ranks: int  # the number of ranks in the group
    timing: Timing  # how the calls are made: eager or graph
    count: int  # the number of calls in all steps together
    reason: str = ""  # the place in the model that makes the calls; empty if that is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The messages that one rank sends in some steps of a model."""

    messages: tuple[WorkloadMessage, ...]  # different messages
    steps: int = 1  # the number of steps that the counts belong to
    source: tuple[str, ...] = ()  # the files that the messages were read from, or the model that sends them
    remarks: tuple[str, ...] = ()  # texts about calls of the model that the messages do not have

    @property
    def calls_by_message(self) -> dict[tuple[object, ...], float]:
        """The number of calls in one step, for each message. Workloads with equal numbers send the same messages."""
        calls: dict[tuple[object, ...], float] = {}
        for each in self.messages:
            message = (each.collective, each.dtype, each.size_bytes, each.ranks, each.timing)
            calls[message] = calls.get(message, 0) + each.count / self.steps
        return calls

    @property
    def calls(self) -> int:
        """The number of calls in all steps together."""
        return sum(message.count for message in self.messages)

    @property
    def options(self) -> dict[str, object]:
        """The values of the options of a run that the messages decide."""
        return {
            "sizes": unique(message.size_bytes for message in self.messages),
            "collectives": unique(message.collective for message in self.messages),
            "dtypes": unique(message.dtype for message in self.messages),
            "timings": tuple(timing for timing in TIMINGS if any(each.timing is timing for each in self.messages)),
        }


def parse_workload(name: str, value: object, _device: DeviceSpec) -> Workload:
    """Return the workload of the option ``name``. ``value`` is the path of a file, plain data or a workload."""
    if isinstance(value, Workload):
        return value
    if isinstance(value, Mapping):
        return workload_of(value, name)
    if isinstance(value, str | Path):
        return read_workload(Path(value))
    raise UsageError(f"{name} is {value!r}: give a TOML file of messages, as nccl-bench trace --out writes it")


def read_workload(path: Path) -> Workload:
    """Return the workload in a TOML file; raise ``UsageError`` if the file is missing or malformed."""
    return workload_of(read_toml(path, MOST_BYTES), str(path))


def workload_of(values: Mapping[str, object], where: str) -> Workload:
    """Return the workload in plain data, which messages call ``where``; raise ``UsageError`` if it is malformed."""
    refuse_unknown_keys(values, Workload.__dataclass_fields__, where)
    tables = values.get("messages")
    if not isinstance(tables, list | tuple) or not tables or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{where} has no messages: give a list of tables, `messages = [{{collective = ...}}]`")
    if len(tables) > MOST_MESSAGES:
        raise UsageError(f"{where} has {len(tables):,} messages: give at most {MOST_MESSAGES:,}")
    return Workload(
        messages=tuple(_message(table, f"{where}, message {number}") for number, table in enumerate(tables, start=1)),
        steps=parse_number("steps", values.get("steps", 1), f"{where}: steps"),
        **{key: _texts(values.get(key, []), f"{where}: {key}") for key in ("source", "remarks")},
    )


def recorded_workload(config: Mapping[str, Any], where: str) -> Workload | None:
    """Return the workload in the ``config`` of a ``run.json``; ``None`` for a run without one.

    Raises ``RecordError`` if it is malformed; messages call the run ``where``.
    """
    values = config.get("workload")
    try:
        return None if values is None else workload_of(values, "its workload")
    except UsageError as error:
        raise RecordError(f"{where} cannot be summed up: {error}") from error


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
        *([f"remarks = {_toml(list(workload.remarks))}"] if workload.remarks else []),
        f"steps = {workload.steps}",
        "messages = [",
        *(f"    {{ {_pairs(asdict(message))} }}," for message in workload.messages),
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
    keys = WorkloadMessage.__dataclass_fields__
    refuse_unknown_keys(table, keys, where)
    needed = [name for name, key in keys.items() if key.default is MISSING]
    missing = [name for name in needed if name not in table]
    if missing:
        raise UsageError(f"{where} has no {missing[0]}: give {', '.join(needed)}")
    return WorkloadMessage(
        collective=one_of(f"{where}: collective", table["collective"], COLLECTIVES),
        dtype=one_of(f"{where}: dtype", table["dtype"], DTYPES),
        timing=one_of(f"{where}: timing", table["timing"], TIMINGS),
        **{key: parse_number(key, table[key], f"{where}: {key}") for key in ("size_bytes", "ranks", "count")},
        reason=_text(table.get("reason", ""), f"{where}: reason"),
    )


def _texts(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise UsageError(f"{name} is {value!r}: give a list of texts")
    return tuple(_text(each, name) for each in value)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise UsageError(f"{name} is {value!r}: give a text of at most {_LONGEST:,} characters")
    return value


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} = {_toml(value)}" for name, value in values.items() if value != "")


def _toml(value: object) -> str:
    # The strings of JSON are valid in TOML, with two exceptions. JSON does not escape DEL, and writes two escapes for a
    # character such as an emoji. A file name that is not UTF-8 has halves of characters, which TOML cannot hold.
    text = json.dumps(value, ensure_ascii=False).encode(errors="replace").decode()
    return "".join(each if each.isascii() and each != "\x7f" else f"\\U{ord(each):08x}" for each in text)


def refuse_options_beside_workload(
    values: Mapping[str, Any],
    layers: Sequence[Mapping[str, object]],
    options: Mapping[str, Option],
    spellings: Mapping[str, str],
) -> None:
    """Raise ``UsageError`` for an option that contradicts the workload."""

    def spelled(name: str) -> str:
        return spellings.get(name, options[name].label)

    for name, measured in values["workload"].options.items():
        if values[name] != measured and any(layer.get(name) is not None for layer in layers):
            raise UsageError(
                f"{spelled(name)} is given beside a workload, whose messages decide what is measured: "
                "leave one of them out"
            )
    for name in ("redops", "placements"):
        if len(values[name] or ()) > 1:
            raise UsageError(
                f"{spelled(name)} is {listed(values[name])}, and each message of a workload is measured once: give one"
            )
    if values["cost_split"]:
        raise UsageError(
            f"{spelled('cost_split')} is given beside a workload, and the parts of a call are those of "
            f"{Timing.ENQUEUE}, which a workload does not have: leave it out"
        )
