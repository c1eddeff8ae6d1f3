"""``nccl-bench verify``: the verification that it runs, the command lines that it refuses, and its end."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nccl_bench.catalog.arms import Order
from nccl_bench.catalog.probes import DETECTOR
from nccl_bench.cli import recorded_verification
from nccl_bench.config.user_arms import UserArm
from nccl_bench.config.verification import VerifyConfig, resolve_verification
from nccl_bench.errors import ExitCode, InterruptedRunError, SetupError
from nccl_bench.launch import hardware
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.ranks.progress import Position
from nccl_bench.records.locks import locked
from nccl_bench.report.verification import TerminalVerification
from nccl_bench.verify.findings import append_finding, read_findings
from tests.support.command_line import TORCHRUN, CommandLine, assert_one_message, snapshot
from tests.support.findings import CAUGHT, make_findings
from tests.support.small_disk import fill, small_disk

SRUN = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "1",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
}
# The record of `--out there`.
RECORD = Path("there", "verification.json")
TORCH = ArmProbe(arm="torch", probe="producer")


@dataclass
class FakeVerification:
    """A double of ``run_verification`` that notes its arguments and writes a finding for each missing arm probe."""

    failed: tuple[ArmProbe, ...] = CAUGHT  # the arm probes that fail
    error: BaseException | None = None  # an error to raise after `ran` findings
    ran: int = 0  # the number of findings before `error`
    calls: list[tuple[VerifyConfig, LaunchConfig]] = field(default_factory=list)
    before: Callable[[], None] = lambda: None  # an action before the first probe
    after: Callable[[], None] = lambda: None  # an action after the last probe

    def __call__(
        self,
        config: VerifyConfig,
        launch: LaunchConfig,
        _agent: object,
        findings: Path,
        *,
        on_progress: Callable[[list[Position]], None],
    ) -> None:
        self.calls.append((config, launch))
        self.before()
        on_progress([])
        done = {finding.arm_probe for finding in read_findings(findings)}
        missing = [finding for finding in make_findings(config, *self.failed) if finding.arm_probe not in done]
        for finding in missing[: self.ran] if self.error else missing:
            append_finding(findings, finding)
        if self.error:
            raise self.error
        self.after()


class Ended(NamedTuple):
    """The end of a command."""

    code: int
    stdout: str
    stderr: str


Command = Callable[..., Ended]


def recorded() -> dict[str, Any]:
    """Return the content of ``RECORD``."""
    return dict(json.loads(RECORD.read_text(encoding="utf-8")))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeVerification:
    fake = FakeVerification()
    monkeypatch.setattr(recorded_verification, "run_verification", fake)
    return fake


@pytest.fixture
def verify(fake: FakeVerification, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `nccl-bench verify` with some arguments."""
    for name in SRUN:
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments, env={}: Ended(*command_line.run("verify", *arguments, env=env))


def test_without_options_every_arm_is_verified_on_two_ranks_of_the_cpu(verify: Command, fake: FakeVerification) -> None:
    ended = verify()
    assert (ended.code, ended.stderr) == (ExitCode.OK, "")
    assert fake.calls == [
        (
            resolve_verification("cpu"),
            LaunchConfig(nproc=2, worker="nccl_bench.verify.worker"),
        )
    ]


def test_every_option_reaches_the_verification(verify: Command, fake: FakeVerification, directory: Path) -> None:
    (directory / "mine.py").touch()
    given = {
        "--arms": "coordinator,torch",
        "--arm": "mine=mine.py:Mine,order=bare",
        "--probes": "state",
        "--routes": "eager=communicator",
        "--device": "cuda",
        "--nproc": "3",
        "--nccl-library": "/opt/libnccl.so.2",
        "--transport": "nccl4py",
        "--timeout": "2.5",
    }
    assert verify(*(word for option in given.items() for word in option)).code == ExitCode.OK
    ((config, launch),) = fake.calls
    assert config == VerifyConfig(
        device="cuda",
        arms=("coordinator", "torch", "mine"),
        user_arms=(UserArm(name="mine", target="mine.py:Mine", order=Order.BARE),),
        probes=("state",),
        routes=("eager=communicator",),
        nccl_library="/opt/libnccl.so.2",
        transport="nccl4py",
        timeout_s=2.5,
    )
    assert launch.nproc == 3


