"""The readers that are fuzzed: for each, seeds from real files, how they change, and the use of what was read."""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
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
from nccl_bench.records.run import FINDINGS, LAUNCHED, RUN, SAMPLES, VERIFICATION, Run
from nccl_bench.records.schema import CaseEnd, Resume, Skipped, dump
from nccl_bench.records.store import new_meta
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
from tests.support.findings import make_findings, write_verification
from tests.support.mutations import (
    change_bytes,
    change_json,
    change_lines,
    change_words,
    dumped,
    lengthen,
    lengthen_json,
)
from tests.support.nccl_tests_files import FILES
from tests.support.synthetic_runs import (
    ARMS,
    case,
    crash,
    declined,
    gpus,
    hang,
    meta,
    per_iteration,
    samples,
    sweep,
    wrong,
)

ROOT = Path(__file__).parents[2]
# The share of the changes that make a text, a line or a list very long.
LONG = 0.02
# The files of one input: name -> content.
Files = Mapping[str, bytes]
# Reads the files in a directory. Reports take long, so they are made only if the last argument is true.
Use = Callable[[Path, random.Random, bool], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A reader under test."""

    seeds: Callable[[], Sequence[Files]]  # valid inputs
    change: Callable[[random.Random, str, bytes], bytes]  # changes a file, of which it gets the name
    use: Use  # reads a changed input
    share: int  # how many of a hundred inputs this reader gets


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


def _use_run(directory: Path, chance: random.Random, reported: bool) -> None:
    run = Run.load(directory)
    if reported:
        _analysis_reports(Analysis.of(Aliases().run(run) if _is_made_anonymous(directory, chance) else run), chance)


def _use_resumed(directory: Path, chance: random.Random, _reported: bool) -> None:
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


def _use_compared(directory: Path, chance: random.Random, reported: bool) -> None:
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
    return load_run(ROOT / "results" / "cpu-2-cores")


def _use_summary(directory: Path, chance: random.Random, reported: bool) -> None:
    loaded = load_run(directory / "summary.csv")
    if reported:
        limits = Limits(default=DEFAULT_THRESHOLD)
        other = load_run(ROOT / "results" / "cpu-2-cores" / "summary.csv")
        _analysis_reports(analyse_sides([loaded], [other], None, None, limits, True), chance)


def _use_import(directory: Path, chance: random.Random, reported: bool) -> None:
    (file,) = directory.iterdir()
    imported = merge([read(file)])
    try:
        meta = decode(RunMeta, json.loads(json.dumps(imported.meta(), allow_nan=False)), "")
        run = Run.parse(meta, [dump(line).encode() for line in imported.lines], file)
    except RecordError as error:
        raise AssertionError("what an import writes cannot be read") from error
    if reported:
        _analysis_reports(Analysis.of(run), chance)


def _use_verification(directory: Path, chance: random.Random, reported: bool) -> None:
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


def _use_toml(directory: Path, chance: random.Random, reported: bool) -> None:
    values = read_run_config(directory / "mine.toml")
    config = resolve(str(values.get("device") or chance.choice(("cpu", "cuda"))), values)
    if reported and len(config.sizes) < 1000:
        make_plan(config, 2)


def _use_limits(directory: Path, _chance: random.Random, _reported: bool) -> None:
    read_limits(directory / "limits.toml", DEFAULT_THRESHOLD).threshold("all_reduce", "eager", 8)  # type: ignore[arg-type]


def _use_arm(directory: Path, chance: random.Random, _reported: bool) -> None:
    text = (directory / "arm").read_bytes().decode(errors="replace")
    arms = parse_arm_options(text.split("\n"), *chance.choice(((), ("/old", "/new"))))
    resolve("cuda", {"user_arms": arms})
    resolve_verification("cuda", {"user_arms": arms})


def _run_seeds() -> Sequence[Files]:
    seeds: list[Files] = []
    ends = [CaseEnd(case=case())]
    entries = [
        samples(
            per_iteration=per_iteration(), gpus=gpus(), launch=1, arms_before=(0, 1, 2), began_s=(1.0, 2.0, 3.0), late=0
        ),
        samples("dedicated-stream", gpus=gpus(throttled_rank=1)),
        samples("dedicated-stream:twin"),
        declined(arm="torch"),
        wrong(arm="torch-async"),
        Skipped(case=case(2048), reason="does not fit"),
        hang(case=case(4096), ras={"ranks": [1]}),
        crash(case=None),
        Resume(started="2026-11-23T04:54:58+00:00", command=("nccl-bench", "run", "--resume", "x")),
        *ends,
    ]
    lines = sweep((*ARMS, "dedicated-stream:twin")[:2], (8, 1024, 2**20, 2**24))
    for fields, of_run in ((meta(cases=3), entries), (meta(), lines), (meta(launches=2, cases=4), [*lines, *ends])):
        seeds.append({RUN: dumped(fields), SAMPLES: "".join(map(dump, of_run)).encode()})
    for directory in sorted((ROOT / "results").glob("*/samples.jsonl")):
        with directory.open("rb") as opened:
            first = [_shortened(line) for line, _ in zip(opened, range(20), strict=False)]
        seeds.append({RUN: (directory.parent / RUN).read_bytes(), SAMPLES: b"".join(first)})
    return seeds


def _resumed_seeds() -> Sequence[Files]:
    """Return runs with missing cases, with every kind of option."""
    seeds: list[Files] = []
    layers: tuple[dict[str, object], ...] = (
        {},
        {"sizes": "8,1K", "launches": 3, "collectives": "all", "variables": {"NCCL_ALGO": "Ring"}},
        {"user_arms": parse_arm_options(["mine=stream-free,NCCL_ALGO=Ring"]), "rounds": 5, "max_rounds": 9},
        {"arms": "coordinator,torch", "routes": "eager=torch", "placements": "in-place", "dtypes": "half,float"},
    )
    for layer in layers:
        config = resolve("cpu", layer)
        plan = make_plan(config, 2)
        facts = {"mode": LAUNCHED, "world_size": 2, "nproc": 2, "nnodes": 1}
        fields = new_meta(
            name="made-up",
            started="2026-11-23T04:54:58+00:00",
            config=config.to_mapping(),
            launch=facts,
            cases=len(plan.cases),
            left_out=plan.left_out,
            environment={"hostname": "vm"},
        )
        lines = [CaseEnd(case=planned.case, launch=1) for planned in plan.cases[:2]]
        seeds.append({RUN: dumped(fields), SAMPLES: "".join(map(dump, lines)).encode()})
    return seeds


def _shortened(line: bytes) -> bytes:
    """Return a line with the first seven rounds, so that more inputs are read in a second."""
    value = json.loads(line)
    return dumped({key: item[:7] if isinstance(item, list) else item for key, item in value.items()}) + b"\n"


def _summary_seeds() -> Sequence[Files]:
    files = (ROOT / "results").glob("*/summary.csv")
    return [{"summary.csv": b"".join(file.read_bytes().splitlines(keepends=True)[:20])} for file in sorted(files)]


def _import_seeds() -> Sequence[Files]:
    return [{file.name: file.read_bytes()} for file in FILES]


def _verification_seeds() -> Sequence[Files]:
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        config = resolve_verification("cpu", {})
        findings = make_findings(config)
        write_verification(directory, config, [*findings[:5], *findings[-3:]])
        return [{name: (directory / name).read_bytes() for name in (VERIFICATION, FINDINGS)}]


def _toml_seeds() -> Sequence[Files]:
    user_arms = (
        b'[[user_arms]]\nname = "mine"\ntarget = "a.py:b"\norder = "current"\nvariables = {NCCL_ALGO = "Ring"}\n'
    )
    files = [file for file in sorted((ROOT / "configs").glob("*.toml")) if file.stem != "limits"]
    return [{"mine.toml": file.read_bytes()} for file in files] + [{"mine.toml": user_arms}]


def _limits_seeds() -> Sequence[Files]:
    return [{"limits.toml": (ROOT / "configs" / "limits.toml").read_bytes()}]


def _arm_seeds() -> Sequence[Files]:
    texts = ("mine=a.py:b,order=current,NCCL_ALGO=Ring", "a.py:b", "fast=stream-free,transport=nccl4py,library=/a.so")
    return [{"arm": text.encode()} for text in (*texts, "\n".join(texts))]


def _change_record(chance: random.Random, name: str, content: bytes) -> bytes:
    """Change one file of a record: mostly by the structure of its JSON, else by its lines or bytes."""
    how = chance.random()
    if how < 0.1:
        return change_bytes(chance, content)
    if how < 0.2:
        return _change_lines(chance, content)
    change = lengthen_json if chance.random() < LONG else change_json
    if not name.endswith("l"):
        return dumped(change(chance, json.loads(content)))
    lines = content.splitlines(keepends=True)
    for _ in range(chance.choice((1, 1, 3))):
        at = chance.randrange(len(lines))
        try:
            value = json.loads(lines[at])
        except ValueError:
            continue
        lines[at] = dumped(change(chance, value)) + b"\n"
    return b"".join(lines)


def _change_text(chance: random.Random, name: str, content: bytes) -> bytes:
    if name.endswith(".json") and chance.random() < 0.7:
        change = lengthen_json if chance.random() < LONG else change_json
        return dumped(change(chance, json.loads(content)))
    return change_bytes(chance, content) if chance.random() < 0.2 else _change_lines(chance, content)


def _change_lines(chance: random.Random, content: bytes) -> bytes:
    change = lengthen if chance.random() < LONG else change_lines
    return change(chance, content.decode(errors="replace")).encode(errors="surrogatepass")


def _change_arm(chance: random.Random, _name: str, content: bytes) -> bytes:
    change = lengthen if chance.random() < LONG else change_words
    return change(chance, content.decode()).encode(errors="surrogatepass")


def _recording_seeds() -> Sequence[Files]:
    return [{name: content} for name, content in recordings.files().items()]


def _change_recording(chance: random.Random, name: str, content: bytes) -> bytes:
    if not name.endswith((".json", ".log", ".jsonl")):
        return change_bytes(chance, content)
    return _change_text(chance, name, content)


def _use_recording(directory: Path, chance: random.Random, reported: bool) -> None:
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


READERS: Mapping[str, Reader] = {
    "run": Reader(seeds=_run_seeds, change=_change_record, use=_use_run, share=24),
    "resumed": Reader(seeds=_resumed_seeds, change=_change_record, use=_use_resumed, share=8),
    "compared": Reader(seeds=_run_seeds, change=_change_record, use=_use_compared, share=10),
    "summary": Reader(seeds=_summary_seeds, change=_change_text, use=_use_summary, share=8),
    "import": Reader(seeds=_import_seeds, change=_change_text, use=_use_import, share=12),
    "verification": Reader(seeds=_verification_seeds, change=_change_record, use=_use_verification, share=14),
    "toml": Reader(seeds=_toml_seeds, change=_change_text, use=_use_toml, share=8),
    "limits": Reader(seeds=_limits_seeds, change=_change_text, use=_use_limits, share=4),
    "recording": Reader(seeds=_recording_seeds, change=_change_recording, use=_use_recording, share=8),
    "arm": Reader(seeds=_arm_seeds, change=_change_arm, use=_use_arm, share=4),
}
