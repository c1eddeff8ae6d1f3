"""The command as a rank that another launcher started: torchrun, mpirun or srun."""

from __future__ import annotations

import re
import shutil
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from nccl_bench.config.workload import recorded_workload
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash, Hang, Samples, Status
from tests.support.command import CommandResult, Sandbox
from tests.support.planted_modules import imported_modules, plant_user_arm
from tests.support.slurm import running_slurm

ARMS = ("stream-free", "torch")
MEASURED = (*ARMS, "stream-free:twin")
QUICK = ("--rounds", "1", "--max-rounds", "1", "-w", "1", "-n", "4")
ANY = ("run", "--arms", ",".join(ARMS), *QUICK, "--out", "there")
RUN = (*ANY, "--timing", "eager")


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def srun(rank: int) -> dict[str, str]:
    """Return the variables that Slurm sets for a task of a step of two."""
    return {
        "SLURM_JOB_ID": "42",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
    }


def plain(rank: int) -> dict[str, str]:
    """Return the variables that an unknown launcher sets for a rank of two. ``--attach`` needs them."""
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}


SECRET = "pl4nted-hf"
PRINTS = """

import logging, os, sys

print("printed \\x1b[31m" + os.environ["HF_TOKEN"])
logging.getLogger("mine").warning("logged \\x1b]0;x\\x07%s", os.environ["HF_TOKEN"])
sys.stdout.buffer.write(b"bytes \\x1b[31m" + os.environ["HF_TOKEN"].encode() + b"\\n")
"""


