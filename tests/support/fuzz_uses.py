"""What a command does with an input that is fuzzed: it reads the input, and reports what was read."""

from __future__ import annotations

import json
import os
import random
import tempfile
from contextlib import suppress
from dataclasses import replace
from functools import cache
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.compared_runs import analyse_arms, analyse_sides
from nccl_bench.analysis.loading import load_run
from nccl_bench.cli import resumed_run
from nccl_bench.cli.tracking import track_run
from nccl_bench.config.hidden_values import give_values_again
from nccl_bench.config.limits import DEFAULT_THRESHOLD, Limits, read_limits
from nccl_bench.config.recorded_code import refuse_recorded_code
from nccl_bench.config.run import read_run_config, resolve
from nccl_bench.config.user_arms import parse_arm_options
from nccl_bench.config.verification import resolve_verification
from nccl_bench.config.workload import read_workload, workload_text
from nccl_bench.errors import RecordError
from nccl_bench.plan.cases import make_plan
from nccl_bench.records import resuming
from nccl_bench.records.anonymity import Aliases
from nccl_bench.records.decoding import decode
from nccl_bench.records.importers import merge, read
from nccl_bench.records.meta import RunMeta
from nccl_bench.records.run import Run
from nccl_bench.records.schema import dump
from nccl_bench.report import Detail
from nccl_bench.report.bencher import bencher_report
from nccl_bench.report.csv import csv_report
from nccl_bench.report.html.analysis_page import html_report
from nccl_bench.report.html.verification_page import verification_html
from nccl_bench.report.json import json_report
from nccl_bench.report.markdown import markdown_report
from nccl_bench.report.perfetto import perfetto_report
from nccl_bench.report.svg.report import svg_report
from nccl_bench.report.terminal import TerminalReport
from nccl_bench.report.traffic import reports as traffic_reports
from nccl_bench.report.verification import reports
from nccl_bench.traces.joining import join
from nccl_bench.traces.readers import read_recordings
from nccl_bench.traces.rows import workload_of
from nccl_bench.verify.record import VerificationRecord
from tests.support import recordings
from tests.support.command import ROOT

# A record of a run, and its summary, that other inputs are compared with.
OTHER_RUN = ROOT / "tests" / "data" / "cpu-2-cores"


def _analysis_reports(analysis: Analysis, chance: random.Random) -> None:
    width = chance.choice((40, 80, 160))
    detail = chance.choice(tuple(Detail))
    terminal = replace(TerminalReport.for_stream(StringIO(), width), detail=detail)
    of_format = (
        *(terminal.render, terminal.render, markdown_report, csv_report, json_report),
        *(html_report, svg_report, bencher_report, *(() if analysis.measured is None else (perfetto_report,))),
    )
    chance.choice(of_format)(analysis).encode()


def _is_made_anonymous(directory: Path, chance: random.Random) -> bool:
    """Return True for some of the records. A user does this with an own record, and a megabyte takes seconds."""
    return chance.random() < 0.3 and sum(file.stat().st_size for file in directory.iterdir()) < 200_000


def use_run(directory: Path, chance: random.Random, reported: bool) -> None:
    run = Run.load(directory)
    if reported:
        _analysis_reports(Analysis.of(Aliases().run(run) if _is_made_anonymous(directory, chance) else run), chance)


def use_resumed(directory: Path, chance: random.Random, _reported: bool) -> None:
    """Do what ``--resume`` does before it starts processes, on the machine and with the version of the record."""
    run = Run.load(directory)
    with (
        patch.dict(os.environ),
        patch.object(resumed_run, "collect", lambda: run.meta["environment"]),
        patch.object(resuming, "__version__", str(run.meta["version"])),
    ):
        config = resumed_run.configuration_of(run, directory, {}, allow_recorded_code=False)
        plan, spec = resumed_run.work_left(run, config)
        if spec.cases is not None:
            track_run(config, plan, (spec.cases, *spec.later), samples=None, started=0.0).status()