@pytest.mark.parametrize(
    ("gpus", "arguments", "device", "nproc"),
    [
        (4, (), "cuda", 4),
        (4, ("--device", "cpu"), "cpu", 2),
        (4, ("--nproc", "3"), "cuda", 3),
        (0, ("--device", "cuda", "--nproc", "2"), "cuda", 2),
    ],
)
def test_the_machine_decides_the_device_and_the_ranks_by_default(
    gpus: int,
    arguments: tuple[str, ...],
    device: str,
    nproc: int,
    verify: Command,
    fake: FakeVerification,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "gpu_count", lambda environ: gpus)
    assert verify(*arguments).code == ExitCode.OK
    ((config, launch),) = fake.calls
    assert (config.device, launch.nproc) == (device, nproc)


def test_the_table_is_as_wide_as_the_terminal_or_the_option(verify: Command) -> None:
    narrow, wide, given = verify(env={"COLUMNS": "80"}), verify(env={"COLUMNS": "160"}), verify("--width", "160")
    assert "\n  -unordered" in narrow.stdout
    assert "\n  -unordered" not in wide.stdout
    # The headline has the command.
    assert given.stdout.replace(" --width 160", "") == wide.stdout


def test_the_json_is_printed_and_recorded_with_the_command_and_the_machine(verify: Command, directory: Path) -> None:
    both = verify("--format", "json", "--out", "deep/there", "--arms", "torch")
    written = (directory / "deep" / "there" / "verification.json").read_text(encoding="utf-8")
    assert (both.code, both.stdout) == (ExitCode.OK, written)
    assert both.stderr == f"nccl-bench: recorded in {directory / 'deep' / 'there'}\n"
    printed = json.loads(written)
    assert list(printed) == [
        *(
            "kind",
            "report_version",
            "tool",
            "version",
            "started",
            "resumed",
            "finished",
            "status",
            "command",
            "config",
            "environment",
        ),
        *(
            "device",
            "world_size",
            "gpus",
            "planned",
            "ran",
            "blind",
            "exit_code",
            "process_sets",
            "headline",
            "notes",
            "cells",
        ),
    ]
    assert printed["command"] == ["nccl-bench", "verify", "--format", "json", "--out", "deep/there", "--arms", "torch"]
    assert printed["config"]["arms"] == ["torch"]
    assert printed["environment"]
    assert (printed["status"], printed["ran"]) == ("complete", printed["planned"])
    assert printed["finished"] >= printed["started"]
    assert {cell["arm"] for cell in printed["cells"]} == {"torch", DETECTOR}
    with_table = verify("--out", "there", "--arms", "torch")
    assert with_table.stdout.startswith("Stream order of 1 arm, 9 probes, 2 ranks on cpu\n")
    assert recorded()["cells"] == printed["cells"]


@pytest.mark.parametrize(
    ("form", "start"),
    [
        ("terminal", "Stream order of 1 arm, 9 probes, 2 ranks on cpu\n"),
        ("csv", "arm,probe,status,"),
        ("markdown", "**nccl-bench**: Stream order of 1 arm, 9 probes, 2 ranks on cpu\n"),
        ("json", "{"),
    ],
)
def test_every_format_is_printed_beside_the_same_record_and_again_by_report(
    form: str, start: str, verify: Command, command_line: CommandLine
) -> None:
    ended = verify("--format", form, "--arms", "torch", "--out", "there")
    assert ended.code == ExitCode.OK
    assert ended.stdout.startswith(start)
    assert recorded()["exit_code"] == 0
    assert command_line.run("report", "there", "--format", form) == (0, ended.stdout, "")


def test_the_record_says_before_the_first_rank_that_nothing_was_found_yet(
    verify: Command, fake: FakeVerification
) -> None:
    seen: list[dict[str, Any]] = []
    fake.before = lambda: seen.append(recorded())
    verify("--out", "there", "--arms", "torch")
    ((started, command),) = [(record["status"], record["command"]) for record in seen]
    assert (started, command) == ("running", ["nccl-bench", "verify", "--out", "there", "--arms", "torch"])
    assert {cell["status"] for cell in seen[0]["cells"]} == {"not run", "not applicable"}
    assert (seen[0]["ran"], seen[0]["exit_code"], seen[0]["finished"]) == (0, ExitCode.INTERRUPTED, None)


