"""One run from start to tables: launched from here, or as one of the ranks that somebody else launched."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from nccl_bench.analysis.summary import failures
from nccl_bench.cli.gate import FailOn, Format, gate
from nccl_bench.cli.progress import Display, case_label
from nccl_bench.config.run import RunConfig
from nccl_bench.config.user_arms import UserArm
from nccl_bench.errors import ExitCode, InterruptedRunError, SetupError, UsageError
from nccl_bench.launch.attach import Attachment, rendezvous_variables
from nccl_bench.launch.crashes import crash_from_failure
from nccl_bench.launch.hardware import free_memory_bytes
from nccl_bench.launch.supervise import make_hang
from nccl_bench.launch.sweep import case_at, run_sweep
from nccl_bench.launch.torchrun import LaunchConfig
from nccl_bench.launch.watchdog import start_watchdog
from nccl_bench.plan.cases import Plan, make_plan
from nccl_bench.plan.process_sets import process_sets_of
from nccl_bench.ranks.failure import Failure
from nccl_bench.ranks.progress import Position, Progress
from nccl_bench.ranks.spec import WorkerSpec
from nccl_bench.records.environment import collect
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash, Hang, Samples
from nccl_bench.records.store import RunStatus, RunStore

# A size and the baseline's times.
NARROWEST = 20
# How far apart the ranks of somebody else's launch may meet the deadline of one case.
HANG_GRACE_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where a run goes, and how it is shown; raises ``UsageError`` for what does not go together."""

    out: Path | None = None
    json: bool = False
    csv: bool = False
    format: Format | None = None
    fail_on: tuple[FailOn, ...] = ()
    width: int | None = None

    def __post_init__(self) -> None:
        if sum((self.json, self.csv, self.format is not None)) > 1:
            raise UsageError("--json, --csv and --format exclude each other: give one of them")
        if self.width is not None and self.width < NARROWEST:
            raise UsageError(f"--width is {self.width}: it has to be at least {NARROWEST}")

    @property
    def form(self) -> Format:
        """How a run is printed."""
        return self.format or (Format.JSON if self.json else Format.CSV if self.csv else Format.TABLES)


def refuse_missing(user_arms: Iterable[UserArm]) -> None:
    """Raise ``UsageError`` where what the user brings is not there, as far as that shows without importing it."""
    from nccl_bench.user_arms.loading import locate

    for user_arm in user_arms:
        if not user_arm.ours:
            try:
                locate(user_arm.target, user_arm.tree)
            except SetupError as error:
                raise UsageError(f"the arm {user_arm.name}: {error}") from error


def show_plan(config: RunConfig, world_size: int, ranks_per_node: int) -> None:
    """Print what a run would do."""
    from nccl_bench.report.dry_run import plan_text

    memory = free_memory_bytes(config.device, ranks_per_node)
    print(plan_text(config, make_plan(config, world_size), world_size, memory), end="")


def print_report(run: Run, output: Output) -> None:
    """Print the whole of ``run`` in the form asked for."""
    from nccl_bench.report import Report
    from nccl_bench.report.export import CsvReport, JsonReport
    from nccl_bench.report.markdown import MarkdownReport
    from nccl_bench.report.terminal import TerminalReport

    forms: dict[Format, Report] = {
        Format.JSON: JsonReport(),
        Format.CSV: CsvReport(),
        Format.MARKDOWN: MarkdownReport(),
        Format.TABLES: TerminalReport.for_stream(sys.stdout, output.width),
    }
    form = forms[output.form]
    sys.stdout.write(form.render(run))
    sys.stdout.flush()


def run_launched(config: RunConfig, launch: LaunchConfig, output: Output) -> None:
    """Start the ranks, watch them, print the tables; exits with the code that the run has earned."""
    world_size = launch.nproc * launch.nnodes
    plan = make_plan(config, world_size)
    # As if they had been set before; the ranks inherit them, and the record has them.
    os.environ.update(config.variables)
    facts = {"mode": "torchrun", "world_size": world_size, "nproc": launch.nproc, "nnodes": launch.nnodes}
    store = _create(config, plan, facts, output) if launch.node_rank == 0 else None
    spec = WorkerSpec(config=config, run_dir=str(store.path) if store else None, scratch=None, first_case=0)

    def label(index: int) -> str:
        return case_label(plan.cases[index].case)

    # Around all of it, so that no signal falls between the sweep, which takes them itself, and the closing.
    with _ignoring_signals():
        with _failing(store, output), Display(len(plan.cases), label) as display:
            append = store.append if store else _nowhere
            outcome = run_sweep(spec, launch, cases=plan.cases, append=append, on_progress=display.show)
        if outcome.stopped:
            _say(f"stopped early: {outcome.stopped}")
        if store:
            code = _close(store, RunStatus.FAILED if outcome.stopped else RunStatus.COMPLETE, output)
        else:
            code = ExitCode.HANG if outcome.hangs else ExitCode.SETUP if outcome.crashes else ExitCode.OK
    _exit_as_earned(code)