def use_compared(directory: Path, chance: random.Random, reported: bool) -> None:
    loaded = load_run(directory)
    if not reported:
        return
    arms = loaded.comparable.arms
    if len(arms) > 1 and chance.random() < 0.3:
        _analysis_reports(analyse_arms(loaded, tuple(chance.sample(arms, 2)), None), chance)  # type: ignore[arg-type]
    limits = Limits(default=DEFAULT_THRESHOLD)
    other = _other_run()
    before, after = ([loaded], [other]) if chance.random() < 0.5 else ([other], [loaded])
    _analysis_reports(analyse_sides(before, after, None, None, limits, True), chance)


@cache
def _other_run() -> object:
    return load_run(OTHER_RUN)


def use_summary(directory: Path, chance: random.Random, reported: bool) -> None:
    loaded = load_run(directory / "summary.csv")
    if reported:
        limits = Limits(default=DEFAULT_THRESHOLD)
        other = load_run(OTHER_RUN / "summary.csv")
        _analysis_reports(analyse_sides([loaded], [other], None, None, limits, True), chance)


def use_import(directory: Path, chance: random.Random, reported: bool) -> None:
    (file,) = directory.iterdir()
    imported = merge([read(file)])
    try:
        meta = decode(RunMeta, json.loads(json.dumps(imported.meta(), allow_nan=False)), "")
        run = Run.parse(meta, [dump(line).encode() for line in imported.lines], file)
    except RecordError as error:
        raise AssertionError("what an import writes cannot be read") from error
    if reported:
        _analysis_reports(Analysis.of(run), chance)


def use_verification(directory: Path, chance: random.Random, reported: bool) -> None:
    record = VerificationRecord.load(directory)
    verification = record.verification
    # What `--resume` does on this machine before it starts processes.
    values = give_values_again(directory, record.facts["config"], {})
    refuse_recorded_code(directory, resolve_verification(record.config.device, values), {})
    if reported:
        if _is_made_anonymous(directory, chance):
            verification = record.anonymous(Aliases()).verification
        by_format = reports(StringIO(), chance.choice((40, 80, 160)), chance.choice(tuple(Detail)))
        chance.choice((*by_format.values(), verification_html))(verification).encode()


def use_toml(directory: Path, chance: random.Random, reported: bool) -> None:
    values = read_run_config(directory / "mine.toml")
    config = resolve(str(values.get("device") or chance.choice(("cpu", "cuda"))), values)
    if reported and len(config.sizes) < 1000:
        make_plan(config, 2)


def use_limits(directory: Path, _chance: random.Random, _reported: bool) -> None:
    read_limits(directory / "limits.toml", DEFAULT_THRESHOLD).threshold("all_reduce", "eager", 8)  # type: ignore[arg-type]


def use_arm(directory: Path, chance: random.Random, _reported: bool) -> None:
    text = (directory / "arm").read_bytes().decode(errors="replace")
    arms = parse_arm_options(text.split("\n"), *chance.choice(((), ("/old", "/new"))))
    resolve("cuda", {"user_arms": arms})
    resolve_verification("cuda", {"user_arms": arms})


def use_recording(directory: Path, chance: random.Random, reported: bool) -> None:
    (file,) = directory.iterdir()
    with tempfile.TemporaryDirectory() as scratch:
        companions = [Path(scratch, name) for name in ("kineto-rank0.json", "nccl-rank0.log")]
        for other in companions:
            other.write_bytes(recordings.files()[other.name])
        together = [file, *chance.sample(companions, chance.randrange(3))]
        traffic = join([recording for each in together for recording in read_recordings(each)])
        with suppress(RecordError):
            workload, _ = workload_of(traffic[0], 1)
            written = Path(scratch, "workload.toml")
            written.write_text(workload_text(workload), encoding="utf-8")
            assert read_workload(written) == workload
    if reported:
        chance.choice(tuple(traffic_reports(StringIO(), chance.choice((50, 80, 160))).values()))(traffic).encode()
