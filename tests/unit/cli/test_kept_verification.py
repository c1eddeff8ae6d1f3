"""What ``nccl-bench verify`` keeps when it is interrupted, killed or fails, and how ``--resume`` continues it."""

from __future__ import annotations

import errno
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.errors import ExitCode, InterruptedRunError, SetupError
from nccl_bench.records.locks import locked
from nccl_bench.report.verification import TerminalVerification
from tests.support.command_line import CommandLine, assert_one_message, snapshot
from tests.support.small_disk import fill, small_disk
from tests.support.verify_command import RECORD, FakeVerification, VerifyCommand, recorded


def test_the_record_says_before_the_first_rank_that_nothing_was_found_yet(
    verify: VerifyCommand, fake_verification: FakeVerification
) -> None:
    seen: list[dict[str, Any]] = []
    fake_verification.before = lambda: seen.append(recorded())
    verify("--out", "there", "--arms", "torch")
    ((started, command),) = [(record["status"], record["command"]) for record in seen]
    assert (started, command) == ("running", ["nccl-bench", "verify", "--out", "there", "--arms", "torch"])
    assert {cell["status"] for cell in seen[0]["cells"]} == {"not run", "not applicable"}
    assert (seen[0]["ran"], seen[0]["exit_code"], seen[0]["finished"]) == (0, ExitCode.INTERRUPTED, None)


@pytest.mark.parametrize("out", [("--out", "there"), ()])
def test_an_interrupted_verification_prints_and_keeps_what_it_found_and_says_how_much(
    out: tuple[str, ...], verify: VerifyCommand, fake_verification: FakeVerification
) -> None:
    fake_verification.error, fake_verification.ran = InterruptedRunError("interrupted by SIGINT"), 2
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


def test_a_verification_that_is_interrupted_before_its_first_finding_can_be_resumed(
    verify: VerifyCommand, fake_verification: FakeVerification
) -> None:
    fake_verification.error = InterruptedRunError("interrupted by SIGTERM")
    assert verify("--out", "there").stdout == ""
    fake_verification.error = None
    assert verify("--resume", "there").code == ExitCode.OK


def test_report_shows_what_a_killed_verification_found(
    verify: VerifyCommand, fake_verification: FakeVerification, command_line: CommandLine
) -> None:
    def kill() -> None:
        shutil.copytree("there", "killed")

    fake_verification.error, fake_verification.ran = SetupError("the process would be gone by now"), 3
    fake_verification.before = kill
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
    error: Exception, verify: VerifyCommand, fake_verification: FakeVerification
) -> None:
    options = ("--arms", "stream-free,torch", "--nproc", "3", "--timeout", "9")
    whole = verify(*options, "--out", "whole")
    fake_verification.error, fake_verification.ran = error, 4
    assert verify(*options, "--out", "there").code == error.exit_code  # type: ignore[attr-defined]
    kept = Path("there", "findings.jsonl").read_text(encoding="utf-8")
    fake_verification.error = None
    resumed = verify("--resume", "there")
    continued = re.compile(r"The verification was continued 1 time, last at \S+ ?")
    printed = [continued.sub("", " ".join(ended.stdout.split())) for ended in (resumed, whole)]
    assert (resumed.code, printed[0]) == (whole.code, printed[1].replace("--out whole", "--out there"))
    assert resumed.stderr == f"nccl-bench: recorded in {RECORD.parent.absolute()}\n"
    assert fake_verification.calls[2] == fake_verification.calls[0]
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
    arguments: tuple[str, ...], text: str, verify: VerifyCommand, fake_verification: FakeVerification
) -> None:
    ended = verify("--resume", "a-verification", *arguments)
    assert (ended.code, fake_verification.calls) == (ExitCode.USAGE, [])
    assert_one_message(ended.stderr, ("--resume continues with the ", " of the record", text))


def test_resume_refuses_another_machine_another_writer_and_what_is_no_verification(
    verify: VerifyCommand, fake_verification: FakeVerification, directory: Path
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
    assert fake_verification.calls == []


def test_resume_refuses_a_record_of_more_ranks_than_a_machine_can_start(
    verify: VerifyCommand, fake_verification: FakeVerification, directory: Path
) -> None:
    fake_verification.error, fake_verification.ran = InterruptedRunError("interrupted by SIGTERM"), 1
    assert verify("--out", "there").code == ExitCode.INTERRUPTED
    file = directory / "there" / "verification.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"world_size": 100_000}))
    calls = len(fake_verification.calls)
    ended = verify("--resume", "there")
    assert (ended.code, len(fake_verification.calls)) == (ExitCode.USAGE, calls)
    assert_one_message(ended.stderr, ("names 100,000 ranks", "at most 1,024 ranks"))


def test_resume_refuses_a_user_arm_that_is_gone(
    verify: VerifyCommand, fake_verification: FakeVerification, directory: Path
) -> None:
    fake_verification.error, fake_verification.ran = InterruptedRunError("interrupted by SIGTERM"), 1
    assert verify("--arm", "mine=m:C", "--out", "there").code == ExitCode.INTERRUPTED
    (directory / "m.py").unlink()
    ended = verify("--resume", "there", "--allow-recorded-code")
    assert ended.code == ExitCode.USAGE
    assert_one_message(ended.stderr, ("the arm mine: m:C: there is no module m",))


def test_a_verification_that_fails_before_its_first_finding_leaves_no_record(
    verify: VerifyCommand, fake_verification: FakeVerification
) -> None:
    fake_verification.error = SetupError("no GPU here")
    assert verify("--out", "there").code == ExitCode.SETUP
    assert not RECORD.parent.exists()


def test_a_verification_that_fails_later_prints_and_keeps_what_it_found(
    verify: VerifyCommand, fake_verification: FakeVerification
) -> None:
    fake_verification.error, fake_verification.ran = SetupError("no GPU here"), 1
    ended = verify("--out", "there", "--arms", "torch")
    assert ended.code == ExitCode.SETUP
    assert "INCOMPLETE: 1 of 10 probes ran" in ended.stdout
    assert ended.stderr.endswith("--resume there\nnccl-bench: no GPU here\n")
    assert recorded()["status"] == "failed"


def test_a_record_that_is_removed_during_the_verification_costs_no_table(
    verify: VerifyCommand, fake_verification: FakeVerification, directory: Path
) -> None:
    fake_verification.after = lambda: shutil.rmtree(directory / "deep")
    ended = verify("--out", "deep/there")
    assert ended.code == ExitCode.SETUP
    assert "was caught as expected" in " ".join(ended.stdout.split())
    assert_one_message(ended.stderr, ("deep/there was removed or renamed, so nothing more can be recorded",))


@pytest.mark.parametrize("found", [False, True])
def test_a_full_disk_costs_no_finding_no_table_and_no_arm(
    found: bool,
    verify: VerifyCommand,
    fake_verification: FakeVerification,
    command_line: CommandLine,
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk", 2**20) as disk:
        setattr(fake_verification, "after" if found else "before", lambda: fill(disk))
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


def test_a_table_that_cannot_be_printed_costs_no_record(verify: VerifyCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TerminalVerification, "render", full)
    ended = verify("--out", "there")
    assert (ended.code, ended.stderr.count("\n")) == (ExitCode.SETUP, 2)
    assert "No space left on device" in ended.stderr
    assert recorded()["exit_code"] == 0