@pytest.mark.parametrize("out", [("--out", "there"), ()])
def test_an_interrupted_verification_prints_and_keeps_what_it_found_and_says_how_much(
    out: tuple[str, ...], verify: Command, fake: FakeVerification
) -> None:
    fake.error, fake.ran = InterruptedRunError("interrupted by SIGINT"), 2
    ended = verify("--arms", "torch", *out)
    assert ended.code == ExitCode.INTERRUPTED
    assert ended.stdout.startswith("Stream order of 1 arm, 9 probes, 2 ranks on cpu\n")
    assert "INCOMPLETE: 2 of 10 probes ran, counted for each arm\n" in ended.stdout
    messages = ended.stderr.splitlines()
    assert messages.pop() == "nccl-bench: interrupted by SIGINT; 2 of 10 probes ran, and nothing else is verified"
    assert messages == (
        [
            f"nccl-bench: recorded in {RECORD.parent.absolute()}; to run the other probes: nccl-bench verify "
            "--resume there"
        ]
        if out
        else []
    )
    assert RECORD.exists() == bool(out)
    if out:
        assert (recorded()["status"], recorded()["ran"], recorded()["exit_code"]) == ("interrupted", 2, 130)


def test_to_writes_the_page_and_prints_no_table(verify: Command) -> None:
    ended = verify("--arms", "torch", "--to", "page.html", "--out", "there")
    assert (ended.code, ended.stdout) == (ExitCode.OK, "")
    assert ended.stderr.startswith("nccl-bench: wrote page.html\n")
    assert Path("page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    again = verify("--resume", "there", "--to", "table.txt")
    assert (again.code, again.stdout) == (ExitCode.OK, "")
    assert Path("table.txt").read_text(encoding="utf-8").startswith("Stream order of 1 arm")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("page.svg", "--to is page.svg, whose ending chooses no format"),
        ("absent/page.html", "--to is absent/page.html, and the directory absent does not exist"),
        (".", "--to is ., whose ending chooses no format"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_the_first_probe(
    name: str, message: str, verify: Command, fake: FakeVerification
) -> None:
    ended = verify("--to", name)
    assert (ended.code, ended.stdout, fake.calls) == (ExitCode.USAGE, "", [])
    assert message in ended.stderr


def test_a_verification_that_is_interrupted_before_its_first_finding_can_be_resumed(
    verify: Command, fake: FakeVerification
) -> None:
    fake.error = InterruptedRunError("interrupted by SIGTERM")
    assert verify("--out", "there").stdout == ""
    fake.error = None
    assert verify("--resume", "there").code == ExitCode.OK


def test_report_shows_what_a_killed_verification_found(
    verify: Command, fake: FakeVerification, command_line: CommandLine
) -> None:
    def kill() -> None:
        shutil.copytree("there", "killed")

    fake.error, fake.ran = SetupError("the process would be gone by now"), 3
    fake.before = kill
    verify("--out", "there", "--arms", "torch")
    # The header is the one of the start: nobody wrote the end.
    shutil.copy(Path("there", "findings.jsonl"), Path("killed"))
    with Path("killed", "findings.jsonl").open("a") as file:
        file.write('{"arm": "torch", "pro')
    code, stdout, _ = command_line.run("report", "killed")
    assert code == 0
    assert "INCOMPLETE: 3 of 10 probes ran" in stdout
    assert "The verification was KILLED.\n" in stdout
    assert "  Next     run the other probes: nccl-bench verify --resume killed\n" in stdout
    with locked(Path("killed", "findings.jsonl")):
        assert "The verification still runs.\n" in command_line.run("report", "killed")[1]
    document = json.loads(command_line.run("report", "killed", "--format", "json")[1])
    assert (document["status"], document["ran"]) == ("running", 3)


@pytest.mark.parametrize("error", [InterruptedRunError("interrupted by SIGTERM"), SetupError("no rank started")])
def test_a_resumed_verification_runs_the_missing_probes_and_ends_like_one_that_was_not_interrupted(
    error: Exception, verify: Command, fake: FakeVerification
) -> None:
    options = ("--arms", "stream-free,torch", "--nproc", "3", "--timeout", "9")
    whole = verify(*options, "--out", "whole")
    fake.error, fake.ran = error, 4
    assert verify(*options, "--out", "there").code == error.exit_code  # type: ignore[attr-defined]
    kept = Path("there", "findings.jsonl").read_text(encoding="utf-8")
    fake.error = None
    resumed = verify("--resume", "there")
    continued = re.compile(r"The verification was continued 1 time, last at \S+ ?")
    printed = [continued.sub("", " ".join(ended.stdout.split())) for ended in (resumed, whole)]
    assert (resumed.code, printed[0]) == (whole.code, printed[1].replace("--out whole", "--out there"))
    assert resumed.stderr == f"nccl-bench: recorded in {RECORD.parent.absolute()}\n"
    assert fake.calls[2] == fake.calls[0]
    lines = Path("there", "findings.jsonl").read_text(encoding="utf-8")
    assert lines.startswith(kept)
    assert sorted(lines.splitlines()) == sorted(Path("whole", "findings.jsonl").read_text("utf-8").splitlines())
    of_whole = json.loads(Path("whole", "verification.json").read_text(encoding="utf-8"))
    assert recorded()["cells"] == of_whole["cells"]
    assert (recorded()["status"], len(recorded()["resumed"])) == ("complete", 1)
    before = snapshot(Path("there"))
    again = verify("--resume", "there")
    assert (again.code, again.stdout) == (resumed.code, resumed.stdout)
    assert_one_message(again.stderr, ("nothing is left to verify in there",))
    assert snapshot(Path("there")) == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ("--arms", "torch"),
            "leave out --arms. Only --format, --to, --width, --quiet, --full and --anonymous can be combined with it",
        ),
        (("--nproc", "2", "--timeout", "3"), "leave out --timeout, --nproc"),
        (("--out", "here"), "leave out --out"),
        (("--arm", "mine=m:C"), "leave it out"),
        (("--before-tree", "old"), "leave out --before-tree"),
    ],
)
def test_resume_takes_every_option_from_the_record(
    arguments: tuple[str, ...], text: str, verify: Command, fake: FakeVerification
) -> None:
    ended = verify("--resume", "a-verification", *arguments)
    assert (ended.code, fake.calls) == (ExitCode.USAGE, [])
    assert_one_message(ended.stderr, ("--resume continues with the ", " of the record", text))


