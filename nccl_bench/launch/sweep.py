"""Runs a sweep, records every hang and crash with its case, and decides whether the sweep goes on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nccl_bench.catalog.cases import Case
from nccl_bench.config.user_arms import UserArm, user_arm_of
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.launch.supervise import Starter, supervise
from nccl_bench.plan.cases import PlannedCase
from nccl_bench.ranks.progress import Position
from nccl_bench.ranks.spec import WorkerSpec
from nccl_bench.records.schema import Crash, Hang

# Without this limit, a broken arm would cost one timeout for each size.
MOST_FAILURES_IN_A_ROW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a sweep."""

    attempts: int  # the number of launches
    hangs: tuple[Hang, ...]  # the hangs in the order of time, each with its case
    crashes: tuple[Crash, ...]  # the crashes in the order of time, each with its case
    stopped: str | None  # the reason why the sweep ended early; None if it did not


def run_sweep(
    spec: WorkerSpec,
    launch: LaunchConfig,
    agent: Starter,
    *,
    cases: Sequence[PlannedCase],
    append: Callable[[Hang | Crash], None],
    on_progress: Callable[[list[Position]], None],
) -> Outcome:
    """Run ``cases`` from ``spec.first`` on; after a hang or a crash, relaunch at the next case.

    A user arm that hangs or crashes, even in set-up, is excluded, and the other arms measure that case again. But if
    the arm shares processes with another user arm and fails in set-up, the arm first gets processes of its own.

    On node 0, ``append`` gets every hang and crash. ``on_progress`` gets the local ranks' positions about five times a
    second. When this function ends, even with an error, no rank is left.

    Raises:
        SetupError: The ranks did not finish their set-up.
        InterruptedRunError: This process got SIGINT, SIGTERM or SIGHUP.
    """
    ends: list[Hang | Crash] = []
    stopped = None
    current = spec

    def on_end(end: Hang | Crash, first: int) -> tuple[WorkerSpec, int] | None:
        nonlocal stopped, current
        user_arm = user_arm_of(spec.config.user_arms, end.arm)
        if user_arm is not None and end.case_index < 0 and _shares_processes(current, user_arm):
            what = end.message if isinstance(end, Crash) else f"{end.phase} took more than {end.timeout_s:g} s"
            # The first sentence is enough for a reason in a report.
            why = (what.partition(f"the arm {user_arm.name}: ")[2] or what).partition(". ")[0]
            current = replace(current, apart={**current.apart, user_arm.name: why})
            return current, first
        end = replace(end, case=case_at(cases, end.case_index))
        end = _with_rank_in_process_set(end, launch, current.processes_per_rank)
        ends.append(end)
        if launch.node_rank == 0:
            append(end)
        if user_arm is not None:
            current = replace(current, excluded=(*current.excluded, user_arm.name))
            if set(spec.config.arms) <= set(current.excluded):
                stopped = "no arm is left"
                return None
            return current, max(first, end.case_index)
        stopped = _reason_to_stop(ends, cases, spec.first)
        return None if stopped or end.case_index < 0 else (current, end.case_index + 1)

    attempts = supervise(
        spec,
        launch,
        agent,
        count=len(cases),
        timeout_s=spec.config.timeout_s,
        first=spec.first,
        on_end=on_end,
        on_progress=on_progress,
    )
    return Outcome(
        attempts=attempts,
        hangs=tuple(end for end in ends if isinstance(end, Hang)),
        crashes=tuple(end for end in ends if isinstance(end, Crash)),
        stopped=stopped,
    )


def _shares_processes(spec: WorkerSpec, user_arm: UserArm) -> bool:
    """Return whether ``user_arm`` shares its processes with another user arm. The other arm may have made it fail."""
    beside = (name for each in spec.process_sets if user_arm.name in each.arms for name in each.arms)
    neighbours = (user_arm_of(spec.config.user_arms, name) for name in beside)
    return not user_arm.built_in and any(
        each is not None and not each.built_in and each != user_arm for each in neighbours
    )


def _with_rank_in_process_set(end: Hang | Crash, launch: LaunchConfig, processes_per_rank: int) -> Hang | Crash:
    """Return ``end`` with its rank in the process set; the agent's rank counts the processes of all process sets."""
    node, local_process = divmod(end.rank, launch.nproc * processes_per_rank)
    rank = node * launch.nproc + local_process % launch.nproc
    if isinstance(end, Crash):
        end = replace(end, message=end.message.replace(f"rank {end.rank} on", f"rank {rank} on", 1))
    return replace(end, rank=rank)


def case_at(cases: Sequence[PlannedCase], index: int) -> Case | None:
    """Return the case at ``index``, or ``None`` during set-up and after the last case."""
    return cases[index].case if 0 <= index < len(cases) else None


def _reason_to_stop(ends: Sequence[Hang | Crash], cases: Sequence[PlannedCase], first_case: int) -> str | None:
    """Return why the sweep must stop after the last of ``ends``, or ``None`` to go on.

    The sweep stops when one arm failed in several cases in a row. Cases that ended because of another arm, and cases
    without the arm, do not count.
    """
    last = ends[-1]
    failed = {end.case_index: end.arm for end in ends}
    in_a_row = 0
    for index in range(last.case_index, first_case - 1, -1):
        if failed.get(index) == last.arm:
            in_a_row += 1
        elif index not in failed and (not last.arm or last.arm in cases[index].arms):
            break
    if in_a_row < MOST_FAILURES_IN_A_ROW:
        return None
    what = f"the arm {last.arm}" if last.arm else "the run, outside any arm,"
    label = f", the last being {last.case.label}" if last.case else ""
    return f"{what} hung or crashed in {in_a_row} cases in a row{label}: every later case would fail the same way"
