"""The record of a run: its creation, its end after success or an error, its report and its exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from nccl_bench.analysis.wording import counted
from nccl_bench.cli.gate import gate
from nccl_bench.cli.messages import print_message
from nccl_bench.cli.output import OutputConfig
from nccl_bench.cli.report import print_report
from nccl_bench.config.run import RunConfig
from nccl_bench.errors import ExitCode, InterruptedRunError, NodeLostError, RecordError
from nccl_bench.launch.signals import ignoring_signals, interruptible
from nccl_bench.plan.cases import Plan
from nccl_bench.records.environment import collect
from nccl_bench.records.facts import command_line
from nccl_bench.records.schema import Crash, Hang
from nccl_bench.records.store import RunStatus, RunStore

if TYPE_CHECKING:
    from nccl_bench.analysis.analysis import Analysis


def create_record(config: RunConfig, plan: Plan, launch: Mapping[str, object], output: OutputConfig) -> RunStore:
    """Create the directory of a run. ``launch`` describes how the ranks were started."""
    # `collect` can take seconds, so a signal may interrupt it. No file exists yet, so there is nothing to clean up.
    with interruptible():
        environment = collect()
    return _create(config, plan, launch, output, environment)


def _create(
    config: RunConfig,
    plan: Plan,
    launch: Mapping[str, object],
    output: OutputConfig,
    environment: Mapping[str, object],
) -> RunStore:
    return RunStore.create(
        output.out,
        name=config.name,
        command=command_line(),
        config=config.to_mapping(),
        launch=launch,
        cases=len(plan.cases),
        left_out=plan.left_out,
        environment=environment,
    )


def try_record(config: RunConfig, plan: Plan, output: OutputConfig) -> None:
    """Create the record as the run would, and remove it again. Raise ``UsageError`` if it cannot be created."""
    store = _create(config, plan, {}, output, {})
    store.discard_if_empty()


@contextmanager
def closing_on_error(
    store: RunStore | None, output: OutputConfig, crash_of: Callable[[Exception], Crash] | None = None
) -> Iterator[None]:
    """If the body raises, close the record and print its report. ``crash_of`` makes a ``Crash`` of an error."""
    try:
        yield
    except (InterruptedRunError, KeyboardInterrupt) as error:
        kept = "node 0 has the record"
        if store:
            kept = "nothing was measured"
            with ignoring_signals():
                if not store.discard_if_empty():
                    analysis, _ = _close(store, RunStatus.INTERRUPTED, output, print_empty=False)
                    kept = "what was measured before is kept" if _has_times(analysis) else kept
        # The text of a KeyboardInterrupt is empty.
        reason = str(error) or "interrupted by SIGINT"
        raise InterruptedRunError(f"{reason}; {kept}") from error
    except Exception as error:
        kept = "node 0 has the record" if store is None else ""
        if store:
            with ignoring_signals():
                # A RecordError means that the record cannot be written. Then no rank has failed.
                if crash_of and not isinstance(error, RecordError):
                    with reporting_record_errors():
                        record_end(store, crash_of(error))
                if not store.discard_if_empty():
                    _close(store, RunStatus.FAILED, output, print_empty=False, reason=str(error))
                    kept = "what was measured before is kept"
        if isinstance(error, NodeLostError) and kept:
            raise NodeLostError(f"{error}; {kept}") from error
        raise


def record_end(store: RunStore, end: Hang | Crash) -> None:
    """Record a hang or a crash, and wait until it is on the disk."""
    store.append(end)
    store.sync()


@contextmanager
def reporting_record_errors() -> Iterator[None]:
    """Print a ``RecordError`` of the body and go on: what cannot be recorded can still be shown."""
    try:
        yield
    except RecordError as error:
        print_message(str(error))


def close_record(store: RunStore, status: RunStatus, output: OutputConfig) -> ExitCode:
    """Close the record, print the report and return the exit code of the run.

    If ``status`` is ``COMPLETE`` and cases or arms are missing, the run gets the status ``PARTIAL``. If the record
    cannot be closed, print the reason; the exit code is then at least that of a ``RecordError``.
    """
    analysis, closed = _close(store, status, output)
    # The exit code of a failure wins over the exit code of a verdict.
    failed = ExitCode.OK if closed else RecordError.exit_code
    return analysis.exit_code or failed or gate(output.fail_on, analysis)


def _close(
    store: RunStore, status: RunStatus, output: OutputConfig, *, print_empty: bool = True, reason: str = ""
) -> tuple[Analysis, bool]:
    """Close the record and print the report. Return the analysis, and whether everything is recorded.

    Without samples, print the report only with ``print_empty``. Print it even if the record cannot be written.
    ``reason`` is why the run ends; the caller prints it.
    """
    from nccl_bench.analysis.analysis import Analysis
    from nccl_bench.report.csv import csv_report

    errors: list[RecordError] = []
    with ignoring_signals():
        run = store.load()
        if status is RunStatus.COMPLETE and (run.missing or run.excluded):
            status = RunStatus.PARTIAL
        ended: Mapping[str, object] = {"status": status}
        try:
            ended = store.finish(status)
        except RecordError as error:
            errors.append(error)
        # This command still holds the lock, but it measures nothing more.
        analysis = Analysis.of(replace(run, meta={**run.meta, **ended}, is_written=None))
        try:
            store.write_summary(csv_report(analysis))
        except RecordError as error:
            errors.append(error)
        shown = print_empty or _has_times(analysis)
        if shown:
            print_report(analysis, output.format, output.width, detail=output.detail)
        if not errors and (shown or status is RunStatus.INTERRUPTED):
            command = run.resume_command
            rest = f"; to measure the other cases: {command}" if command else ""
            cells = sum(map(bool, analysis.rows.column("timing")))
            numbers = (counted(cells, "cell"), counted(len(analysis.warnings), "warning"))
            print_message(f"{output.summary(*numbers)}; recorded in {store.path}{rest}")
        # Several errors can have the same reason.
        for text in dict.fromkeys(str(error) for error in errors if str(error) != reason):
            print_message(text)
    return analysis, not errors


def _has_times(analysis: Analysis) -> bool:
    return any(analysis.rows.column("timing"))
