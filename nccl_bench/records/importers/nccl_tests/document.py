"""nccl-tests' JSON (``-J``), as its src/util.cu writes it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from nccl_bench.catalog.collectives import Placement
from nccl_bench.errors import RecordError
from nccl_bench.records.environment import allowed
from nccl_bench.records.importers.nccl_tests.output import (
    FOREIGN,
    Half,
    Output,
    OverRanks,
    ResultRow,
    duration_us,
    timing_of,
    whole_number,
)
from nccl_bench.records.schema import PerIteration, shown

# Its JSON_FILE_VERSION.
NEWEST_VERSION = 3
_HALVES = {Placement.OUT_OF_PLACE: "out_of_place", Placement.IN_PLACE: "in_place"}
_KINDS = {str: "text", list: "a list", dict: "an object"}
_Kind = TypeVar("_Kind", str, list[Any], dict[str, Any])


def read_document(value: object) -> Output:
    """The JSON ``value``; raises ``RecordError`` naming the field that is not as nccl-tests writes it."""
    document = _Object({"": value}, "").object("")
    if not {"version", "config", "results"} <= document.fields.keys():
        raise RecordError(FOREIGN)
    version = document.count("version")
    if version > NEWEST_VERSION:
        raise RecordError(
            f"it has version {version} of nccl-tests' JSON, and this nccl-bench reads up to {NEWEST_VERSION}: import "
            "the printed table instead"
        )
    config = document.object("config")
    results = document.objects("results")
    # A test that fails closes its JSON where it stands; the number of iterations is the last measure of a row.
    whole = [result for result in results if "actual_iterations" in result.fields]
    complete = len(whole) == len(results) and "out_of_bounds" in document.fields
    args = document.get("args", list) or [None]
    devices = config.objects("devices")
    # One communicator: with NCCL_TESTS_SPLIT several groups run the same at the same time.
    processes = [device for device in devices if device.count("group") == devices[0].count("group")]
    halves = [half for result in whole for _, half in _halves(result)]
    batch = config.count("aggregated_iterations") * max(1, config.count("graph"))
    return Output(
        program=_Object({"args[0]": args[0]}, "").get("args[0]", str),
        # Only the first device of every process is listed.
        world_size=len(processes) * config.count("nthreads") * config.count("ngpus"),
        timing=timing_of(
            graph_launches=config.count("graph"),
            cpu_time=any("cpu_time" in half.fields for half in halves),
            blocking=config.get("blocking_collectives", str) != "false",
        ),
        over_ranks=_over_ranks(args[1:]),
        started=document.moment("start_time"),
        finished=document.moment("end_time") if "end_time" in document.fields else None,
        nccl_version=document.count("nccl_version"),
        hostnames=tuple(device.get("hostname", str) for device in devices),
        gpus=tuple(device.get("device_info", str) for device in devices),
        variables=_variables(document.get("env", list)),
        rows=tuple(_row(result, batch) for result in whole),
        left_out=() if complete else (f"nccl-tests did not finish; whole rows: {len(whole)}",),
    )


@dataclass(frozen=True, slots=True)
class _Object:
    """A JSON object and where it stands; what is asked of it raises ``RecordError`` where it has no such value."""

    fields: Mapping[str, Any]
    where: str

    def at(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key or "the document"

    def get(self, key: str, kind: type[_Kind]) -> _Kind:
        value = self.fields.get(key)
        if not isinstance(value, kind):
            raise RecordError(f"{self.at(key)} is {shown(value)}: nccl-tests writes {_KINDS[kind]}")
        return value

    def object(self, key: str) -> _Object:
        return _Object(self.get(key, dict), self.at(key) if key else "")

    def objects(self, key: str) -> list[_Object]:
        entries = {f"{key}[{index}]": entry for index, entry in enumerate(self.get(key, list))}
        return [_Object(entries, self.where).object(name) for name in entries]

    def count(self, key: str) -> int:
        return whole_number(self.fields.get(key), f"{self.at(key)}, {shown(self.fields.get(key))},")

    def duration_us(self, key: str) -> float:
        return duration_us(self.fields.get(key), f"{self.at(key)}, {shown(self.fields.get(key))},")

    def moment(self, key: str) -> str:
        text = self.get(key, str)
        try:
            return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").isoformat()
        except ValueError as error:
            raise RecordError(f"{self.at(key)} is {shown(text)}: nccl-tests writes YYYY-MM-DD HH:MM:SS") from error


def _halves(result: _Object) -> list[tuple[Placement, _Object]]:
    """A placement that was not measured is absent or ``null``."""
    return [(place, result.object(key)) for place, key in _HALVES.items() if result.fields.get(key) is not None]


def _row(result: _Object, batch: int) -> ResultRow:
    size_bytes = result.count("size")
    root = result.get("root", str).strip()
    if not re.fullmatch(r"-1|[0-9]{1,9}", root):
        raise RecordError(f"{result.at('root')} is {shown(root)}: nccl-tests writes a rank, or -1 for none")
    return ResultRow(
        size_bytes=size_bytes,
        count=result.count("count"),
        dtype=result.get("type", str),
        redop=result.get("redop", str),
        root=int(root),
        halves={place: _half(result, place, half, batch) for place, half in _halves(result)} if size_bytes else {},
    )


def _half(result: _Object, place: Placement, half: _Object, batch: int) -> Half:
    iterations = result.count("actual_iterations")
    key = f"{_HALVES[place]}_per_iter"
    per_iteration = None
    if result.fields.get(key) is not None:
        statistics = result.object(key)
        skipped = statistics.count("skipped_iterations") if "skipped_iterations" in statistics.fields else 0
        per_iteration = PerIteration(
            operations=whole_number(iterations - skipped, f"{statistics.at('skipped_iterations')} of {iterations}"),
            min_us=statistics.duration_us("min_us"),
            p50_us=statistics.duration_us("p50_us"),
            p90_us=None,
            p99_us=statistics.duration_us("p99_us"),
            max_us=statistics.duration_us("max_us"),
            cost_us=None,
        )
    return Half(
        time_us=half.duration_us("cpu_time" if "cpu_time" in half.fields else "time"),
        operations=whole_number(iterations * batch, f"{result.at('actual_iterations')} times {batch}"),
        wrong=None if half.fields.get("nwrong") is None else half.count("nwrong"),
        per_iteration=per_iteration,
    )


def _over_ranks(args: Sequence[object]) -> OverRanks | None:
    """What ``args`` ask for with ``-a``, which no other field tells; ``None`` where it is none that we know.

    As getopt_long reads them: the last one counts, and every option has a value, attached or as the next of ``args``.
    """
    found: object = "1"
    rest = iter(args)
    for arg in rest:
        if not isinstance(arg, str) or not arg.startswith("-"):
            continue
        long = arg.startswith("--")
        name, _, attached = arg.partition("=") if long else (arg[:2], "", arg[2:])
        value = attached or next(rest, None)
        # A long name may be cut as long as it is that of one option: there is --agg_iters too.
        if name == "-a" or (len(name) > 3 and "--average".startswith(name)):
            found = value
    return {str(number): kind for number, kind in enumerate(OverRanks)}.get(str(found))


def _variables(entries: list[Any]) -> dict[str, str]:
    """The environment may hold secrets: of it, only what every run records."""
    pairs = (entry.partition("=") for entry in entries if isinstance(entry, str))
    return {name: value for name, _, value in pairs if allowed(name)}
