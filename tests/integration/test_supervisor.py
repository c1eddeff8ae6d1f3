"""The supervisor with real processes: torchrun and misbehaving workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from nccl_bench.config.run import resolve
from nccl_bench.errors import InterruptedRunError, SetupError
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.launch.job import Agent, running_agent
from nccl_bench.launch.store import host_store
from nccl_bench.launch.sweep import Outcome, run_sweep
from nccl_bench.plan.cases import make_plan
from nccl_bench.ranks.progress import Position, Progress
from nccl_bench.ranks.spec import WorkerSpec
from nccl_bench.records.schema import Crash, Hang, RankState
from tests.support.misbehaving_worker import ACTS, BESIDE_STOPPED, HANG_S
from tests.support.rank_processes import shared_agent

CONFIG = resolve("cpu", {"sizes": "8,16,32,64,128,256,512"})
CASES = make_plan(CONFIG, 2).cases


def alive(pid: int) -> bool:
    """Return whether the process still runs."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def pipes(pid: int) -> set[str]:
    """Return the pipes that a process has open. Linux only."""
    links = {os.readlink(descriptor) for descriptor in Path(f"/proc/{pid}/fd").iterdir() if descriptor.is_symlink()}
    return {link for link in links if link.startswith("pipe:")}


class Sweep:
    """A sweep of misbehaving workers, and what the supervisor reported of it."""

    def __init__(self, tmp_path: Path, agent: Agent) -> None:
        self.run_dir = tmp_path / "run"
        self.run_dir.mkdir()
        self.agent = agent
        self.lines: list[Hang | Crash] = []
        self.pids: set[int] = set()
        self.on_each: Callable[[list[Position]], None] = lambda positions: None

    def run(self, acts: dict[int, str]) -> Outcome:
        (self.run_dir / ACTS).write_text(json.dumps(acts), encoding="utf-8")
        return run_sweep(
            WorkerSpec(config=CONFIG, run_dir=str(self.run_dir)),
            LaunchConfig(nproc=2, worker="tests.support.misbehaving_worker"),
            self.agent,
            cases=CASES,
            append=self.lines.append,
            on_progress=self.look,
        )

    def look(self, _launch: int, positions: list[Position]) -> None:
        self.pids |= {position.pid for position in positions}
        self.on_each(positions)

    def done(self) -> list[int]:
        return [int(line) for line in (self.run_dir / "done").read_text(encoding="ascii").split()]

    def assert_no_rank_is_left(self) -> None:
        assert self.pids
        assert not [pid for pid in self.pids if alive(pid)]


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path, shared_agent())


def test_a_sweep_survives_an_exception_a_signal_and_a_hang(sweep: Sweep) -> None:
    outcome = sweep.run({1: "raise", 3: "kill", 5: "hang"})
    assert len(sweep.pids) == 4 * 2
    assert outcome.stopped is None
    # Each of the lost cases is measured at the end.
    assert sweep.done() == [0, 2, 4, 6, 1, 3, 5]
    raised, killed, hung = sweep.lines
    assert isinstance(raised, Crash)
    assert isinstance(killed, Crash)
    assert isinstance(hung, Hang)
    assert [line.case_index for line in sweep.lines] == [1, 3, 5]
    assert [line.rank for line in sweep.lines] == [1, 1, 1]
    assert [line.case for line in sweep.lines] == [CASES[index].case for index in (1, 3, 5)]
    assert raised.message.endswith("ended with exit code 3: ValueError: planted")
    assert "was killed by SIGKILL" in killed.message
    assert killed.message.endswith("last words")
    assert (hung.phase, hung.timeout_s) == ("timed", HANG_S)
    sweep.assert_no_rank_is_left()


