"""No text of a record, a name, a path, a machine or an error has an effect on who reads the output of a command."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nccl_bench.catalog.cases import Scenario
from nccl_bench.cli import launched_run
from nccl_bench.cli.live_table import LiveTable
from nccl_bench.cli.progress import Lines
from nccl_bench.cli.tracking import track_verification
from nccl_bench.config.user_arms import GROUP
from nccl_bench.config.verification import resolve_verification
from nccl_bench.doctor import examination, torch_facts
from nccl_bench.doctor.diagnosis import Diagnosis, Severity
from nccl_bench.doctor.examination import Examination
from nccl_bench.doctor.torch_facts import TorchFacts
from nccl_bench.errors import ExitCode, UserArmError
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.ranks.progress import Position
from nccl_bench.records.kernels import Kernel, Kernels
from nccl_bench.records.run import RUN, SAMPLES
from nccl_bench.records.schema import dump
from nccl_bench.report import TABLE_FORMATS, VERIFICATION_FORMATS, Format
from nccl_bench.verify.findings import Processes, append_processes
from nccl_bench.verify.judgement import judge
from tests.support import recordings
from tests.support.command_line import ROOT, CommandLine
from tests.support.findings import CAUGHT, make_findings, write_verification
from tests.support.planted_texts import PLANTED, READERS, obeyed, obeyed_as_messages
from tests.support.synthetic_runs import case, crash, declined, hang, part_times
from tests.support.synthetic_runs import samples as samples_of

pytestmark = pytest.mark.timeout(20)
RECORD = ROOT / "results" / "h200-x2-after"
# The tests of many outputs have some of the texts, because all have all tricks but the first one. Each of these texts
# has the formats whose readers could obey its first trick. Together they have every format.
SOME = {
    "formula": (Format.CSV,),
    "workflow command": (Format.TERMINAL, Format.MARKDOWN, Format.CSV, Format.JSON),
    "fence": (Format.MARKDOWN, Format.HTML, Format.SVG, Format.BENCHER, Format.PERFETTO),
}
assert {*sum(SOME.values(), ())} == {*Format}
SOME_TEXTS = pytest.mark.parametrize("text", [PLANTED[name] for name in SOME], ids=SOME)
TEXTS_AND_FORMATS = pytest.mark.parametrize(
    ("text", "formats"), [(PLANTED[name], formats) for name, formats in SOME.items()], ids=SOME
)
EVERY_TEXT = pytest.mark.parametrize("text", PLANTED.values(), ids=PLANTED)
# Parts of run.json whose texts nobody can choose but the tool itself.
_OWN = ("schema", "tool", "status", "config", "launch", "process_sets")
ARM = "stream-free"
RUN_OPTIONS = (
    *("--arm", "--arms", "--baseline", "--collective", "--dtype", "--env", "--limits", "--name", "--op", "--out"),
    *("--preset", "--resume", "--routes", "--sizes", "--timing", "--rounds", "--nccl-library", "--format", "--to"),
)


@pytest.fixture(autouse=True)
def github(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file of the summary that GitHub shows; commands also annotate."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path / "summary.md"


def planted_everywhere(value: Any, text: str) -> Any:
    """Return ``value`` with ``text`` in place of each text, and behind each name that is not the tool's own."""
    if isinstance(value, dict):
        return {
            f"{name}{text}" if name.isupper() or "-" in name else name: each
            if name in _OWN
            else planted_everywhere(each, text)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [planted_everywhere(each, text) for each in value]
    return text if isinstance(value, str) else value


def write_run(directory: Path, text: str, arm: str = "") -> Path:
    """Write a run of a real machine with ``text`` in all its texts, and if wanted with ``arm`` as a name."""
    directory.mkdir()
    # JSON has no half of a character.
    text, arm = text.replace("\udc9b", ""), arm.replace("\udc9b", "")
    meta = planted_everywhere(json.loads((RECORD / RUN).read_text(encoding="utf-8")), text)
    sent = {"collective": "all_reduce", "dtype": "bfloat16", "size_bytes": 8, "ranks": 2, "timing": "eager", "count": 1}
    meta["config"]["workload"] = {"messages": [{**sent, "reason": text}], "source": [text], "remarks": [text]}
    meta["worker"]["memory"] = {text: {"host_bytes": [1, 2]}}
    with_parts = samples_of(ARM, case=case(scenario=Scenario.OVERLAP), world_size=2, parts=part_times(product=text))
    ran = Kernels.of([Kernel(algorithm=text, protocol=text), Kernel(special=text)])
    lines = (RECORD / SAMPLES).read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if '"size_bytes": 8,' in line and '"timing": "gated"' not in line]
    kept += map(
        dump,
        [
            crash(case=case(4096), arm=ARM, host=text, message=text),
            hang(case=case(2048), arm=ARM, host=text, phase=text),
            declined(case=case(8192), arm=ARM, reason=text, world_size=2, kernels=ran),
            with_parts,
        ],
    )
    document, samples = json.dumps(meta), "".join(kept)
    if arm:
        document, samples = (each.replace(json.dumps(ARM), json.dumps(arm)) for each in (document, samples))
    (directory / RUN).write_text(document, encoding="utf-8")
    (directory / SAMPLES).write_text(samples, encoding="utf-8")
    return directory