def test_resume_refuses_another_machine_another_writer_and_what_is_no_verification(
    verify: Command, fake: FakeVerification, directory: Path
) -> None:
    before = snapshot(directory / "a-verification")
    other = verify("--resume", "a-verification", env={"NCCL_ALGO": "Ring"})
    assert other.code == ExitCode.USAGE
    assert_one_message(other.stderr, ("variables NCCL_ALGO is Ring, and was not known", "with --out"))
    with locked(directory / "a-verification" / "findings.jsonl"):
        writer = verify("--resume", "a-verification")
    assert writer.code == ExitCode.USAGE
    assert_one_message(writer.stderr, ("another command writes a-verification", "wait for its end"))
    assert snapshot(directory / "a-verification") == before
    ended = verify("--resume", "a-run")
    assert ended.code == ExitCode.SETUP
    assert_one_message(ended.stderr, ("a-run is not a verification: it has no verification.json",))
    assert fake.calls == []


def test_resume_refuses_a_record_of_more_ranks_than_a_machine_can_start(
    verify: Command, fake: FakeVerification, directory: Path
) -> None:
    fake.error, fake.ran = InterruptedRunError("interrupted by SIGTERM"), 1
    assert verify("--out", "there").code == ExitCode.INTERRUPTED
    file = directory / "there" / "verification.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"world_size": 100_000}))
    calls = len(fake.calls)
    ended = verify("--resume", "there")
    assert (ended.code, len(fake.calls)) == (ExitCode.USAGE, calls)
    assert_one_message(ended.stderr, ("names 100,000 ranks", "at most 1,024 ranks"))


