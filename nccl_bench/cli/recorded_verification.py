"""The record of a verification: its creation, its end after success or an error, its table and its exit code."""

import shlex
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nccl_bench import __version__
from nccl_bench.analysis.wording import counted
from nccl_bench.cli.launching import refuse_missing
from nccl_bench.cli.live_table import LiveTable
from nccl_bench.cli.messages import exit_with, print_message
from nccl_bench.cli.output import OutputConfig
from nccl_bench.cli.progress import Lines
from nccl_bench.cli.report import print_verification
from nccl_bench.cli.tracking import track_verification
from nccl_bench.config.hidden_values import give_values_again, options_to_give_again, recordable_config
from nccl_bench.config.recorded_code import refuse_recorded_code
from nccl_bench.config.verification import VerifyConfig, resolve_verification
from nccl_bench.errors import InterruptedRunError, RecordError
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.launch.job import running_agent
from nccl_bench.launch.signals import ignoring_signals, interruptible
from nccl_bench.launch.verification import run_verification
from nccl_bench.records.anonymity import Aliases
from nccl_bench.records.creation import Created, creating
from nccl_bench.records.environment import collect
from nccl_bench.records.facts import command_line, time_text
from nccl_bench.records.files import replace_file
from nccl_bench.records.locks import locked
from nccl_bench.records.resuming import refuse_changes, refuse_links, refuse_many_ranks
from nccl_bench.records.run import FINDINGS, TOOL, VERIFICATION, VERIFICATION_FILES
from nccl_bench.records.store import RunStatus
from nccl_bench.report import Detail
from nccl_bench.report.verification import json_verification
from nccl_bench.verify.findings import read_findings
from nccl_bench.verify.judgement import Verification
from nccl_bench.verify.record import VerificationRecord

WORKER = "nccl_bench.verify.worker"


def new_record(config: VerifyConfig, ranks: int, gpus: int | None) -> VerificationRecord:
    """Return the record of a verification that starts now on ``ranks`` ranks, which share ``gpus`` GPUs."""
    facts = {
        "tool": TOOL,
        "version": __version__,
        "started": time_text(),
        "resumed": [],
        "finished": None,
        "status": RunStatus.RUNNING,
        "command": command_line(),
        "config": recordable_config(asdict(config)),
        "environment": collect(),
    }
    return VerificationRecord(facts=facts, config=config, world_size=ranks, gpus=gpus)


def run_recorded(record: VerificationRecord, output: OutputConfig) -> None:
    """Run all probes, print the table, and exit with the code of the verification.

    The record is in the directory ``output.out``. Without a directory nothing is recorded.
    """
    with ignoring_signals(), ExitStack() as held:
        created = None if output.out is None else _create(output.out, record, held)
        record = _run_and_close(record, output, created)
    exit_with(record.verification.exit_code)


def resume_recorded(
    directory: Path, output: OutputConfig, given: Mapping[str, Any], *, allow_recorded_code: bool
) -> None:
    """Run the probes that the record in ``directory`` lacks, print the whole table, and exit with its code.

    ``given`` has the options that give values which the record does not hold. ``allow_recorded_code`` allows the code
    that the record names.

    Raises ``UsageError`` if the record is of another machine, version or setting, or if another command writes it.
    """
    # This refuses a directory without a verification, which has no file to lock.
    VerificationRecord.load(directory)
    refuse_links(directory, VERIFICATION_FILES)
    with ignoring_signals(), locked(directory / FINDINGS):
        record = VerificationRecord.load(directory)
        refuse_many_ranks(directory, record.world_size)
        with interruptible():
            refuse_changes(directory, record.facts, collect())
        config = give_values_again(directory, record.facts["config"], given)
        record = replace(record, config=resolve_verification(record.config.device, config))
        if not allow_recorded_code:
            refuse_recorded_code(directory, record.config, given)
        refuse_missing(record.config.user_arms)
        if record.verification.complete and record.facts["status"] == RunStatus.COMPLETE:
            print_message(f"nothing is left to verify in {directory}")
            _print(record, output)
        else:
            resumed = [*record.facts["resumed"], time_text()]
            facts = {**record.facts, "resumed": resumed, "finished": None, "status": RunStatus.RUNNING}
            # Clear the directory, so that the table does not name the command that resumes: the last message names it.
            record = replace(record, facts=facts, directory=None)
            _save(directory, record)
            record = _run_and_close(record, output, None)
    exit_with(record.verification.exit_code)