def file_name(text: str) -> str:
    """Return ``text`` as the name of a file, which has no slash and at most 255 bytes."""
    name = text.replace("/", "\u2215").encode("utf-8", "surrogateescape")[:200]
    return name.decode("utf-8", "surrogateescape")


def assert_harmless(command_line: CommandLine, reader: Format, *arguments: str) -> int:
    """Run a command, assert that nobody obeys its output and its messages, and return its exit code."""
    code, output, _ = command_line.run(*arguments)
    obeyed = [*obeyed_as_messages(command_line.stderr), *(READERS[reader](output) if output else ())]
    assert obeyed == [], (reader, arguments)
    return code


@TEXTS_AND_FORMATS
def test_reports_of_runs_have_no_effect(
    text: str, formats: Sequence[Format], command_line: CommandLine, tmp_path: Path, github: Path
) -> None:
    directory = write_run(tmp_path / file_name(text), text, text)
    for chosen in formats:
        code = assert_harmless(command_line, chosen, "report", str(directory), "--format", chosen, "--full")
        assert code == ExitCode.OK, command_line.stderr
        assert list(READERS["markdown"](github.read_text(encoding="utf-8"))) == []
        github.unlink()


@TEXTS_AND_FORMATS
def test_comparisons_have_no_effect(
    text: str, formats: Sequence[Format], command_line: CommandLine, tmp_path: Path
) -> None:
    before = write_run(tmp_path / "before", text, text)
    after = write_run(tmp_path / file_name(text), f"{text} changed", text)
    for chosen in formats:
        options = ("--allow-mismatch", "--format", chosen, "--full")
        assert_harmless(command_line, chosen, "compare", str(before), str(after), *options)
        assert_harmless(command_line, chosen, "compare", str(before), "--arms", f"dedicated-stream,{text}", *options)
    assert_harmless(command_line, Format.TERMINAL, "compare", str(before), str(after))


@TEXTS_AND_FORMATS
def test_reports_of_verifications_have_no_effect(
    text: str, formats: Sequence[Format], command_line: CommandLine, tmp_path: Path
) -> None:
    directory = tmp_path / file_name(text)
    directory.mkdir()
    config = resolve_verification("cpu", {"arms": "torch"})
    text = text.replace("\udc9b", "")
    findings = [
        replace(finding, detail=text, leaks=(text,), declined=(text,))
        for finding in make_findings(config, *CAUGHT, broken=[ArmProbe(arm="torch", probe="many")])
    ]
    environment = {"hostname": text, "cpu": text, "packages": {"torch": text}, "variables": {"NCCL_ALGO": text}}
    facts = {"command": ["nccl-bench", text], "environment": environment, "version": text, "started": text}
    write_verification(directory, config, findings, **facts)
    processes = Processes(arms=("torch",), python=text, library=text, variables={"A": text}, versions={"NCCL": text})
    append_processes(directory / "findings.jsonl", processes)
    for chosen in set(VERIFICATION_FORMATS).intersection(formats):
        code = assert_harmless(command_line, chosen, "report", str(directory), "--format", chosen, "--full")
        assert code == ExitCode.OK, command_line.stderr


