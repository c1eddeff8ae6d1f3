"""``nccl-bench verify``: what it asks a proof for, what it refuses before any rank starts, and how it ends."""

from __future__ import annotations

import errno
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nccl_bench.catalog.arms import Order
from nccl_bench.catalog.probes import DETECTOR
from nccl_bench.cli import main
from nccl_bench.config.user_arms import UserArm
from nccl_bench.config.verification import VerifyConfig, resolve_verification
from nccl_bench.errors import ExitCode, InterruptedRunError, SetupError
from nccl_bench.launch import hardware
from nccl_bench.launch import verification as prove_module
from nccl_bench.launch.torchrun import LaunchConfig
from nccl_bench.plan.verification import ArmProbe, group_by_launch
from nccl_bench.ranks.progress import Position
from nccl_bench.report import verification as report_module
from nccl_bench.verify.findings import Finding
from nccl_bench.verify.judgement import Verification, judge

RANKS = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
TORCHRUN = RANKS | {"TORCHELASTIC_RUN_ID": "none", "MASTER_PORT": "29500"}
SRUN = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "1",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
}
LAUNCHERS_MARKS = (*TORCHRUN, *SRUN, "OMPI_COMM_WORLD_RANK", "PMI_RANK", "CUDA_VISIBLE_DEVICES", "COLUMNS")
CAUGHT = (ArmProbe(arm=DETECTOR, probe="producer"), ArmProbe(arm=DETECTOR, probe="consumer"))
TORCH = ArmProbe(arm="torch", probe="producer")


@dataclass
class Prover:
    """Stands in for ``run_verification``: what is in ``failed`` fails, and ``error`` is raised."""

    failed: tuple[ArmProbe, ...] = CAUGHT
    error: BaseException | None = None
    asked: list[tuple[VerifyConfig, LaunchConfig]] = field(default_factory=list)
    before: Callable[[], None] = lambda: None

    def __call__(
        self, config: VerifyConfig, launch: LaunchConfig, *, on_progress: Callable[[list[Position]], None]
    ) -> Verification:
        self.asked.append((config, launch))
        self.before()
        on_progress([])
        if self.error:
            raise self.error
        return judge(
            config,
            launch.nproc,
            [
                Finding(
                    arm=cell.arm,
                    probe=cell.probe,
                    trials=4,
                    failed=int(cell in self.failed),
                    raced=int(cell in self.failed),
                    detail="planted" if cell in self.failed else None,
                )
                for group in group_by_launch(config)
                for cell in group
            ],
        )


@dataclass(frozen=True)
class Ended:
    code: int
    stdout: str
    stderr: str


Command = Callable[..., Ended]


@pytest.fixture
def prover(monkeypatch: pytest.MonkeyPatch) -> Prover:
    prover = Prover()
    monkeypatch.setattr(prove_module, "run_verification", prover)
    return prover