def test_resume_refuses_a_user_arm_that_is_gone(verify: Command, fake: FakeVerification, directory: Path) -> None:
    fake.error, fake.ran = InterruptedRunError("interrupted by SIGTERM"), 1
    assert verify("--arm", "mine=m:C", "--out", "there").code == ExitCode.INTERRUPTED
    (directory / "m.py").unlink()
    ended = verify("--resume", "there", "--allow-recorded-code")
    assert ended.code == ExitCode.USAGE
    assert_one_message(ended.stderr, ("the arm mine: m:C: there is no module m",))


def test_a_verification_that_fails_before_its_first_finding_leaves_no_record(
    verify: Command, fake: FakeVerification
) -> None:
    fake.error = SetupError("no GPU here")
    assert verify("--out", "there").code == ExitCode.SETUP
    assert not RECORD.parent.exists()


def test_a_verification_that_fails_later_prints_and_keeps_what_it_found(
    verify: Command, fake: FakeVerification
) -> None:
    fake.error, fake.ran = SetupError("no GPU here"), 1
    ended = verify("--out", "there", "--arms", "torch")
    assert ended.code == ExitCode.SETUP
    assert "INCOMPLETE: 1 of 10 probes ran" in ended.stdout
    assert ended.stderr.endswith("--resume there\nnccl-bench: no GPU here\n")
    assert recorded()["status"] == "failed"


def test_a_record_that_is_removed_during_the_verification_costs_no_table(
    verify: Command, fake: FakeVerification, directory: Path
) -> None:
    fake.after = lambda: shutil.rmtree(directory / "deep")
    ended = verify("--out", "deep/there")
    assert ended.code == ExitCode.SETUP
    assert "was caught as expected" in " ".join(ended.stdout.split())
    assert_one_message(ended.stderr, ("deep/there was removed or renamed, so nothing more can be recorded",))


@pytest.mark.parametrize("found", [False, True])
def test_a_full_disk_costs_no_finding_no_table_and_no_arm(
    found: bool, verify: Command, fake: FakeVerification, command_line: CommandLine, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 2**20) as disk:
        setattr(fake, "after" if found else "before", lambda: fill(disk))
        ended = verify("--out", "disk/there", "--arms", "torch")
        assert ended.code == ExitCode.SETUP
        file = "verification.json" if found else "findings.jsonl"
        assert_one_message(ended.stderr, (f"disk/there/{file} cannot be written: No space left", "free space"))
        assert (re.search(r"(?m)^torch +pass ", ended.stdout) is not None, "FAIL" in ended.stdout) == (found, False)
        assert (disk / "there").exists() == found
        if found:
            # The end is not recorded, but every finding is.
            printed = command_line.run("report", "disk/there")[1].splitlines()
            expected = [line for line in ended.stdout.splitlines() if line]
            assert [line for line in printed if line and "KILLED" not in line] == expected


def test_a_table_that_cannot_be_printed_costs_no_record(verify: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TerminalVerification, "render", full)
    ended = verify("--out", "there")
    assert (ended.code, ended.stderr.count("\n")) == (ExitCode.SETUP, 2)
    assert "No space left on device" in ended.stderr
    assert recorded()["exit_code"] == 0


@pytest.mark.parametrize(
    ("failed", "code", "text"),
    [
        (CAUGHT, ExitCode.OK, "was caught as expected"),
        ((*CAUGHT, TORCH), ExitCode.RACE, "torch, producer: 4 of 4 trials; first: planted"),
        ((CAUGHT[0], TORCH), ExitCode.BLIND_DETECTOR, "BLIND: dedicated-stream-unordered"),
    ],
)
def test_the_exit_code_is_that_of_the_verification(
    failed: tuple[ArmProbe, ...], code: ExitCode, text: str, verify: Command, fake: FakeVerification
) -> None:
    fake.failed = failed
    ended = verify("--out", "there")
    assert (ended.code, ended.stderr) == (code, f"nccl-bench: recorded in {RECORD.parent.absolute()}\n")
    assert text in " ".join(ended.stdout.split())
    assert recorded()["exit_code"] == code