@SOME_TEXTS
def test_the_messages_of_recordings_have_no_effect(text: str, command_line: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / f"{file_name(text)}.json"
    text = text.replace("\udc9b", "")
    fields = {"dtype": text, "Process Group Name": text}
    events = [recordings.call(1, 1.0), recordings.call(2, 2.0, text), recordings.call(3, 3.0, **fields)]
    file.write_bytes(recordings.kineto(events=events))
    for chosen in TABLE_FORMATS:
        code = assert_harmless(command_line, chosen, "trace", str(file), "--format", chosen)
        assert code == ExitCode.OK, command_line.stderr
    assert_harmless(command_line, Format.TERMINAL, "trace", str(file), "--out", str(tmp_path / file_name(text)))


@EVERY_TEXT
def test_the_report_of_a_machine_has_no_effect(
    text: str, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    diagnoses = tuple(
        Diagnosis(severity=severity, subject="torch", seen=text, effect=text, command=text) for severity in Severity
    )
    monkeypatch.setattr(examination, "examine", lambda _machine: Examination(host=text, diagnoses=diagnoses))
    monkeypatch.setattr(torch_facts, "begin_torch", lambda *_arguments: lambda: TorchFacts())
    for chosen in (Format.TERMINAL, Format.MARKDOWN, Format.JSON):
        assert_harmless(command_line, chosen, "doctor", "--format", chosen)


@EVERY_TEXT
def test_the_listed_names_of_packages_have_no_effect(
    text: str, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [metadata.EntryPoint(text, text, GROUP)]
    monkeypatch.setattr(metadata, "entry_points", lambda *, group: points if group == GROUP else [])
    for chosen in TABLE_FORMATS:
        code = assert_harmless(command_line, chosen, "list", "user_arms", "--format", chosen)
        assert code == ExitCode.OK, command_line.stderr


@SOME_TEXTS
def test_refusals_and_errors_have_no_effect(
    text: str, command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / file_name(text)
    file.write_text(text, encoding="utf-8", errors="surrogateescape")
    name = text.replace("/", "")
    for arguments in (
        *([command, str(file)] for command in ("report", "import", "trace", "run")),
        *([command, name] for command in ("report", "import", "compare", "guide", "list", "run", "doctor", "trace")),
        *(["compare", str(RECORD), other] for other in (str(file), name)),
        *(["run", "--dry-run", "--device", "cpu", option, text] for option in RUN_OPTIONS),
        *(["verify", "--device", "cpu", option, text] for option in ("--probes", "--arm", "--out", "--resume")),
        ["compare", str(RECORD), "--arms", text],
        ["report", str(RECORD), "--to", name],
        ["report", str(RECORD), text],
        ["run", f"--{text}"],
        [text],
    ):
        code = assert_harmless(command_line, Format.TERMINAL, *arguments)
        assert code != ExitCode.OK, arguments

    def fail(*_arguments: object) -> None:
        raise UserArmError(f"the arm a raised RuntimeError: {text}")

    monkeypatch.setattr(launched_run, "run_launched", fail)
    assert assert_harmless(command_line, Format.TERMINAL, "run", "--device", "cpu") == ExitCode.SETUP


@EVERY_TEXT
def test_progress_has_no_effect(text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    config = resolve_verification("cpu", {"arms": "torch"})
    findings = [replace(finding, detail=text) for finding in make_findings(config, *CAUGHT)]
    position = Position(rank=0, local_rank=0, host=text, pid=1, arm=text, phase=text)
    clock = iter(range(0, 1000, 20))
    lines = Lines(track_verification(config, []), "probe", clock=lambda: float(next(clock)))
    lines.show([position])
    shown = capsys.readouterr().err
    assert shown
    assert list(obeyed_as_messages(shown)) == []
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", stream)
    with LiveTable(track_verification(config, []), lambda: judge(config, 2, findings)) as table:
        table.show([position])
        console = Console(width=200, height=40, file=io.StringIO(), legacy_windows=False)
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    assert "planted" in console.file.getvalue()
    assert list(obeyed(console.file.getvalue())) == []
