"""nccl-tests' JSON (``-J``), as its src/util.cu writes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.nccl_version import version_text
from nccl_bench.errors import RecordError
from nccl_bench.records.decoding import shown
from nccl_bench.records.importers.imported import NCCL, RCCL, LibraryVersion, OverRanks
from nccl_bench.records.importers.nccl_tests.output import (
    WRONG_WITHOUT_ROW,
    Figure,
    Output,
    PlacementResult,
    ResultRow,
    Sizes,
    duration_us,
    timing_of,
    whole_number,
)
from nccl_bench.records.importers.nccl_tests.programs import collective_of
from nccl_bench.records.schema import PerIteration
from nccl_bench.safety.secrets import recordable_settings

# The newest JSON_FILE_VERSION of nccl-tests that this module reads.
NEWEST_VERSION = 3
# nccl-tests writes six digits after the point.
_LAST_DIGIT = 1e-6
# GB/s that no link has.
_LARGEST_BANDWIDTH = 1e9
# The beginning of the names of AMD's GPUs.
_AMD = "AMD "
_PLACEMENT_KEYS = {Placement.OUT_OF_PLACE: "out_of_place", Placement.IN_PLACE: "in_place"}
_TYPE_NAMES = {str: "text", list: "a list", dict: "an object"}
_Kind = TypeVar("_Kind", str, list[Any], dict[str, Any])
_Number = TypeVar("_Number", int, float)


def read_document(value: object, collective: str | None) -> Output | None:
    """Return the content of ``value``, which is parsed JSON; ``None`` if another program wrote it.

    ``collective`` is the name that the user gave, or ``None``. Raises ``RecordError`` with the field that differs from
    what nccl-tests writes.
    """
    document = _Object({"": value}, "").object("")
    if not {"version", "config", "results"} <= document.fields.keys():
        return None
    version = document.count("version")
    if version > NEWEST_VERSION:
        raise RecordError(
            f"it has version {version} of nccl-tests' JSON, and this nccl-bench reads up to {NEWEST_VERSION}: import "
            "the printed table instead"
        )
    config = document.object("config")
    results = document.objects("results")
    # A row without its last field, `actual_iterations`, is incomplete: nccl-tests failed and closed its JSON early.
    whole = [result for result in results if "actual_iterations" in result.fields]
    complete = len(whole) == len(results) and "out_of_bounds" in document.fields
    args = document.get("args", list) or [None]
    devices = config.objects("devices")
    # With NCCL_TESTS_SPLIT several groups measure at the same time. So count the ranks of one group only.
    processes = [device for device in devices if device.count("group") == devices[0].count("group")]
    measured = [placement for result in whole for _, placement in _placements(result)]
    ranks_of_process = config.count("nthreads") * config.count("ngpus")
    _check_ranks(devices, ranks_of_process)
    has_cpu_time = any("cpu_time" in placement.fields for placement in measured)
    variables = (entry.partition("=") for entry in document.get("env", list) if isinstance(entry, str))
    gpus = tuple(device.get("device_info", str) for device in devices)
    # rccl-tests writes its version below the same key, and RCCL alone runs on these GPUs.
    library = RCCL if any(gpu.startswith(_AMD) for gpu in gpus) else NCCL
    batch = config.count("aggregated_iterations") * max(1, config.count("graph"))
    return Output(
        collective=collective_of(_Object({"args[0]": args[0]}, "").get("args[0]", str), collective),
        # nccl-tests lists only the first device of each process.
        world_size=len(processes) * ranks_of_process,
        processes=len(processes),
        timing=timing_of(
            graph_launches=config.count("graph"),
            cpu_time=has_cpu_time,
            blocking=config.get("blocking_collectives", str) != "false",
        ),
        sizes=_sizes(config),
        over_ranks=_over_ranks(args[1:]),
        started=document.moment("start_time"),
        finished=document.moment("end_time") if "end_time" in document.fields else None,
        library=LibraryVersion(name=library, version=version_text(document.count("nccl_version"))),
        hostnames=tuple(device.get("hostname", str) for device in devices),
        gpus=gpus,
        variables=recordable_settings({name: value for name, _, value in variables}),
        rows=tuple(_row(result, batch) for result in whole),
        left_out=tuple(_left_out(document, whole, measured, complete=complete)),
    )


@dataclass(frozen=True, slots=True)
class _Object:
    """A JSON object. Its methods raise ``RecordError`` if the key is missing or has a value of another kind."""

    fields: Mapping[str, Any]
    where: str  # the object's place in the document; empty for the document itself

    def at(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key or "the document"

    def get(self, key: str, kind: type[_Kind]) -> _Kind:
        value = self.fields.get(key)
        if not isinstance(value, kind):
            raise RecordError(f"{self.at(key)} is {shown(value)}: nccl-tests writes {_TYPE_NAMES[kind]}")
        return value

    def object(self, key: str) -> _Object:
        return _Object(self.get(key, dict), self.at(key) if key else "")

    def objects(self, key: str) -> list[_Object]:
        entries = {f"{key}[{index}]": entry for index, entry in enumerate(self.get(key, list))}
        return [_Object(entries, self.where).object(name) for name in entries]

    def count(self, key: str) -> int:
        return self._checked(key, whole_number)

    def duration_us(self, key: str) -> float:
        return self._checked(key, duration_us)

    def _checked(self, key: str, check: Callable[[Any, str], _Number]) -> _Number:
        value = self.fields.get(key)
        try:
            return check(value, key)
        except RecordError:
            # Make this text only for a wrong value. Texts for all values of a long document would take very long.
            return check(value, f"{self.at(key)}, {shown(value)},")

    def figure(self, key: str) -> Figure:
        value = self.fields.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LARGEST_BANDWIDTH:
            raise RecordError(f"{self.at(key)} is {shown(value)}: nccl-tests writes a number from 0")
        return Figure(float(value), _LAST_DIGIT)

    def moment(self, key: str) -> str:
        text = self.get(key, str)
        try:
            return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").isoformat()
        except ValueError as error:
            raise RecordError(f"{self.at(key)} is {shown(text)}: nccl-tests writes YYYY-MM-DD HH:MM:SS") from error


def _left_out(
    document: _Object, whole: Sequence[_Object], measured: Sequence[_Object], *, complete: bool
) -> Iterator[str]:
    """Yield sentences about missing results; ``measured`` are the results in the ``whole`` rows of the document."""
    if not complete:
        yield f"nccl-tests did not finish; complete rows: {len(whole)}"
        return
    failed = document.object("out_of_bounds").fields.get("count")
    if failed and not any(placement.fields.get("nwrong") for placement in measured):
        yield WRONG_WITHOUT_ROW.format(shown(failed))


def _check_ranks(devices: Sequence[_Object], ranks_of_process: int) -> None:
    """Raise ``RecordError`` unless the JSON has the first rank of each process. It never has other ranks."""
    for index, device in enumerate(devices):
        if device.count("rank") != index * ranks_of_process:
            raise RecordError(
                f"{device.at('rank')} is {device.count('rank')}: each process has {ranks_of_process} ranks, so this "
                f"has to be rank {index * ranks_of_process}. The list of ranks in the file is incomplete"
            )


def _sizes(config: _Object) -> Sizes:
    is_factor = "step_factor" in config.fields
    return Sizes(
        minimum=config.count("minimum_bytes"),
        maximum=config.count("maximum_bytes"),
        step=config.count("step_factor" if is_factor else "step_bytes"),
        is_factor=is_factor,
    )


def _placements(result: _Object) -> list[tuple[Placement, _Object]]:
    """Return the measured placements. In the JSON, a placement that was not measured is absent or ``null``."""
    return [(place, result.object(key)) for place, key in _PLACEMENT_KEYS.items() if result.fields.get(key) is not None]


def _row(result: _Object, batch: int) -> ResultRow:
    size_bytes = result.count("size")
    root = result.get("root", str).strip()
    if not re.fullmatch(r"-1|[0-9]{1,9}", root):
        raise RecordError(f"{result.at('root')} is {shown(root)}: nccl-tests writes a rank, or -1 for none")
    return ResultRow(
        where=result.where,
        size_bytes=size_bytes,
        count=result.count("count"),
        dtype=result.get("type", str),
        redop=result.get("redop", str),
        root=int(root),
        results=(
            {place: _placement_result(result, place, measured, batch) for place, measured in _placements(result)}
            if size_bytes
            else {}
        ),
    )


def _placement_result(result: _Object, place: Placement, measured: _Object, batch: int) -> PlacementResult:
    iterations = result.count("actual_iterations")
    key = f"{_PLACEMENT_KEYS[place]}_per_iter"
    per_iteration = None
    if result.fields.get(key) is not None:
        statistics = result.object(key)
        skipped = statistics.count("skipped_iterations") if "skipped_iterations" in statistics.fields else 0
        per_iteration = PerIteration(
            operations=whole_number(iterations - skipped, f"{statistics.at('skipped_iterations')} of {iterations}"),
            min_us=statistics.duration_us("min_us"),
            p50_us=statistics.duration_us("p50_us"),
            p99_us=statistics.duration_us("p99_us"),
            max_us=statistics.duration_us("max_us"),
        )
    return PlacementResult(
        time_us=Figure(measured.duration_us("cpu_time" if "cpu_time" in measured.fields else "time"), _LAST_DIGIT),
        algbw_gb_s=measured.figure("alg_bw"),
        busbw_gb_s=measured.figure("bus_bw"),
        operations=whole_number(iterations * batch, f"{result.at('actual_iterations')} times {batch}"),
        wrong=None if measured.fields.get("nwrong") is None else measured.count("nwrong"),
        per_iteration=per_iteration,
    )


def _over_ranks(args: Sequence[object]) -> OverRanks | None:
    """Return the rule that the last ``-a`` in ``args`` sets, by default the average; ``None`` if its value is unknown.

    Every option has a value, attached to the option or in the next argument, as getopt_long reads them.
    """
    average: object = "1"
    rest = iter(args)
    for arg in rest:
        if not isinstance(arg, str) or not arg.startswith("-"):
            continue
        long = arg.startswith("--")
        name, _, attached = arg.partition("=") if long else (arg[:2], "", arg[2:])
        value = attached or next(rest, None)
        # getopt_long accepts the beginning of a long name if only one option begins with it; --a can be --agg_iters.
        if name == "-a" or (len(name) > 3 and "--average".startswith(name)):
            average = value
    return {str(number): kind for number, kind in enumerate(OverRanks)}.get(str(average))