def _run_and_close(record: VerificationRecord, output: OutputConfig, created: Created | None) -> VerificationRecord:
    """Run the missing probes, print the table, write the record and return it. ``created`` are its new files."""
    record, error = _run(record, output)
    if created is not None and record.is_empty and not isinstance(error, InterruptedRunError | None):
        created.remove()  # an empty record would make the next verification refuse the directory
        raise error
    status = RunStatus.COMPLETE
    if error is not None:
        status = RunStatus.INTERRUPTED if isinstance(error, InterruptedRunError) else RunStatus.FAILED
    record = replace(record, facts={**record.facts, "status": status, "finished": time_text()})
    _close(record, output, error)
    return record


def _create(directory: Path, record: VerificationRecord, held: ExitStack) -> Created:
    """Create and lock the files of the record before the ranks start: a bad path must not waste a verification."""
    with creating(directory) as created:
        created.make_directory(directory, exist_ok=True)
        created.make_files(directory, VERIFICATION_FILES)
        held.enter_context(locked(directory / FINDINGS))
        _save(directory, record)
    return created


def _save(directory: Path, record: VerificationRecord) -> None:
    replace_file(directory / VERIFICATION, json_verification(record.verification))


def _run(record: VerificationRecord, output: OutputConfig) -> tuple[VerificationRecord, Exception | None]:
    """Run the missing probes. Return the record with everything that was found, and the error that ended the run."""
    config, directory = LaunchConfig(nproc=record.world_size, worker=WORKER), output.out
    try:
        with running_agent() as agent:
            path = (agent.scratch if directory is None else directory) / FINDINGS
            path.touch()
            # An open file can be read even after it was removed.
            with path.open("rb") as file:

                def read() -> VerificationRecord:
                    file.seek(0)
                    return replace(record, lines=file.read().decode(), source=path)

                tracker = track_verification(record.config, [finding.arm_probe for finding in read_findings(path)])
                in_terminal = sys.stderr.isatty()
                lines = Lines(tracker, "probe", is_silent=output.detail is Detail.QUIET)
                display = LiveTable(tracker, lambda: read().verification) if in_terminal else lines
                try:
                    with display:
                        run_verification(record.config, config, agent, path, on_progress=display.show)
                finally:
                    record = read()
    except Exception as error:  # noqa: BLE001 - what was found is kept, and the caller raises the error
        return record, error
    return record, None


def _print(record: VerificationRecord, output: OutputConfig) -> None:
    shown = record.anonymous(Aliases()) if output.anonymous else record
    print_verification(shown, output.format, output.width, output.to, output.detail)


def _summary(verification: Verification, output: OutputConfig) -> str:
    probes = f"{verification.ran} of {counted(verification.planned, 'probe')}"
    return output.summary(probes, counted(len(verification.notes), "warning"))


def _close(record: VerificationRecord, output: OutputConfig, error: Exception | None) -> None:
    """Print what was found and write the record. Then raise ``error``, or the error of this write."""
    verification = record.verification
    try:
        if error is None or not record.is_empty:
            _print(record, output)
    finally:
        # A verification takes minutes, so write its record even if printing fails.
        if output.out is not None:
            try:
                _save(output.out, record)
            except RecordError as unwritten:
                error = error or unwritten
                # Both errors can have the same reason.
                if str(error) != str(unwritten):
                    print_message(str(unwritten))
            else:
                again = options_to_give_again(record.facts["config"])
                command = shlex.join(["nccl-bench", "verify", "--resume", str(output.out), *again])
                rest = f"; to run the other probes: {command}"
                where = f"recorded in {output.out.absolute()}{'' if verification.complete else rest}"
                print_message(f"{_summary(verification, output)}; {where}")
        elif error is None:
            print_message(_summary(verification, output))
    if isinstance(error, InterruptedRunError):
        ran = f"{verification.ran} of {verification.planned} probes ran, and nothing else is verified"
        raise InterruptedRunError(f"{error}; {ran}") from error
    if error is not None:
        raise error
