"""A sweep under the launching process's watch: every hang and crash recorded with its case. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nccl_bench.catalog.cases import Case
from nccl_bench.config.user_arms import UserArm, of_arm
from nccl_bench.launch.supervise import Launched, hang_of, supervise
from nccl_bench.launch.torchrun import Job, LaunchConfig
from nccl_bench.plan.cases import PlannedCase
from nccl_bench.ranks.progress import Position
from nccl_bench.ranks.spec import WorkerSpec
from nccl_bench.records.schema import Crash, Hang

# One timeout for each size would make a broken arm cost the night.
MOST_FAILURES_IN_A_ROW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a sweep went: launches made, what was recorded, and why it ended early, ``None`` where it did not."""

    attempts: int
    hangs: tuple[Hang, ...]
    crashes: tuple[Crash, ...]
    stopped: str | None


def run_sweep(
    spec: WorkerSpec,
    launch: LaunchConfig,
    *,
    cases: Sequence[PlannedCase],
    append: Callable[[Hang | Crash], None],
    on_progress: Callable[[list[Position]], None],
    start: Callable[[LaunchConfig, WorkerSpec, int], Launched] = Job,
) -> Outcome:
    """Run ``cases`` from ``spec.first_case`` on; after a hang or a crash, relaunch at the case behind it.

    An arm of the user's that hangs or crashes, in set-up too, takes no further part: the others do its case again
    without it. One that does not get past set-up beside another of them gets processes of its own first.

    ``append`` gets every hang and crash on node 0, ``on_progress`` the local ranks' positions about five times a
    second. No process and no scratch file is left, however this ends.

    Raises ``SetupError`` where workers do not get past set-up, ``InterruptedRunError`` on SIGINT, SIGTERM and SIGHUP.
    """
    ends: list[Hang | Crash] = []
    stopped = None
    going_on = spec

    def on_end(end: Hang | Crash, first: int) -> tuple[WorkerSpec, int] | None:
        nonlocal stopped, going_on
        user_arm = of_arm(spec.config.user_arms, end.arm)
        if user_arm is not None and end.case_index < 0 and _has_company(going_on, user_arm):
            what = end.message if isinstance(end, Crash) else f"{end.phase} took more than {end.timeout_s:g} s"
            # Its first sentence: a reason in a report, not the report.
            why = (what.partition(f"the arm {user_arm.name}: ")[2] or what).partition(". ")[0]
            going_on = replace(going_on, apart={**going_on.apart, user_arm.name: why})
            return going_on, first
        end = _of_its_world(replace(end, case=_case(cases, end.case_index)), launch, going_on.processes_per_rank)
        ends.append(end)
        if launch.node_rank == 0:
            append(end)
        if user_arm is not None:
            going_on = replace(going_on, excluded=(*going_on.excluded, user_arm.name))
            if set(spec.config.arms) <= set(going_on.excluded):
                stopped = "no arm is left"
                return None
            return going_on, max(first, end.case_index)
        stopped = _hopeless(ends, cases, spec.first_case)
        return None if stopped or end.case_index < 0 else (going_on, end.case_index + 1)

    attempts = supervise(
        spec,
        launch,
        count=len(cases),
        timeout_s=spec.config.timeout_s,
        first=spec.first_case,
        on_end=on_end,
        on_progress=on_progress,
        start=start,
    )
    return Outcome(
        attempts=attempts,
        hangs=tuple(end for end in ends if isinstance(end, Hang)),
        crashes=tuple(end for end in ends if isinstance(end, Crash)),
        stopped=stopped,
    )


def _has_company(spec: WorkerSpec, user_arm: UserArm) -> bool:
    """Whether it shares its processes with code of somebody else's, whose modules may be what it stumbles over."""
    beside = (name for each in spec.process_sets if user_arm.name in each.arms for name in each.arms)
    others = (of_arm(spec.config.user_arms, name) for name in beside)
    return not user_arm.ours and any(other is not None and not other.ours and other != user_arm for other in others)


def _of_its_world(end: Hang | Crash, launch: LaunchConfig, processes_per_rank: int) -> Hang | Crash:
    """``end`` with the rank that its process is, of those that do the same."""
    node, local_process = divmod(end.rank, launch.nproc * processes_per_rank)
    rank = node * launch.nproc + local_process % launch.nproc
    if isinstance(end, Crash):
        end = replace(end, message=end.message.replace(f"rank {end.rank} on", f"rank {rank} on", 1))
    return replace(end, rank=rank)


def hang_at(late: Position, cases: Sequence[PlannedCase], timeout_s: float) -> Hang:
    """The record of a rank whose deadline has passed; ``timeout_s`` is that of a case."""
    return replace(hang_of(late, timeout_s), case=_case(cases, late.case_index))


def _case(cases: Sequence[PlannedCase], index: int) -> Case | None:
    """``None`` during set-up and behind the last case."""
    return cases[index].case if 0 <= index < len(cases) else None


def _hopeless(ends: Sequence[Hang | Crash], cases: Sequence[PlannedCase], first_case: int) -> str | None:
    """Why going on makes no sense after the last of ``ends``, or ``None``.

    A case that another arm ended counts neither for nor against an arm, nor does one that it has no part in.
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
    return f"{what} hung or crashed in {in_a_row} cases running{label}: it would go on with every later case"