def with_secret(rank: int) -> dict[str, str]:
    return {**plain(rank), "HF_TOKEN": SECRET}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def both_ranks(
    sandbox: Sandbox,
    variables: Callable[[int], Mapping[str, str]],
    *arguments: str,
    faults: Sequence[Mapping[str, object]] = (),
) -> list[CommandResult]:
    """Start two ranks as a launcher would, and wait for both."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        sandbox.start(
            *("-m", "nccl_bench", *RUN, *arguments),
            env=sandbox.environment(faults, **variables(rank), **meeting),
        )
        for rank in range(2)
    ]
    return [sandbox.wait(process) for process in processes]


def assert_recorded(sandbox: Sandbox, ended: CommandResult, mode: str, cases: int = 1) -> None:
    """Fail unless rank 0 recorded a complete run of two ranks with right results and printed its tables."""
    run = Run.load(sandbox.cwd / "there")
    assert run.meta["launch"] == {"mode": mode, "world_size": 2, "nproc": 2, "nnodes": 1}
    assert run.meta["status"] == "complete"
    lines = [line for line in run.lines if isinstance(line, Samples)]
    assert [line.arm for line in lines] == [*MEASURED] * cases
    assert {line.status for line in lines} == {Status.OK}
    assert ended.stdout.count("Ratios below 1 are faster") == 1
    # The first line of the report.
    assert ended.stdout.partition("\n")[0].endswith("2 ranks on cpu")
    assert (sandbox.cwd / "there" / "summary.csv").read_text(encoding="utf-8").count("\n") == 1 + len(lines)


def test_under_an_outer_torchrun_rank_0_prints_and_records_a_model_that_its_ranks_share(sandbox: Sandbox) -> None:
    process = sandbox.start(
        *("-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"),
        *("--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"),
        *("-m", "nccl_bench", *ANY, "--preset", "llama3-70b-tp", "--model", "tokens=8,prefill=0"),
    )
    ended = sandbox.wait(process)
    assert ended.code == 0, ended.stderr
    assert_recorded(sandbox, ended, "attached: torchrun", cases=2)
    workload = recorded_workload(Run.load(sandbox.cwd / "there").meta["config"], "there")
    assert workload is not None
    # On the CPU the preset is smaller: 8 x 64 x 2 bytes in 2 x 80 + 1 calls, and 8 x 1024 x 2 bytes, in 32 steps.
    messages = [(each.size_bytes, each.ranks, each.count) for each in workload.messages]
    assert messages == [(1024, 2, 32 * 161), (16384, 2, 32)]
    assert " a step where stream-free takes " in " ".join(ended.stdout.split())
    assert "the sizes of the model itself: on the cpu, hidden is 64 instead of 8192" in " ".join(ended.stdout.split())
    assert ended.stderr.count("nccl-bench: ") == 1
    assert sandbox.processes() == []


def test_under_srun_the_ranks_attach_and_within_salloc_the_command_starts_them(sandbox: Sandbox) -> None:
    with running_slurm() as variables:
        run = ("-m", "nccl_bench", *RUN, "--sizes", "1K")
        env = sandbox.environment(**variables)
        ended = sandbox.wait(sandbox.start(*run, env=env, within=("srun", "-n", "2")))
        assert ended.code == 0, ended.stderr
        assert_recorded(sandbox, ended, "attached: srun")
        assert ended.stderr.count("nccl-bench: ") == 1

        shutil.rmtree(sandbox.cwd / "there")
        ended = sandbox.wait(sandbox.start(*run, "--nproc", "2", env=env, within=("salloc", "-n", "2")))
        assert ended.code == 0, ended.stderr
        assert_recorded(sandbox, ended, "torchrun")
        sandbox.assert_nothing_is_left()


def test_under_mpirun_the_ranks_attach_and_the_output_has_no_colour(sandbox: Sandbox) -> None:
    if shutil.which("mpirun") is None:
        pytest.skip("not installed: openmpi-bin")
    mpirun = ("mpirun", "-n", "2", "--allow-run-as-root", "--oversubscribe")
    ended = sandbox.wait(sandbox.start("-m", "nccl_bench", *RUN, "--sizes", "1K", within=mpirun))
    assert ended.code == 0, ended.stderr
    assert_recorded(sandbox, ended, "attached: mpirun")
    assert re.search(r"^nccl-bench: recorded in .*/there$", ended.stderr, re.MULTILINE)
    assert ended.stderr.count("nccl-bench: ") == 1
    # Open MPI makes a terminal for each rank.
    assert "\x1b" not in ended.stdout
    assert sandbox.processes() == []


def test_under_srun_ranks_end_at_their_deadline_and_record_the_hang(sandbox: Sandbox) -> None:
    fault = {"rank": 1, "arm": "torch", "act": "hang", "size_bytes": 2048}
    ends = both_ranks(sandbox, srun, "--sizes", "1K,2K", "-T", "4", faults=[fault])
    assert [ended.code for ended in ends] == [6, 6], ends
    run = Run.load(sandbox.cwd / "there")
    assert (run.meta["status"], run.meta["launch"]["mode"]) == ("failed", "attached: srun")
    *lines, hang = run.lines
    assert [(line.case and line.case.size_bytes, line.arm) for line in lines if isinstance(line, Samples)] == [
        (1024, arm) for arm in MEASURED
    ]
    assert isinstance(hang, Hang)
    assert hang.case is not None
    assert (hang.case.size_bytes, hang.case_index, hang.arm) == (2048, 1, "torch")
    # The timeout of the command line plus the estimated time of the case.
    assert 4 < hang.timeout_s < 4.1
    assert "HANG: all_reduce bfloat16 sum 2048 B, arm torch" in " ".join(ends[0].stdout.split())
    assert ends[1].stdout == ""
    for rank, ended in enumerate(ends):
        met = f"nccl-bench: rank {rank} on {socket.gethostname()} did not finish within 4 s: all_reduce "
        assert ended.stderr.count(met) == 1
        assert "Traceback" not in ended.stderr
    # Each rank reports its position: the hanging rank is one phase behind the waiting rank.
    assert "torch (check before timing, waiting)" in ends[0].stderr
    assert "torch (check before timing)\n" in ends[1].stderr
    sandbox.assert_nothing_is_left()


def test_a_rank_whose_peer_dies_keeps_and_prints_what_was_measured(sandbox: Sandbox) -> None:
    # Also, ranks import only a user arm from the current directory.
    plant_user_arm(sandbox.cwd)
    with (sandbox.cwd / "mine.py").open("a") as file:
        file.write(PRINTS)
    fault = {"rank": 1, "arm": "torch", "act": "kill", "size_bytes": 2048}
    user_arm = ("--arm", "mine=mine:Comm", "--baseline", "stream-free", "--attach")
    first, second = both_ranks(sandbox, with_secret, *user_arm, "--sizes", "1K,2K", faults=[fault])
    assert imported_modules(sandbox.cwd) == []
    # The ranks write to the terminal, so what user arms print is cleaned too.
    for ended in (first, second):
        assert SECRET not in ended.stdout + ended.stderr
        assert "\x1b" not in ended.stdout + ended.stderr
        assert r"printed \x1b[31m[value of HF_TOKEN]" in ended.stdout
        assert r"logged \x1b]0;x\x07[value of HF_TOKEN]" in ended.stderr
    assert (first.code, second.code) == (3, -signal.SIGKILL), first
    run = Run.load(sandbox.cwd / "there")
    assert run.meta["status"] == "failed"
    *lines, crash = run.lines
    assert [line.arm for line in lines if isinstance(line, Samples) and line.status is Status.OK] == [
        *ARMS,
        "mine",
        "stream-free:twin",
    ]
    assert isinstance(crash, Crash)
    assert crash.case is not None
    assert (crash.case.size_bytes, crash.case_index, crash.arm, crash.rank) == (2048, 1, "torch", 0)
    assert crash.message.startswith(f"rank 0 on {crash.host} ended with exit code ")
    assert "Ratios below 1 are faster" in first.stdout
    assert "CRASH: all_reduce bfloat16 sum 2048 B, arm torch, rank 0" in " ".join(first.stdout.split())
    assert f"nccl-bench: recorded in {sandbox.cwd / 'there'}\n" in first.stderr
    assert (sandbox.cwd / "there" / "summary.csv").read_text(encoding="utf-8").count("\n") == 1 + len(run.lines)
    sandbox.assert_nothing_is_left()
