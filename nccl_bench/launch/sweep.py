"""A sweep under the launching process's watch: every hang and crash recorded with its case. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nccl_bench.collectives import Case
from nccl_bench.launch.supervise import Launched, hang_of, supervise
from nccl_bench.launch.torchrun import Job, LaunchConfig
from nccl_bench.plan import PlannedCase
from nccl_bench.records.handoff import Position, WorkerSpec
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

    ``append`` gets every hang and crash on node 0, ``on_progress`` the local ranks' positions about five times a
    second. No process and no scratch file is left, however this ends.

    Raises ``SetupError`` where workers do not get past set-up, ``InterruptedRunError`` on SIGINT, SIGTERM and SIGHUP.
    """
    ends: list[Hang | Crash] = []
    stopped = None

    def on_end(end: Hang | Crash) -> bool:
        nonlocal stopped
        end = replace(end, case=_case(cases, end.case_index))
        ends.append(end)
        if launch.node_rank == 0:
            append(end)
        stopped = _hopeless(ends, cases, spec.first_case)
        return stopped is None

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
