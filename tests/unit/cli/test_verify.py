"""``nccl-bench verify``: the verification that it runs, the formats, the exit code, and refused command lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from nccl_bench.catalog.arms import Order
from nccl_bench.catalog.probes import DETECTOR
from nccl_bench.config.user_arms import UserArm
from nccl_bench.config.verification import VerifyConfig, resolve_verification
from nccl_bench.errors import ExitCode, SetupError
from nccl_bench.launch import hardware
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.plan.verification import ArmProbe
from tests.support.command_line import TORCHRUN, CommandLine, assert_one_message, snapshot
from tests.support.findings import CAUGHT
from tests.support.verify_command import RECORD, SRUN, Ended, FakeVerification, VerifyCommand, recorded

TORCH = ArmProbe(arm="torch", probe="producer")


def test_without_options_every_arm_is_verified_on_two_ranks_of_the_cpu(
    verify: VerifyCommand, fake_verification: FakeVerification
) -> None:
    ended = verify()
    assert (ended.code, ended.stderr) == (ExitCode.OK, "")
    assert fake_verification.calls == [
        (
            resolve_verification("cpu"),
            LaunchConfig(nproc=2, worker="nccl_bench.verify.worker"),
        )
    ]


def test_every_option_reaches_the_verification(
    verify: VerifyCommand, fake_verification: FakeVerification, directory: Path
) -> None:
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
    ((config, launch),) = fake_verification.calls
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
    verify: VerifyCommand,
    fake_verification: FakeVerification,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "gpu_count", lambda environ: gpus)
    assert verify(*arguments).code == ExitCode.OK
    ((config, launch),) = fake_verification.calls
    assert (config.device, launch.nproc) == (device, nproc)


def test_the_table_is_as_wide_as_the_terminal_or_the_option(verify: VerifyCommand) -> None:
    narrow, wide, given = verify(env={"COLUMNS": "80"}), verify(env={"COLUMNS": "160"}), verify("--width", "160")
    assert "\n  -unordered" in narrow.stdout
    assert "\n  -unordered" not in wide.stdout
    # The headline has the command.
    assert given.stdout.replace(" --width 160", "") == wide.stdout


def test_the_json_is_printed_and_recorded_with_the_command_and_the_machine(
    verify: VerifyCommand, directory: Path
) -> None:
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
    form: str, start: str, verify: VerifyCommand, command_line: CommandLine
) -> None:
    ended = verify("--format", form, "--arms", "torch", "--out", "there")
    assert ended.code == ExitCode.OK
    assert ended.stdout.startswith(start)
    assert recorded()["exit_code"] == 0
    assert command_line.run("report", "there", "--format", form) == (0, ended.stdout, "")


def test_to_writes_the_page_and_prints_no_table(verify: VerifyCommand) -> None:
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
    name: str, message: str, verify: VerifyCommand, fake_verification: FakeVerification
) -> None:
    ended = verify("--to", name)
    assert (ended.code, ended.stdout, fake_verification.calls) == (ExitCode.USAGE, "", [])
    assert message in ended.stderr


@pytest.mark.parametrize(
    ("failed", "code", "text"),
    [
        (CAUGHT, ExitCode.OK, "was caught as expected"),
        ((*CAUGHT, TORCH), ExitCode.RACE, "torch, producer: 4 of 4 trials; first: planted"),
        ((CAUGHT[0], TORCH), ExitCode.BLIND_DETECTOR, "BLIND: dedicated-stream-unordered"),
    ],
)
def test_the_exit_code_is_that_of_the_verification(
    failed: tuple[ArmProbe, ...], code: ExitCode, text: str, verify: VerifyCommand, fake_verification: FakeVerification
) -> None:
    fake_verification.failed = failed
    ended = verify("--out", "there")
    assert (ended.code, ended.stderr) == (code, f"nccl-bench: recorded in {RECORD.parent.absolute()}\n")
    assert text in " ".join(ended.stdout.split())
    assert recorded()["exit_code"] == code


@pytest.mark.parametrize(
    ("error", "code"),
    [(SetupError("no GPU here"), ExitCode.SETUP), (OSError(28, "disk full", "/tmp/spec"), ExitCode.SETUP)],
)
def test_an_error_in_a_verification_is_one_message(
    error: Exception, code: ExitCode, verify: VerifyCommand, fake_verification: FakeVerification
) -> None:
    fake_verification.error = error
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
    verify: VerifyCommand,
    fake_verification: FakeVerification,
    directory: Path,
) -> None:
    (directory / "verification.json").write_text("{}", encoding="utf-8")
    before = snapshot(directory)
    ended = verify(*arguments, env=env)
    assert (ended.code, ended.stdout) == (ExitCode.USAGE, "")
    assert_one_message(ended.stderr, texts)
    assert fake_verification.calls == []
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
    verify: VerifyCommand,
    fake_verification: FakeVerification,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "gpu_count", lambda environ: gpus)
    ended = verify(*arguments)
    assert ended.code == ExitCode.OK
    assert [launch.nproc for _, launch in fake_verification.calls] == [ranks]
    assert notice in ended.stdout if notice else "share" not in ended.stdout
    printed = json.loads(verify(*arguments, "--format", "json").stdout)
    assert printed["gpus"] == (None if "cpu" in arguments else gpus)
