"""The lines of ``samples.jsonl``: one JSON object each, with the fields of one class below and its ``kind``.

The classes are the definition: reading checks every field against its annotation and refuses what is missing, unknown
or of another type. Times are microseconds (``_us``) and ``None`` (JSON's ``null``) is what was not measured.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cache, partial
from types import UnionType
from typing import Any, ClassVar, NoReturn, get_args, get_origin, get_type_hints

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.timings import Timing
from nccl_bench.errors import RecordError
from nccl_bench.plan.memory import Arena

# The version of these lines and of run.json; raised by every change that an older reader would misread.
# 2: a run may be an import. What such a run cannot know is null (`arena`, `tolerance_ulp`, percentiles) or empty
#    (`fastest_rank_us`, `slowest_rank`); schema 1 always had all of it, and reads as before.
# 3: in run.json `plugins` became `user_arms`, and `worlds` became `process_sets`; `records.upgrade` reads older ones.
SCHEMA = 3


class Status(StrEnum):
    """What the check found in the outputs of one arm."""

    OK = "ok"
    WRONG = "wrong"


class Registration(StrEnum):
    """What came of registering a case's memory with an arm's communicator."""

    REGISTERED = "registered"
    UNAVAILABLE = "unavailable"  # asked for, and answered with a null handle
    ABSENT = "absent"  # a communicator of somebody else's, which was not asked


class _Line:
    __slots__ = ()
    kind: ClassVar[str]

    def to_json(self) -> dict[str, object]:
        """This line as plain data, ``kind`` first."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]  # every subclass is a dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PerIteration:
    """Times of single operations, from events between them; their percentiles over all rounds and ``operations``.

    ``cost_us`` is what those events add to each operation: the percentiles contain it, ``samples_us`` does not. It is
    ``None`` where the batches without events were no faster. In an import it is not known, as other fields may be.
    """

    operations: int
    min_us: float
    p50_us: float | None
    p90_us: float | None
    p99_us: float | None
    max_us: float
    cost_us: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples(_Line):
    """One case, arm and timing.

    ``rounds``, ``samples_us``, ``fastest_rank_us`` and ``slowest_rank`` have one entry per kept round: the round's
    number, the time per operation as the maximum over ranks, the minimum over ranks, and the rank with the maximum.
    They are empty where the outputs were wrong before timing. ``discarded`` counts batches thrown away because the
    gate opened before all calls were queued. ``wrong`` is the number of wrong elements over all ranks and checks,
    ``None`` where nothing was checked; ``tolerance_ulp`` is 0 where the check was equality. ``per_iteration`` is
    ``None`` unless it was asked for.

    An import knows no ranks: ``fastest_rank_us`` and ``slowest_rank`` are empty, the time is what nccl-tests made of
    them (their average, unless its ``-a`` said otherwise), and ``arena`` and ``tolerance_ulp`` are ``None``.
    """

    kind: ClassVar[str] = "samples"
    case: Case
    arm: str
    timing: Timing
    status: Status
    world_size: int
    ops_per_batch: int
    rounds: tuple[int, ...]
    samples_us: tuple[float, ...]
    fastest_rank_us: tuple[float, ...]
    slowest_rank: tuple[int, ...]
    discarded: int
    wrong: int | None
    tolerance_ulp: int | None
    arena: Arena | None
    per_iteration: PerIteration | None

    def rounds_us(self) -> dict[int, float]:
        """Return the time of each kept round in microseconds, by the round's number."""
        return dict(zip(self.rounds, self.samples_us, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped(_Line):
    """A case that was planned and not measured, and why (as a rule: its buffers do not fit)."""

    kind: ClassVar[str] = "skipped"
    case: Case
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang(_Line):
    """A case that met its deadline of ``timeout_s`` seconds; ``case`` is ``None`` during set-up.

    ``rank`` on ``host`` was the first found in ``phase`` when the time was up; ``call`` is the call of the user's that
    it was in, with its file and line, ``None`` where it was in none.
    """

    kind: ClassVar[str] = "hang"
    case: Case | None
    case_index: int
    arm: str
    rank: int
    host: str
    phase: str
    timeout_s: float
    call: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash(_Line):
    """A rank that ended before its time, and its last words; ``case`` is ``None`` during set-up."""

    kind: ClassVar[str] = "crash"
    case: Case | None
    case_index: int
    arm: str
    rank: int
    host: str
    message: str


Line = Samples | Skipped | Hang | Crash
_KINDS: Mapping[str, Any] = {line.kind: line for line in (Samples, Skipped, Hang, Crash)}
# What the tables of a report can hold.
_MOST = 2**63 - 1
# From a value of JSON and the name that messages give its place; raises ``RecordError``.
_Reader = Callable[[object, str], Any]


def dump(line: Line) -> str:
    """``line`` as the text of one line, its newline included."""
    return json.dumps(line.to_json(), allow_nan=False) + "\n"


def parse(text: str) -> Line:
    """The line written as ``text``; raises ``RecordError`` saying what is wrong with it."""
    return from_json(parse_json(text))


def parse_json(text: str) -> object:
    """JSON as its standard has it, without NaN and infinity; raises ``RecordError``."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not JSON: {error}") from error


def from_json(value: object) -> Line:
    """What ``to_json`` gave, checked; raises ``RecordError`` naming the field, what was got and what is allowed."""
    if not isinstance(value, dict):
        raise RecordError(f"not a JSON object but {shown(value)}")
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise RecordError(f"kind is {shown(kind)}: known are {', '.join(_KINDS)}")
    line: Line = _reader(_KINDS[kind])({key: item for key, item in value.items() if key != "kind"}, kind)
    if line.case is not None:
        for name, table in (("collective", COLLECTIVES), ("dtype", DTYPES)):
            if getattr(line.case, name) not in table:
                raise RecordError(f"case.{name} is {getattr(line.case, name)!r}: known are {', '.join(table)}")
    if isinstance(line, Samples):
        of_ranks = (line.fastest_rank_us, line.slowest_rank)
        lists = (line.rounds, line.samples_us, *(of_ranks if any(of_ranks) else ()))
        if len({len(entries) for entries in lists}) > 1:
            raise RecordError("rounds, samples_us, fastest_rank_us and slowest_rank differ in length")
        if min(line.samples_us, default=1.0) <= 0:
            raise RecordError(f"samples_us has {min(line.samples_us)}: a time is above 0")
    return line


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


@cache
def _reader(expected: Any) -> _Reader:
    """What reads the annotated type ``expected``: a dataclass, enum, tuple, number, text, or one of them or None.

    Found once for each type, since a run has thousands of lines.
    """
    if get_origin(expected) is UnionType:
        (option,) = (option for option in get_args(expected) if option is not type(None))
        return partial(_read_optional, _reader(option))
    if is_dataclass(expected):
        hints = get_type_hints(expected)
        return partial(_read_fields, expected, {field.name: _reader(hints[field.name]) for field in fields(expected)})
    if get_origin(expected) is tuple:
        return partial(_read_list, get_args(expected)[0])
    if issubclass(expected, StrEnum):
        return partial(_read_member, {member.value: member for member in expected})
    return partial(_read_plain, expected)


def _read_optional(read: _Reader, value: object, where: str) -> Any:
    return None if value is None else read(value, where)


def _read_fields(expected: Any, readers: Mapping[str, _Reader], value: object, where: str) -> Any:
    if not isinstance(value, dict):
        raise RecordError(f"{where} is {shown(value)}: it has to be an object")
    for name in readers:
        if name not in value:
            raise RecordError(f"{where} has no {name!r}")
    for name in value:
        if name not in readers:
            raise RecordError(f"{where} has the unknown field {name!r}")
    return expected(**{name: read(value[name], f"{where}.{name}") for name, read in readers.items()})


def _read_list(item: type, value: object, where: str) -> Any:
    if not isinstance(value, list):
        raise RecordError(f"{where} is {shown(value)}: it has to be a list")
    # Of the many numbers of a line each is looked at by name only if any is of another kind.
    if set(map(type, value)) <= {item} and (
        (item is int and max(map(abs, value), default=0) <= _MOST) or (item is float and all(map(math.isfinite, value)))
    ):
        return tuple(value)
    read = _reader(item)
    return tuple(read(entry, f"{where}[{index}]") for index, entry in enumerate(value))


def _read_member(members: Mapping[str, StrEnum], value: object, where: str) -> Any:
    if not isinstance(value, str) or value not in members:
        raise RecordError(f"{where} is {shown(value)}: known are {', '.join(members)}")
    return members[value]


def _read_plain(expected: type, value: object, where: str) -> Any:
    if expected is float and type(value) is int and abs(value) <= sys.float_info.max:
        return float(value)
    if expected is int and type(value) is int and abs(value) > _MOST:
        raise RecordError(f"{where} is {shown(value)}: it has to be between -2^63 and 2^63")
    if type(value) is not expected or (isinstance(value, float) and not math.isfinite(value)):
        raise RecordError(f"{where} is {shown(value)}: it has to be {expected.__name__}")
    return value


def shown(value: object) -> str:
    """``value`` for a message: as JSON, on one line, shortened."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