@pytest.mark.parametrize(
    ("error", "code"),
    [(SetupError("no GPU here"), ExitCode.SETUP), (OSError(28, "disk full", "/tmp/spec"), ExitCode.SETUP)],
)
def test_an_error_in_a_verification_is_one_message(
    error: Exception, code: ExitCode, verify: Command, fake: FakeVerification
) -> None:
    fake.error = error
    full = "/tmp/spec: disk full; free space there, or set TMPDIR to a directory on another disk"
    text = full if isinstance(error, OSError) else str(error)
    assert verify() == Ended(code, "", f"nccl-bench: {text}\n")


@pytest.mark.parametrize(
    ("arguments", "env", "texts"),
    [
        (("--nproc", "1"), {}, ("--nproc is 1", "give at least 2, or no --nproc")),
        (("--nproc", "0"), {}, ("--nproc is 0", "give at least 2")),
        (("--device", "cuda"), {}, ("no GPU", "--device cpu")),
        (("--device", "tpu"), {}, ("'tpu'", "cuda, cpu")),
        (("--arms", "stream-fre"), {}, ("arms has 'stream-fre'", "stream-free")),
        (("--arms", DETECTOR), {}, (f"'{DETECTOR}'", "Allowed are stream-free")),
        (("--probes", "producers"), {}, ("probes has 'producers'", "producer, consumer")),
        (("--probes", "capture,allocator"), {}, ("--probes", "no CUDA graphs", "keep their tensors in memory")),
        (("--probes", "async", "--arms", "torch"), {}, ("the --arms torch", "has no all-gather on a stream")),
        (("--routes", "eager"), {}, ("'eager'", "[OPERATION.]MODE=BACKEND")),
        (("--routes", "eager=torch", "--arms", "torch"), {}, ("'eager=torch'", "--arms")),
        (("--nccl-library", "libnccl.so"), {}, ("'libnccl.so'", "cpu")),
        (("-T", "0"), {}, ("-T is 0.0", "above 0")),
        (("--width", "22"), {}, ("--width is 22", "at least 23")),
        (("--out", "."), {}, ("already holds a record (verification.json)", "--out")),
        (("--out", "verification.json"), {}, ("verification.json cannot be written: File exists", "--out")),
        (("--out", "verification.json/a"), {}, ("verification.json/a cannot be written: Not a directory", "--out")),
        (("--out", "/proc/nccl-bench/there"), {}, ("/proc/nccl-bench/there cannot be written", "--out")),
        ((), TORCHRUN, ("torchrun started this process as one rank", "outside of that launch")),
        ((), SRUN, ("srun started this process as one rank", "outside of that launch")),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_bad_input_is_refused_before_any_rank_starts(
    arguments: tuple[str, ...],
    env: Mapping[str, str],
    texts: tuple[str, ...],
    verify: Command,
    fake: FakeVerification,
    directory: Path,
) -> None:
    (directory / "verification.json").write_text("{}", encoding="utf-8")
    before = snapshot(directory)
    ended = verify(*arguments, env=env)
    assert (ended.code, ended.stdout) == (ExitCode.USAGE, "")
    assert_one_message(ended.stderr, texts)
    assert fake.calls == []
    assert snapshot(directory) == before


@pytest.mark.parametrize(
    ("gpus", "arguments", "ranks", "notice"),
    [
        (1, (), 2, "The ranks share 1 GPU: "),
        (2, ("--nproc", "3"), 3, "The ranks share 2 GPUs: "),
        (2, (), 2, None),
        (1, ("--device", "cpu"), 2, None),
    ],
)
def test_the_table_says_that_ranks_share_gpus(
    gpus: int,
    arguments: tuple[str, ...],
    ranks: int,
    notice: str | None,
    verify: Command,
    fake: FakeVerification,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "gpu_count", lambda environ: gpus)
    ended = verify(*arguments)
    assert ended.code == ExitCode.OK
    assert [launch.nproc for _, launch in fake.calls] == [ranks]
    assert notice in ended.stdout if notice else "share" not in ended.stdout
    printed = json.loads(verify(*arguments, "--format", "json").stdout)
    assert printed["gpus"] == (None if "cpu" in arguments else gpus)