@pytest.fixture
def verify(
    prover: Prover, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs a command line in an empty directory of a machine without GPUs."""
    for name in LAUNCHERS_MARKS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hardware, "gpu_count", lambda environ: 0)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, env: Mapping[str, str] = {}) -> Ended:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["nccl-bench", "verify", *arguments])
            for name, value in env.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as end:
                main()
        captured = capsys.readouterr()
        return Ended(int(end.value.code or 0), captured.out, captured.err)

    return run


# -- what it asks for ------------------------------------------------------------------------------------------------


def test_without_options_everything_is_proven_on_two_ranks_of_the_cpu(verify: Command, prover: Prover) -> None:
    ended = verify()
    assert (ended.code, ended.stderr) == (ExitCode.OK, "")
    assert prover.asked == [
        (
            resolve_verification("cpu"),
            LaunchConfig(nproc=2, worker="nccl_bench.verify.worker"),
        )
    ]


def test_every_option_reaches_the_proof(verify: Command, prover: Prover, tmp_path: Path) -> None:
    (tmp_path / "mine.py").touch()
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
    ((config, launch),) = prover.asked
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
def test_the_machine_decides_where_nobody_says(
    gpus: int,
    arguments: tuple[str, ...],
    device: str,
    nproc: int,
    verify: Command,
    prover: Prover,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "gpu_count", lambda environ: gpus)
    assert verify(*arguments).code == ExitCode.OK
    ((config, launch),) = prover.asked
    assert (config.device, launch.nproc) == (device, nproc)


# -- what it shows ---------------------------------------------------------------------------------------------------


def test_the_table_is_as_wide_as_the_terminal_or_as_asked_for(verify: Command) -> None:
    narrow, wide, asked = verify(env={"COLUMNS": "80"}), verify(env={"COLUMNS": "160"}), verify("--width", "160")
    assert "\n  -unordered" in narrow.stdout
    assert "\n  -unordered" not in wide.stdout
    assert asked == wide


def test_json_is_printed_or_written_or_both_and_says_what_was_run_on_what(verify: Command, tmp_path: Path) -> None:
    both = verify("--format", "json", "--out", "deep/there", "--arms", "torch")
    written = (tmp_path / "deep" / "there" / "verification.json").read_text(encoding="utf-8")
    assert (both.code, both.stdout, both.stderr) == (ExitCode.OK, written, "")
    found = json.loads(written)
    assert list(found) == [
        *("tool", "version", "started", "command", "config", "environment"),
        *("device", "world_size", "gpus", "blind", "exit_code", "notes", "cells"),
    ]
    assert found["command"] == ["nccl-bench", "verify", "--format", "json", "--out", "deep/there", "--arms", "torch"]
    assert found["config"]["arms"] == ["torch"]
    assert found["environment"]
    assert {cell["arm"] for cell in found["cells"]} == {"torch", DETECTOR}
    with_table = verify("--out", "there", "--arms", "torch")
    assert with_table.stdout.startswith("Stream order, 2 arms by 8 probes on 2 ranks (cpu)\n")
    assert json.loads((tmp_path / "there" / "verification.json").read_text(encoding="utf-8"))["cells"] == found["cells"]


def test_the_file_is_there_before_the_first_rank(verify: Command, prover: Prover, tmp_path: Path) -> None:
    seen: list[bytes] = []
    prover.before = lambda: seen.append((tmp_path / "there" / "verification.json").read_bytes())
    verify("--out", "there")
    assert seen == [b""]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InterruptedRunError("interrupted by SIGINT")])
def test_a_proof_that_was_interrupted_keeps_nothing_and_says_so(
    error: BaseException, verify: Command, prover: Prover, tmp_path: Path
) -> None:
    prover.error = error
    message = "nccl-bench: interrupted by SIGINT; a part of a verification verifies nothing\n"
    assert verify("--out", "there") == Ended(ExitCode.INTERRUPTED, "", message)
    assert not (tmp_path / "there" / "verification.json").exists()


def test_a_proof_that_was_not_made_leaves_no_file_in_the_way(verify: Command, prover: Prover, tmp_path: Path) -> None:
    prover.error = SetupError("no GPU here")
    assert verify("--out", "there").code == ExitCode.SETUP
    assert not (tmp_path / "there" / "verification.json").exists()


def test_a_file_that_cannot_be_written_any_more_costs_no_table(verify: Command, prover: Prover, tmp_path: Path) -> None:
    prover.before = lambda: shutil.rmtree(tmp_path / "deep")
    ended = verify("--out", "deep/there")
    assert ended.code == ExitCode.SETUP
    assert "was caught as expected" in " ".join(ended.stdout.split())
    assert ended.stderr.startswith(
        "nccl-bench: deep/there/verification.json cannot be written: No such file or directory"
    )


def test_a_table_that_cannot_be_printed_costs_no_file(
    verify: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(report_module, "verification_text", full)
    ended = verify("--out", "there")
    assert (ended.code, ended.stderr.count("\n")) == (ExitCode.SETUP, 1)
    assert "No space left on device" in ended.stderr
    assert json.loads((tmp_path / "there" / "verification.json").read_text(encoding="utf-8"))["exit_code"] == 0


@pytest.mark.parametrize(
    ("failed", "code", "says"),
    [
        (CAUGHT, ExitCode.OK, "was caught as expected"),
        ((*CAUGHT, TORCH), ExitCode.RACE, "torch, producer: 1 of 4 trials; first: planted"),
        ((CAUGHT[0], TORCH), ExitCode.BLIND_DETECTOR, "BLIND: dedicated-stream-unordered"),
    ],
)
def test_the_exit_code_is_what_the_proof_came_to(
    failed: tuple[ArmProbe, ...], code: ExitCode, says: str, verify: Command, prover: Prover, tmp_path: Path
) -> None:
    prover.failed = failed
    ended = verify("--out", "there")
    assert (ended.code, ended.stderr) == (code, "")
    assert says in " ".join(ended.stdout.split())
    assert json.loads((tmp_path / "there" / "verification.json").read_text(encoding="utf-8"))["exit_code"] == code


@pytest.mark.parametrize(
    ("error", "code"),
    [(SetupError("no GPU here"), ExitCode.SETUP), (OSError(28, "disk full", "/tmp/spec"), ExitCode.SETUP)],
)
def test_a_proof_that_does_not_get_to_its_end_is_one_message(
    error: Exception, code: ExitCode, verify: Command, prover: Prover
) -> None:
    prover.error = error
    says = "/tmp/spec: disk full" if isinstance(error, OSError) else str(error)
    assert verify() == Ended(code, "", f"nccl-bench: {says}\n")


# -- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "env", "says"),
    [
        (("--nproc", "1"), {}, ("--nproc is 1", "at least 2 ranks", "Give more, or leave it out")),
        (("--nproc", "0"), {}, ("--nproc is 0", "at least 2 ranks")),
        (("--device", "cuda"), {}, ("no GPU", "--device cpu")),
        (("--device", "tpu"), {}, ("'tpu'", "cuda, cpu")),
        (("--arms", "stream-fre"), {}, ("arms has 'stream-fre'", "stream-free")),
        (("--arms", DETECTOR), {}, (f"'{DETECTOR}'", "allowed are stream-free")),
        (("--probes", "producers"), {}, ("probes has 'producers'", "producer, consumer")),
        (("--probes", "capture,allocator"), {}, ("--probes", "no CUDA graphs", "keep alive what they use")),
        (("--probes", "async", "--arms", "torch"), {}, ("the --arms torch", "has no all-gather on a stream")),
        (("--routes", "eager"), {}, ("'eager'", "[OPERATION.]MODE=BACKEND")),
        (("--routes", "eager=torch", "--arms", "torch"), {}, ("'eager=torch'", "--arms")),
        (("--nccl-library", "libnccl.so"), {}, ("'libnccl.so'", "cpu")),
        (("-T", "0"), {}, ("timeout_s (--timeout) is 0.0", "above 0")),
        (("--width", "19"), {}, ("--width is 19", "at least 20")),
        (("--width", "25"), {}, ("--width is 25", "at least 26")),
        (("--out", "."), {}, ("already holds a record (verification.json)", "--out")),
        (("--out", "verification.json"), {}, ("verification.json cannot be written: File exists", "--out")),
        (("--out", "verification.json/a"), {}, ("verification.json/a cannot be written: Not a directory", "--out")),
        (("--out", "/proc/nccl-bench/there"), {}, ("/proc/nccl-bench/there cannot be written", "--out")),
        ((), TORCHRUN, ("torchrun started this process as one rank", "outside of that launch")),
        ((), SRUN, ("srun started this process as one rank", "outside of that launch")),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_proven_is_refused_before_any_rank_starts(
    arguments: tuple[str, ...],
    env: Mapping[str, str],
    says: tuple[str, ...],
    verify: Command,
    prover: Prover,
    tmp_path: Path,
) -> None:
    (tmp_path / "verification.json").write_text("{}", encoding="utf-8")
    ended = verify(*arguments, env=env)
    assert (ended.code, ended.stdout) == (ExitCode.USAGE, "")
    assert ended.stderr.startswith("nccl-bench: ")
    assert "Traceback" not in ended.stderr
    assert all(text in ended.stderr for text in says), ended.stderr
    assert prover.asked == []
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {"verification.json": "{}"}


@pytest.mark.parametrize(
    ("gpus", "arguments", "ranks", "told"),
    [
        (1, (), 2, "The ranks share 1 GPU: "),
        (2, ("--nproc", "3"), 3, "The ranks share 2 GPUs: "),
        (2, (), 2, None),
        (1, ("--device", "cpu"), 2, None),
    ],
)
def test_ranks_share_gpus_that_are_fewer_and_that_is_said(
    gpus: int,
    arguments: tuple[str, ...],
    ranks: int,
    told: str | None,
    verify: Command,
    prover: Prover,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "gpu_count", lambda environ: gpus)
    ended = verify(*arguments)
    assert ended.code == ExitCode.OK
    assert [launch.nproc for _, launch in prover.asked] == [ranks]
    assert told in ended.stdout if told else "share" not in ended.stdout
    found = json.loads(verify(*arguments, "--format", "json").stdout)
    assert found["gpus"] == (None if "cpu" in arguments else gpus)
