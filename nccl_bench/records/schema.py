"""The lines of ``samples.jsonl``: each is a JSON object with the fields and the ``kind`` of one class below.

The classes are the definition of the file: a line with an unknown field, with a field of another type, or without a
field that has no default is refused. Times are microseconds (``_us``). ``None``, which is JSON's ``null``, stands for a
value that was not measured.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, ClassVar

from nccl_bench.catalog.bounds import (
    AtLeastOne,
    CaseIndex,
    Clock,
    Count,
    DifferenceUs,
    Few,
    Name,
    Seconds,
    Share,
    Temperature,
    TimeOrZeroUs,
    TimeUs,
    Watts,
)
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import COLLECTIVES, Placement
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.throttling import THROTTLE_REASONS, ThrottleReason
from nccl_bench.catalog.timings import Timing
from nccl_bench.errors import RecordError
from nccl_bench.plan.memory import Arena
from nccl_bench.records.cost_split import CostSplit
from nccl_bench.records.decoding import decode, parse_json, shown
from nccl_bench.records.kernels import Kernels
from nccl_bench.records.scenario_times import PartTimes, Skew, check_parts

# The version of these lines and of run.json. Increase it with every change that older readers would misread.
# 2: a run can be an import. What an import cannot know is null (`arena`, `tolerance_ulp`, percentiles) or empty
#    (`fastest_rank_us`, `slowest_rank`). Lines of schema 1 always have all these values, so schema 2 includes them.
# 3: in run.json `plugins` became `user_arms`, and `worlds` became `process_sets`. `records.upgrade` reads older files.
# 4: samples have `gpus`, hangs have `state` and `ras`, crashes have `signal`, and both have `excludes_arm`. In older
#    lines they are absent, like every field that has a default. The kinds `end` and `resume` are new, and so is `cases`
#    in run.json.
# 5: samples can have the status `declined`, and then a `reason`. Every line about a case has `launch`, the number of
#    its launch, and samples have `arms_before` and `late`. In older lines all of these are absent: such a run has one
#    launch. Samples have `registered` and `arm_placement`. In run.json `config.placements` can be null: then the arms
#    of a case can differ in the placement of their calls. Samples can have `began_s`, `kernels` and `cost`,
#    and what belongs to a scenario: `skew` and `parts`, and in their case `hidden`, `layers`, `delay_us` and `streams`.
SCHEMA = 5


class Status(StrEnum):
    """The result of calling one arm and checking its outputs."""

    OK = "ok"
    WRONG = "wrong"
    DECLINED = "declined"  # the arm's calls did nothing, as engines' custom all-reduces do with large messages

    # The hash of the text, which is fast. `Enum` computes its hash in Python, and reports look up many members.
    __hash__ = str.__hash__


class Registration(StrEnum):
    """The result of registering a case's memory with an arm's communicator."""

    REGISTERED = "registered"
    UNAVAILABLE = "unavailable"  # the library answered with a null handle
    ABSENT = "absent"  # the arm's communicator cannot register memory in this way


class BuffersRegistered(StrEnum):
    """The use of registered buffers by NCCL in calls like those of one cell, from NCCL's log."""

    YES = "yes"
    NO = "no"
    PARTLY = "partly"  # in some calls or on some ranks
    UNKNOWN = "unknown"  # the log cannot be read, or it has no call of the arm


class RankState(StrEnum):
    """The reason why the process of a rank did not run, although it had not ended."""

    STOPPED = "stopped"  # a signal such as SIGSTOP stopped it
    TRACED = "traced"  # a debugger stopped it

    @property
    def description(self) -> str:
        """The state in the words of messages."""
        return "stopped by a debugger" if self is RankState.TRACED else "stopped by a signal"


