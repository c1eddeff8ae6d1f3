"""The messages of a workload, and where a run measured them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from nccl_bench.analysis.cells import Point
from nccl_bench.analysis.wording import counted, size_with_unit
from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.config.run import CallerStream
from nccl_bench.config.workload import Workload, WorkloadMessage, recorded_workload
from nccl_bench.plan.workload import measured_size, measured_timing
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash, Hang, Skipped, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMessage:
    """A message of a workload, in a group with as many ranks as the run has."""

    name: str  # the message in words: 32 KiB all-reduces in graphs
    message: WorkloadMessage  # the message
    calls: float  # the number of calls in one step
    point: Point | None  # the case and the timing in which it was measured; None if no arm has times


def workload_of_run(run: Run) -> Workload | None:
    """Return the workload that ``run`` measured; ``None`` for a run without one."""
    return recorded_workload(run.meta["config"], f"the run {run.meta['name']}")


def step_messages(run: Run, workload: Workload) -> tuple[StepMessage, ...]:
    """Return the messages of ``workload`` in groups of as many ranks as ``run`` has."""
    config = run.meta["config"]
    absent: Mapping[Timing, str] = {}
    if run.device in DEVICES:
        on_default_stream = config.get("caller_stream") == CallerStream.DEFAULT
        absent = DEVICES[run.device].absent_timings(on_default_stream=on_default_stream)
    cases = _cases(run)
    several_dtypes = len({message.dtype for message in workload.messages}) > 1
    messages = []
    for message in workload.messages:
        if message.ranks == run.world_size:
            case = cases.get((message.collective, message.dtype, measured_size(message, run.world_size)))
            messages.append(
                StepMessage(
                    name=_name(message, several_dtypes=several_dtypes),
                    message=message,
                    calls=message.count / workload.steps,
                    point=None if case is None else (case, measured_timing(message.timing, absent)),
                )
            )
    return tuple(messages)


def other_groups(workload: Workload, world_size: int) -> str:
    """Return how many calls need another number of ranks than the run has; empty if there are no such calls."""
    left_out = [message for message in workload.messages if message.ranks != world_size]
    if not left_out:
        return ""
    ranks = " and ".join(str(number) for number in sorted({message.ranks for message in left_out}))
    return f"without {sum(each.count for each in left_out)} of {workload.calls} calls, of groups of {ranks} ranks"


def _cases(run: Run) -> Mapping[tuple[str, str, int], Case]:
    """Return the isolated cases of ``run`` by collective, data type and size; each key has only one case."""
    known = [*run.samples.case.distinct(), *(line.case for line in run.others if line.case is not None)]
    return {
        (case.collective, case.dtype, case.size_bytes): case for case in known if case.scenario == Scenario.ISOLATED
    }


def reason_without_time(run: Run, message: StepMessage, arm: str) -> str:
    """Return the reason, in one or two words, why ``arm`` has no time for ``message``."""
    if message.point is None:
        return "not measured"
    case, timing = message.point
    of_cell = run.samples.take(run.samples.are_in([(case, timing, arm)]))
    statuses = [status for status in of_cell.status.distinct() if status is not Status.OK]
    if statuses:
        return str(statuses[0])
    if len(of_cell):
        return "discarded"
    for line in run.others:
        if line.case == case and (isinstance(line, Skipped) or (isinstance(line, Hang | Crash) and line.arm == arm)):
            return str(line.kind)
    return "not measured"


def calls_text(some: Collection[StepMessage], every: Sequence[StepMessage]) -> str:
    """Return the number of messages in ``some`` and in ``every``, and the number of their calls."""
    part, total = (sum(each.message.count for each in messages) for messages in (some, every))
    return f"{len(some)} of {counted(len(every), 'message')}, {part} of {counted(total, 'call')}"


def _name(message: WorkloadMessage, *, several_dtypes: bool) -> str:
    dtype = f"{message.dtype} " if several_dtypes else ""
    made = "in graphs" if TIMINGS[message.timing].captured else "called eagerly"
    return f"{size_with_unit(message.size_bytes)} {dtype}{message.collective.replace('_', '-')}s {made}"