def test_a_stopped_rank_is_blamed_for_its_hang_and_delays_no_report_of_a_crash(sweep: Sweep) -> None:
    started = time.monotonic()
    outcome = sweep.run({1: BESIDE_STOPPED, 4: "stop"})
    # torch's launcher alone would wait so long for the stopped rank.
    assert time.monotonic() - started < 30
    assert outcome.stopped is None
    assert len(sweep.pids) == 3 * 2
    assert sweep.done() == [0, 2, 3, 5, 6, 1, 4]
    killed, hung = sweep.lines
    assert isinstance(killed, Crash)
    assert (killed.case_index, killed.rank) == (1, 1)
    assert "rank 1 on" in killed.message
    assert "was killed by SIGKILL" in killed.message
    assert isinstance(hung, Hang)
    assert (hung.case_index, hung.rank, hung.phase, hung.state) == (4, 1, "ahead", RankState.STOPPED)
    sweep.assert_no_rank_is_left()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_only_the_agent_keeps_the_pipes_of_the_command(sweep: Sweep) -> None:
    looked: list[int] = []

    def look(positions: list[Position]) -> None:
        if not looked and [position.case_index for position in positions] == [2, 2]:
            agent = psutil.Process(positions[0].pid).parents()[1]
            shared = pipes(agent.pid) & pipes(os.getpid())
            assert len(shared) == 2
            below = [process.pid for process in agent.children(recursive=True)]
            assert [pid for pid in below if pipes(pid) & shared] == []
            looked.extend(below)
            signal.raise_signal(signal.SIGINT)

    sweep.on_each = look
    with pytest.raises(InterruptedRunError, match="SIGINT"):
        sweep.run({2: "stubborn"})
    # The store, torch's launcher and two ranks.
    assert len(looked) == 4
    sweep.assert_no_rank_is_left()


def test_the_process_with_the_store_ends_with_the_pipe_of_the_agent() -> None:
    life, life_writer = os.pipe()
    process, _ = host_store("127.0.0.1", 0, life, (life_writer,))
    os.close(life)
    assert alive(process)
    os.close(life_writer)
    _, status = os.waitpid(process, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_an_exception_in_set_up_is_a_set_up_error(sweep: Sweep) -> None:
    with pytest.raises(SetupError, match=r"set-up: rank 1 on .* ValueError: planted"):
        sweep.run({-1: "raise"})
    assert [(line.case, line.case_index) for line in sweep.lines] == [(None, -1)]
    sweep.assert_no_rank_is_left()


def test_sigint_ends_even_a_stubborn_worker_and_no_other_process(sweep: Sweep) -> None:
    # A stale position file names the id of a process that is not a worker.
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

    def interrupt(positions: list[Position]) -> None:
        if [position.case_index for position in positions if position.rank < 2] == [2, 2] and len(positions) == 2:
            scratch = max(sweep.agent.scratch.glob("launch-*"), key=lambda path: path.stat().st_mtime_ns)
            stale = Progress(scratch, rank=7, local_rank=7)
            stale.position = replace(stale.position, pid=bystander.pid)
            stale.update(case_index=2, arm="torch", phase="timed", deadline_s=60)
            signal.raise_signal(signal.SIGINT)

    sweep.on_each = interrupt
    try:
        with pytest.raises(InterruptedRunError, match="SIGINT"):
            sweep.run({2: "stubborn"})
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    sweep.assert_no_rank_is_left()


@pytest.mark.parametrize("generations", [1, 2])
def test_ranks_end_with_the_process_that_started_them_and_the_sweep_goes_on(tmp_path: Path, generations: int) -> None:
    """Kill the parent of the ranks, which holds torch's launcher, or the parent of that, which is the agent."""
    killed: list[int] = []

    def kill(positions: list[Position]) -> None:
        if not killed and [position.case_index for position in positions] == [2, 2]:
            killed.extend(position.pid for position in positions)
            parents = psutil.Process(killed[0]).parents()
            parents[generations - 1].kill()
        if killed and not set(killed) & {position.pid for position in positions} and positions:
            assert not [pid for pid in killed if alive(pid)]

    # Other tests need the shared agent.
    with running_agent() if generations == 2 else nullcontext(shared_agent()) as agent:
        sweep = Sweep(tmp_path, agent)
        sweep.on_each = kill
        outcome = sweep.run({2: "stubborn"})
    assert sweep.done() == [0, 1, 3, 4, 5, 6, 2]
    (crash,) = outcome.crashes
    assert (crash.case_index, crash.rank) == (2, 1)
    assert "the process that started it was killed by SIGKILL" in crash.message
    sweep.assert_no_rank_is_left()