class _Line:
    __slots__ = ()
    kind: ClassVar[str]

    def to_json(self) -> dict[str, object]:
        """Return this line as plain data, ``kind`` first."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]  # every subclass is a dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PerIteration:
    """Times of single operations, measured with events between them, over all rounds of one arm, case and timing.

    In an import, percentiles and ``cost_us`` may be ``None``.
    """

    operations: Count  # the number of timed operations
    min_us: TimeOrZeroUs  # the shortest time
    p50_us: TimeOrZeroUs | None = None  # the median
    p90_us: TimeOrZeroUs | None = None  # the 90th percentile
    p99_us: TimeOrZeroUs | None = None  # the 99th percentile
    max_us: TimeOrZeroUs  # the longest time
    # The time that the events add to each operation. The percentiles contain it, `samples_us` does not. None if batches
    # without events were not faster.
    cost_us: DifferenceUs | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuState:
    """The state of all ranks' GPUs while one timing of a case was measured, in all its arms.

    Clocks, temperature and power were read right after the timing. A value that no driver reported is ``None``.
    """

    sm_clock_mhz: Clock | None  # the lowest clock of the multiprocessors
    memory_clock_mhz: Clock | None  # the lowest clock of the memory
    temperature_c: Temperature | None  # the highest temperature
    power_w: Watts | None  # the highest power of one GPU; recent GPUs report the average over the last second
    throttle_reasons: tuple[ThrottleReason, ...]  # the reasons that limited the clocks of any GPU during the timing
    throttled_share: Share | None  # the largest share of the time for which one reason limited a GPU; None if unknown
    throttled_rank: Few | None  # the lowest rank whose clocks were lowered; None if the user chose all clocks
    other_process: Count | None  # the id of a process of another program on a GPU; None if none was seen
    other_process_rank: Few | None  # the lowest rank with such a process on its GPU

    @property
    def lowering_reasons(self) -> tuple[ThrottleReason, ...]:
        """The reasons that lowered the clocks. Clocks that the user chose are no such reason."""
        return tuple(reason for reason in self.throttle_reasons if THROTTLE_REASONS[reason].remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples(_Line):
    """The measurements of one case, arm and timing.

    The six tuples have one entry for each kept round. They are empty if the first check found wrong outputs, or if
    the arm declined.
    """

    kind = "samples"
    case: Case  # the measured case
    arm: Name  # the arm's name; the name of a twin ends in ":twin"
    timing: Timing  # the way of measuring
    status: Status  # the result of the check; `ok` if nothing was checked and the arm did not decline
    world_size: AtLeastOne  # the number of ranks
    ops_per_batch: Count  # operations in one timed batch; 0 if nothing was timed
    rounds: tuple[Count, ...]  # the number of each round
    # Time per operation, the maximum over ranks. In an import, `config.over_ranks` in run.json names the rule instead.
    samples_us: tuple[TimeUs, ...]
    fastest_rank_us: tuple[TimeOrZeroUs, ...]  # the minimum over ranks; empty in an import
    slowest_rank: tuple[Few, ...]  # the rank with the maximum; empty in an import
    discarded: Count  # batches discarded because the gate opened before all calls were queued
    wrong: Count | None  # wrong elements over all ranks and checks; None if nothing was checked
    tolerance_ulp: Count | None  # allowed error; 0 if the check was for equality, None in an import
    arena: Arena | None  # the buffers; None in an import
    per_iteration: PerIteration | None  # times of single operations; None without --per-iteration
    gpus: GpuState | None = None  # the state of the GPUs; None without GPUs, without times, and before schema 4
    reason: str | None = None  # how the arm declined; None for any other status
    launch: AtLeastOne = 1  # the launch that measured the rounds, counted from 1
    # How many arms were measured before this one in the round; empty in an import and before schema 5.
    arms_before: tuple[Few, ...] = ()
    # The start of the timed part of each batch: seconds from the start of the run, on the clock of rank 0's host. The
    # host of rank 0 notices the end of a batch some microseconds late. Empty in an import, and in older records.
    began_s: tuple[Seconds, ...] = ()
    # Elements that the arm wrote after its calls were over; None if nothing was checked, and before schema 5.
    late: Count | None = None
    # Whether NCCL had the buffers registered; None without NCCL, without times, and before schema 5.
    registered: BuffersRegistered | None = None
    # The placement of the arm's calls. None if it is that of the case: in an import, and before schema 5.
    arm_placement: Placement | None = None
    cost: CostSplit | None = None  # the parts of a call; None without --cost-split, and in other timings
    kernels: Kernels | None = None  # the kernels; None without --tuning, without NCCL, or without its log
    skew: Skew | None = None  # the times of the late rank; None in other scenarios

    # The times of the parts; None in other scenarios, without times of the device, and before schema 5.
    parts: PartTimes | None = None

    @property
    def placement(self) -> Placement:
        """The placement of the arm's calls."""
        return self.arm_placement or self.case.placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped(_Line):
    """A case that was planned but not measured."""

    kind = "skipped"
    case: Case  # the case that was skipped
    reason: str  # the reason, usually that the case's buffers do not fit into memory
    launch: AtLeastOne = 1  # the launch that skipped it, counted from 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang(_Line):
    """A case that did not end within its deadline."""

    kind = "hang"
    case: Case | None  # the case; None during set-up and close
    case_index: CaseIndex  # the index of the case in the plan; -1 during set-up, the number of cases during close
    arm: Name  # the arm that was measured; empty if none was
    rank: Few  # the rank with a `state`; if no rank was stopped or traced, the rank that had done the fewest steps
    host: Name  # the host of that rank
    phase: Name  # the step that the rank was in, such as `memory` or `communicator`
    timeout_s: Seconds  # the deadline
    call: str | None = None  # the call into the user's code that hung, with file and line; None if no such call hung
    state: RankState | None = None  # why the rank did not run; None if it ran, if it is unknown, and before schema 4
    ras: dict[str, Any] | None = None  # what NCCL's RAS answered about the ranks' communicators; None without an answer
    excludes_arm: bool = False  # True if the arm is no longer measured because of this hang
    launch: AtLeastOne = 1  # the launch in which it happened, counted from 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash(_Line):
    """A rank that ended too early."""

    kind = "crash"
    case: Case | None  # the case; None during set-up and close
    case_index: CaseIndex  # the index of the case in the plan; -1 during set-up, the number of cases during close
    arm: Name  # the arm that was measured; empty if none was
    rank: Few  # the rank that ended
    host: Name  # the host of that rank
    message: str  # the rank's last error message
    signal: Name | None = None  # the signal that ended the rank or its agent; None if the rank ended by itself
    excludes_arm: bool = False  # True if the arm is no longer measured because of this crash
    launch: AtLeastOne = 1  # the launch in which it happened, counted from 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseEnd(_Line):
    """The end of a case in a launch: all its lines are above this one. Without this line the case was not finished."""

    kind = "end"
    case: Case  # the case, measured or skipped
    launch: AtLeastOne = 1  # the launch, counted from 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(_Line):
    """The point at which a run was continued. A case that has no end above this line is measured again below it."""

    kind = "resume"
    started: Name  # the time
    command: tuple[str, ...]  # the command that continued the run


