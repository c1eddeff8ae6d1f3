"""Runs a sweep, records every hang and crash with its case, and decides what new ranks measure."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from nccl_bench.catalog.arms import TWIN_SUFFIX
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.scenarios import has_deadlocks
from nccl_bench.config.user_arms import UserArm, user_arm_of
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.launch.signals import collect_signals, raise_interrupted
from nccl_bench.launch.supervise import Starter, supervise
from nccl_bench.plan.cases import PlannedCase
from nccl_bench.ranks.progress import Position
from nccl_bench.ranks.spec import WorkerSpec
from nccl_bench.records.schema import Crash, Hang

# Without this limit, a broken arm would cost one timeout for each size.
MOST_FAILURES_IN_A_ROW = 3
# A case that hung or crashed is measured once more, after all other cases.
MOST_TRIES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a sweep."""

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
    on_progress: Callable[[int, list[Position]], None],
) -> Outcome:
    """Measure the ``cases`` of ``spec`` and of all later launches; after a hang or a crash, start new ranks and go on.

    - Every launch of ``spec`` has new ranks.
    - A case that hangs or crashes is measured once more, after all other cases of its launch.
    - An arm that hangs or crashes in three cases in a row is excluded. The other arms measure the third case again.
    - A hang that is a deadlock is a result: the arm is left out of this case, and of no other case.
    - A user arm is excluded the first time. But if it shares processes with another user arm and fails in the first
      set-up, the arm first gets processes of its own.
    - A failure in the set-up of new ranks is tried again. After the third failure, the arm at work is excluded. If no
      arm was at work, the next case counts as failed.

    On node 0, ``append`` gets every hang and crash. ``on_progress`` gets the number of the launch and the local ranks'
    positions about five times a second. When this function ends, even with an error, no rank is left.

    Raises:
        SetupError: The first ranks did not finish their set-up.
        InterruptedRunError: This process got SIGINT, SIGTERM or SIGHUP.
    """
    sweep = _Sweep(launch=launch, cases=cases, append=append)
    work: WorkerSpec | None = replace(spec, cases=tuple(range(len(cases))) if spec.cases is None else spec.cases)
    with collect_signals() as received:
        while work is not None and sweep.stopped is None:
            # `supervise` collects signals itself. This list has the signals between two calls of `supervise`.
            raise_interrupted(received)
            last = supervise(
                work,
                launch,
                agent,
                count=len(cases),
                timeout_s=spec.config.timeout_s,
                on_end=sweep.after_failure,
                on_progress=partial(on_progress, work.launch),
            )
            sweep.end_launch()
            work = last.following
    return Outcome(
        hangs=tuple(end for end in sweep.ends if isinstance(end, Hang)),
        crashes=tuple(end for end in sweep.ends if isinstance(end, Crash)),
        stopped=sweep.stopped,
    )


