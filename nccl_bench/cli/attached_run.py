"""A run in which this process is one of the ranks that another launcher started."""

import os
import sys
import threading
import time
from dataclasses import replace
from typing import NoReturn

from nccl_bench.cli.cleaned_streams import CleanedStreams
from nccl_bench.cli.messages import exit_with, print_message
from nccl_bench.cli.output import OutputConfig
from nccl_bench.cli.progress import Lines
from nccl_bench.cli.recorded_run import (
    close_record,
    closing_on_error,
    create_record,
    record_end,
    reporting_record_errors,
)
from nccl_bench.cli.tracking import track_run
from nccl_bench.config.run import RunConfig
from nccl_bench.errors import ExitCode, UsageError
from nccl_bench.launch.crashes import crash_from_failure
from nccl_bench.launch.launchers import Attachment
from nccl_bench.launch.supervise import make_hang
from nccl_bench.launch.sweep import case_at
from nccl_bench.launch.watchdog import start_watchdog
from nccl_bench.plan.cases import make_plan
from nccl_bench.ranks.failure import Failure
from nccl_bench.ranks.progress import Position, Progress
from nccl_bench.ranks.spec import WorkerSpec
from nccl_bench.records.run import ATTACHED, SAMPLES
from nccl_bench.records.schema import Crash
from nccl_bench.records.store import RunStatus
from nccl_bench.report import Detail

# The ranks reach the deadline of a case at different times, but at most this many seconds apart.
HANG_GRACE_S = 3.0


def refuse_new_processes(config: RunConfig, attachment: Attachment) -> None:
    """Raise ``UsageError`` if the run needs more processes than the launcher has started."""
    apart = [user_arm.name for user_arm in config.user_arms if user_arm.process_settings]
    if apart:
        raise UsageError(
            f"{', '.join(apart)}: an arm with its own variables, interpreter or libnccl needs processes of its own, "
            "but the launcher has started the ranks already: run nccl-bench without a launcher, or set the variables "
            "for all arms with --env"
        )
    if config.launches > 1:
        raise UsageError(
            f"--launches is {config.launches}, and every launch needs new ranks, but {attachment.launcher} has started "
            "the ranks already: run nccl-bench without a launcher, or several runs and nccl-bench compare"
        )


def run_attached(config: RunConfig, attachment: Attachment, output: OutputConfig) -> None:
    """Measure as one rank of a launch; rank 0 also writes the record and prints the report."""
    refuse_new_processes(config, attachment)
    # Import here: this module loads torch, which only a rank needs.
    from nccl_bench.bench.worker import measure

    os.environ.update(config.variables)
    plan = make_plan(config, attachment.world_size)
    facts = {
        "mode": f"{ATTACHED}{attachment.launcher}",
        "world_size": attachment.world_size,
        "nproc": attachment.local_world_size,
        "nnodes": attachment.nodes,
    }
    store = create_record(config, plan, facts, output) if attachment.rank == 0 else None
    os.environ.update(attachment.torch_variables)
    # If the launcher gives no local world size, assume that all ranks share this node's memory.
    os.environ.setdefault("LOCAL_WORLD_SIZE", str(attachment.world_size))
    progress = Progress(None, attachment.rank, attachment.local_rank)

    # At a deadline two threads can try to end the process: the thread of the watchdog, and the main thread, if
    # `measure` raises because another rank has ended. The faster thread takes this lock and never releases it.
    leaving = threading.Lock()
    streams = CleanedStreams()

    def end_at_deadline(late: Position) -> None:
        leaving.acquire()
        streams.stop()
        hang = make_hang(late, config.timeout_s, case_at(plan.cases, late.case_index))
        where = f"{hang.case.label if hang.case else 'set-up'} {late.arm} ({late.phase})"
        print_message(f"rank {late.rank} on {late.host} did not finish within {round(hang.timeout_s, 1):g} s: {where}")
        if store:
            # After an error, this thread must still reach `_leave`.
            with reporting_record_errors():
                record_end(store, hang)
            with reporting_record_errors():
                close_record(store, RunStatus.FAILED, output)
        # When this rank ends, all connections to this rank break. So wait until all ranks have reached the deadline.
        time.sleep(HANG_GRACE_S)
        _leave(ExitCode.HANG)

    def crash_of(error: Exception) -> Crash:
        record = crash_from_failure(Failure.of(error, progress.position))
        return replace(record, case=case_at(plan.cases, record.case_index))

    spec = WorkerSpec(config=config, run_dir=str(store.path) if store else None)
    lines = None
    if store:
        orders = [range(len(plan.cases))]
        tracker = track_run(config, plan, orders, samples=store.path / SAMPLES, started=spec.started)
        # A bar would take time from the measuring thread, and the output of other ranks would break it.
        lines = Lines(tracker, "case", is_silent=output.detail is Detail.QUIET)
    start_watchdog(progress, end_at_deadline, lambda position: lines.show([position]) if lines else None)
    try:
        with closing_on_error(store, output, crash_of):
            try:
                # Print the report after this block, because `streams` would clean its colours away.
                with streams:
                    measure(spec, progress)
            finally:
                leaving.acquire()
    except Exception as error:  # noqa: BLE001 - the rank ends here, whatever the error is
        failure = Failure.of(error, progress.position)
        print_message(failure.description)
        # Do not return: the destructor of a library may wait for another rank that waits for this rank.
        _leave(failure.exit_code)
    if store:
        exit_with(close_record(store, RunStatus.COMPLETE, output))


def _leave(code: int) -> NoReturn:
    """End the process immediately, without destructors."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