# A `Line` is shown in reports. The other entries are marks between the lines.
Line = Samples | Skipped | Hang | Crash
Entry = Line | CaseEnd | Resume
# The kind of an entry -> its class.
KINDS: Mapping[str, Any] = {entry.kind: entry for entry in (Samples, Skipped, Hang, Crash, CaseEnd, Resume)}


def dump(entry: Entry) -> str:
    """Return ``entry`` as the text of one line, with its newline."""
    return json.dumps(entry.to_json(), allow_nan=False) + "\n"


def parse(text: str) -> Entry:
    """Return the line that ``dump`` wrote as ``text``; raise ``RecordError`` if ``text`` is not such a line."""
    return from_json(parse_json(text))


def from_json(value: object) -> Entry:
    """Return the line that ``value`` describes; ``to_json`` made ``value``.

    Raises ``RecordError`` with the field, its value and what is allowed.
    """
    if not isinstance(value, dict):
        raise RecordError(f"the line is {shown(value)}: it has to be a JSON object")
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise RecordError(f"kind is {shown(kind)}: known are {', '.join(KINDS)}")
    line: Entry = decode(KINDS[kind], {key: item for key, item in value.items() if key != "kind"}, kind)
    check(line)
    return line


def check(line: Entry) -> None:
    """Raise ``RecordError`` if ``line`` names what the catalog lacks, or if its columns do not fit together."""
    case = None if isinstance(line, Resume) else line.case
    if case is not None:
        check_case(case)
    if isinstance(line, Samples):
        count, of_ranks = len(line.rounds), len(line.fastest_rank_us)
        if (
            len(line.samples_us) != count
            or len(line.slowest_rank) != of_ranks
            or of_ranks not in (count, 0)
            or len(line.arms_before) not in (count, 0)
            or len(line.began_s) not in (count, 0)
        ):
            raise RecordError(
                "rounds, samples_us, fastest_rank_us, slowest_rank, arms_before and began_s differ in length"
            )
        if line.skew is not None and not line.skew.has_rounds(count):
            raise RecordError("rounds, skew.delay_us and skew.late_rank_us differ in length")
        if line.parts is not None:
            check_parts(line.parts)


def check_case(case: Case) -> None:
    """Raise ``RecordError`` if ``case`` names what the catalog lacks."""
    for name, table in (("collective", COLLECTIVES), ("dtype", DTYPES)):
        if getattr(case, name) not in table:
            raise RecordError(f"case.{name} is {shown(getattr(case, name))}: known are {', '.join(table)}")