def run_attached(config: RunConfig, attachment: Attachment, output: Output) -> None:
    """Be one of the ranks that somebody else launched; rank 0 records and prints."""
    # The only command that loads torch, and only where this process is a worker itself.
    from nccl_bench.bench.worker import measure

    apart = [name for each in process_sets_of(config)[1:] for name in each.arms]
    if apart:
        raise UsageError(
            f"{', '.join(apart)} would need processes with an environment of their own, and the ranks are launched "
            "already: run it outside of that launch, or set the variables for all arms"
        )
    os.environ.update(config.variables)
    plan = make_plan(config, attachment.world_size)
    facts = {
        "mode": f"attached: {attachment.launcher}",
        "world_size": attachment.world_size,
        "nproc": attachment.local_world_size,
        "nnodes": attachment.nodes,
    }
    store = _create(config, plan, facts, output) if attachment.rank == 0 else None
    os.environ.update(rendezvous_variables(attachment))
    # Where the launcher does not say, all ranks may share this node's memory.
    os.environ.setdefault("LOCAL_WORLD_SIZE", str(attachment.world_size))
    progress = Progress(None, attachment.rank, attachment.local_rank)

    # Taken by whoever ends the process, and never given back: at a deadline, a peer that leaves makes `measure` raise.
    leaving = threading.Lock()

    def give_up(late: Position) -> None:
        leaving.acquire()
        hang = make_hang(late, config.timeout_s, case_at(plan.cases, late.case_index))
        where = f"{hang.case.label if hang.case else 'set-up'} {late.arm} ({late.phase})"
        _say(f"rank {late.rank} on {late.host} met its deadline of {round(hang.timeout_s, 1):g} s in {where}")
        if store:
            store.append(hang)
            _close(store, RunStatus.FAILED, output)
        # The first rank to leave breaks the connections of the others, which are about to meet the same deadline.
        time.sleep(HANG_GRACE_S)
        _leave(ExitCode.HANG)

    def crash(error: Exception) -> Crash:
        record = crash_from_failure(Failure.of(error, progress.position))
        return replace(record, case=case_at(plan.cases, record.case_index))

    start_watchdog(progress, give_up)
    spec = WorkerSpec(config=config, run_dir=str(store.path) if store else None, scratch=None, first_case=0)
    try:
        with _failing(store, output, crash):
            try:
                measure(spec, progress)
            finally:
                leaving.acquire()
    except Exception as error:  # noqa: BLE001 - the message is all that is left of a rank that has to end here
        failure = Failure.of(error, progress.position)
        _say(failure.description)
        # Not a return: destructors of a library that failed may wait for ranks that wait for this one.
        _leave(failure.exit_code)
    if store:
        _exit_as_earned(_close(store, RunStatus.COMPLETE, output))


def _create(config: RunConfig, plan: Plan, launch: dict[str, object], output: Output) -> RunStore:
    return RunStore.create(
        output.out,
        name=config.name,
        # Not where the program lies: that says something about the user's disk and nothing about the run.
        command=["nccl-bench", *sys.argv[1:]],
        config=config.to_mapping(),
        launch=launch,
        left_out=plan.left_out,
        environment=collect(),
    )


@contextmanager
def _failing(
    store: RunStore | None, output: Output, crash: Callable[[Exception], Crash] | None = None
) -> Iterator[None]:
    """Close the records where the body raises, and show what was measured; ``crash`` is the record of an error."""
    try:
        yield
    except (InterruptedRunError, KeyboardInterrupt) as error:
        if store:
            _close_early(store, RunStatus.INTERRUPTED, output)
        # A KeyboardInterrupt says nothing.
        how = str(error) or "interrupted by SIGINT"
        raise InterruptedRunError(f"{how}; what was measured before is kept") from error
    except Exception as error:
        if store:
            _close_early(store, RunStatus.FAILED, output, crash(error) if crash else None)
        raise


def _close(store: RunStore, status: RunStatus, output: Output) -> ExitCode:
    with _ignoring_signals():
        run = _finish(store, status)
        _show(run, store, output)
    # What went wrong weighs more than what is slower.
    return failures(run.lines) or _gate(run, output)


def _gate(run: Run, output: Output) -> ExitCode:
    if not output.fail_on:
        return ExitCode.OK
    from nccl_bench.analysis.comparison import of_run
    from nccl_bench.cli.sides import could_be_judged, lacks
    from nccl_bench.report.verdicts import of_pairs

    compared = of_run(run)
    told = of_pairs(compared)
    return gate(
        output.fail_on,
        told,
        judged=could_be_judged(told),
        lacking=lacks(run, compared, run.baseline, [arm for arm in run.arms if arm != run.baseline]),
        reason=f"no arm has a round in common with {run.baseline}",
    )


def _close_early(store: RunStore, status: RunStatus, output: Output, crash: Crash | None = None) -> None:
    """Close the records on the way out with an error, which is all there is to say where nothing was measured."""
    with _ignoring_signals():
        if crash:
            store.append(crash)
        run = _finish(store, status)
        if any(isinstance(line, Samples) for line in run.lines):
            _show(run, store, output)


def _finish(store: RunStore, status: RunStatus) -> Run:
    from nccl_bench.report.export import CsvReport

    store.finish(status)
    run = Run.load(store.path)
    store.write_summary(CsvReport().render(run))
    return run


def _show(run: Run, store: RunStore, output: Output) -> None:
    print_report(run, output)
    _say(f"recorded in {store.path}")


@contextmanager
def _ignoring_signals() -> Iterator[None]:
    """Let nothing that asks for the end interrupt what the end consists of: a user may well press Ctrl-C twice.

    A handler that does nothing, since SIG_IGN would pass to the processes started meanwhile; threads cannot have any.
    """
    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, lambda _number, _frame: None)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _exit_as_earned(code: ExitCode) -> None:
    if code is not ExitCode.OK:
        raise SystemExit(int(code))


def _leave(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _say(text: str) -> None:
    print(f"nccl-bench: {text}", file=sys.stderr)


def _nowhere(_line: Hang | Crash) -> None:
    """Nodes other than the first keep no records."""