@dataclass(slots=True, kw_only=True)
class _Sweep:
    """The hangs and crashes of a sweep, and what follows from them."""

    launch: LaunchConfig  # the ranks on this node
    cases: Sequence[PlannedCase]  # all cases of the plan
    append: Callable[[Hang | Crash], None]  # records a hang or a crash
    ends: list[Hang | Crash] = field(default_factory=list)  # the hangs and crashes so far
    stopped: str | None = None  # the reason why the sweep ends early; None if it does not
    _failed_tries: Counter[int] = field(default_factory=Counter)  # for each case, the number of failed tries
    # For each arm, the cases in a row in which it hung or crashed. The key "" is for failures outside any arm.
    _in_a_row: dict[str, set[int]] = field(default_factory=dict)
    # For each arm and "": the number of failures in set-up since ranks last finished their set-up.
    _in_set_up: Counter[str] = field(default_factory=Counter)
    _set_up_once: bool = False  # True if any ranks have finished their set-up

    def end_launch(self) -> None:
        """Forget the failures of a launch, but not that ranks have finished their set-up."""
        self._set_up_once = True
        self._in_set_up.clear()
        self._failed_tries.clear()
        self._in_a_row.clear()

    def after_failure(self, end: Hang | Crash, spec: WorkerSpec) -> WorkerSpec | None:
        """Record ``end``, which ended the ranks of ``spec``; return the work of new ranks, or ``None`` to stop."""
        if end.case_index < 0:
            return self._after_set_up(end, spec)
        self._set_up_once = True
        self._in_set_up.clear()
        assert spec.cases is not None
        if end.case_index >= len(self.cases):
            self._record(end, spec)
            return replace(spec, cases=())
        # Another node can see its ranks end at a case that this node does not have.
        at = spec.cases.index(end.case_index) if end.case_index in spec.cases else 0
        for index in spec.cases[:at]:
            for name in ("", *map(_arm, self.cases[index].arms)):
                if (index, name) not in spec.deadlocks:
                    self._in_a_row.pop(name, None)
        return self._after_case(end, replace(spec, cases=spec.cases[at:]))

    def _after_set_up(self, end: Hang | Crash, spec: WorkerSpec) -> WorkerSpec | None:
        arm = _arm(end.arm)
        self._in_set_up[arm] += 1
        if self._set_up_once:
            if self._in_set_up[arm] < MOST_FAILURES_IN_A_ROW:
                self._record(end, spec)
                return spec
            self._in_set_up.clear()
            if arm and arm not in spec.excluded:
                return self._exclude(end, spec)
            assert spec.cases
            return self._after_case(replace(end, case_index=spec.cases[0]), spec)
        user_arm = user_arm_of(spec.config.user_arms, arm)
        if user_arm is not None and _shares_processes(spec, user_arm):
            what = end.message if isinstance(end, Crash) else f"{end.phase} took more than {end.timeout_s:g} s"
            # The first sentence is enough for a reason in a report.
            why = (what.partition(f"the arm {user_arm.name}: ")[2] or what).partition(". ")[0]
            return replace(spec, apart={**spec.apart, user_arm.name: why})
        if user_arm is not None:
            return self._exclude(end, spec)
        self._record(end, spec)
        # An exception in the first set-up would come again. A signal can have a cause that is gone by now, for example
        # another program that took all the memory.
        by_signal = isinstance(end, Crash) and end.signal is not None
        return spec if by_signal and self._in_set_up.total() < MOST_TRIES else None

    def _after_case(self, end: Hang | Crash, spec: WorkerSpec) -> WorkerSpec | None:
        """Record ``end``, which happened in the first case of ``spec``. Return the work of new ranks."""
        assert spec.cases is not None
        arm, index = _arm(end.arm), end.case_index
        in_a_row = self._in_a_row.setdefault(arm, set())
        in_a_row.add(index)
        broken = len(in_a_row) >= MOST_FAILURES_IN_A_ROW
        deadlocks = end.case_index < len(self.cases) and has_deadlocks(self.cases[index].case)
        if arm and deadlocks and isinstance(end, Hang) and not broken:
            self._record(end, spec)
            return replace(spec, deadlocks=(*spec.deadlocks, (index, arm)))
        if arm and arm not in spec.excluded and (broken or user_arm_of(spec.config.user_arms, arm)):
            return self._exclude(end, spec)
        end = self._record(end, spec)
        if broken:
            label = end.case.label if end.case else ""
            self.stopped = (
                f"the run hung or crashed outside any arm in {len(in_a_row)} cases in a row, the last being "
                f"{label}: every later case would fail the same way"
            )
            return replace(spec, cases=())
        self._failed_tries[index] += 1
        again = (index,) if self._failed_tries[index] < MOST_TRIES else ()
        return replace(spec, cases=(*(each for each in spec.cases if each != index), *again))

    def _exclude(self, end: Hang | Crash, spec: WorkerSpec) -> WorkerSpec | None:
        """Record ``end``, and return the same work without the arm that is to blame."""
        self._record(replace(end, excludes_arm=True), spec)
        excluded = (*spec.excluded, _arm(end.arm))
        if set(spec.config.arms) <= set(excluded):
            self.stopped = "no arm is left"
            return replace(spec, cases=()) if self._set_up_once else None
        return replace(spec, excluded=excluded)

    def _record(self, end: Hang | Crash, spec: WorkerSpec) -> Hang | Crash:
        """Record ``end`` with its case, and with its rank in its process set."""
        end = replace(end, case=case_at(self.cases, end.case_index), launch=spec.launch)
        end = _with_rank_in_process_set(end, self.launch, spec.processes_per_rank)
        self.ends.append(end)
        if self.launch.node_rank == 0:
            self.append(end)
        return end


def _arm(name: str) -> str:
    """Return ``name`` without the ending of a twin, because an arm and its twin are excluded together."""
    return name.removesuffix(TWIN_SUFFIX)


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
