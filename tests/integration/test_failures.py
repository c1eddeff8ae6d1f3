"""Faults planted in real workers: messages, records, exit codes, and no process left behind."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from nccl_bench.catalog.timings import Timing
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash, Hang, Samples, Status
from tests.support.command import CommandResult, Sandbox
from tests.support.planted_texts import obeyed

HOST = socket.gethostname()
TIMINGS = (Timing.EAGER, Timing.GATED, Timing.ENQUEUE)
RUN = ("run", "--arms", "stream-free,torch", "--rounds", "1", "--max-rounds", "1", "-w", "1", "-n", "4")
MEASURED = ("stream-free", "torch", "stream-free:twin")


def fault(act: str, arm: str, size_bytes: int | None = None) -> dict[str, object]:
    """Return a fault of rank 1."""
    return {"rank": 1, "arm": arm, "act": act} | ({} if size_bytes is None else {"size_bytes": size_bytes})


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def run(sandbox: Sandbox, *arguments: str, faults: list[dict[str, object]]) -> CommandResult:
    ended = sandbox.nccl_bench(*RUN, *arguments, env=sandbox.environment(faults))
    sandbox.assert_nothing_is_left()
    assert "Traceback" not in ended.stdout + ended.stderr
    return ended


def complete_sizes(recorded: Run, arms: tuple[str, ...] = MEASURED) -> list[int]:
    """Return the sizes of which every arm and timing is recorded with right results."""
    lines = {
        (line.case.size_bytes, line.arm, line.timing)
        for line in recorded.lines
        if isinstance(line, Samples) and line.status is Status.OK
    }
    sizes = sorted({size for size, _, _ in lines})
    return [size for size in sizes if all((size, arm, timing) in lines for arm in arms for timing in TIMINGS)]


def flat(text: str) -> str:
    return " ".join(text.split())


def test_a_crash_a_hang_and_a_wrong_result_cost_only_their_own_case(sandbox: Sandbox) -> None:
    text = "planted \x1b[31m\u202e ##[error] [red]"
    once = fault("raise", "torch", 2048) | {"once": str(sandbox.cwd / "raised"), "text": text}
    faults = [once, fault("wrong", "stream-free", 8192), fault("hang", "torch", 16384)]
    ended = run(sandbox, "--sizes", "1K:16K:x2", "--collective", "all_gather", "-T", "4", faults=faults)
    # The exit code is that of the worst failure.
    assert ended.code == 4
    recorded = sandbox.only_run()
    # The case that crashed has the samples of its second try.
    assert complete_sizes(recorded) == [1024, 2048, 4096]
    raised, hang, hung_again = (line for line in recorded.lines if not isinstance(line, Samples))

    assert isinstance(raised, Crash)
    assert raised.case is not None
    assert (raised.case.size_bytes, raised.arm, raised.rank, raised.host) == (2048, "torch", 1, HOST)
    assert raised.message == f"rank 1 on {HOST} ended with exit code 3: ValueError: {text}"

    lines = [line for line in recorded.lines if isinstance(line, Samples)]
    assert len(lines) == 4 * len(MEASURED) * len(TIMINGS)
    wrong = [line for line in lines if line.status is Status.WRONG]
    assert {(line.case.size_bytes, line.arm) for line in wrong} == {(8192, "stream-free")}
    assert len(wrong) == len(TIMINGS)
    assert all(line.samples_us == () for line in wrong)
    # One element in each of the four operations checked.
    assert {line.wrong for line in wrong} == {4}
    assert all(line.wrong == 0 for line in lines if line not in wrong)

    assert isinstance(hang, Hang)
    assert hang.case is not None
    assert (hang.case.size_bytes, hang.case_index, hang.arm) == (16384, 4, "torch")
    # The record names the rank that sleeps, not the rank that waits for it.
    assert (hang.rank, hang.host, hang.phase) == (1, HOST, "check before timing")
    # The timeout of the command line plus the estimated time of the case.
    assert 4 < hang.timeout_s < 4.1
    assert hung_again == hang

    # Standard error has one line, and the tables report each failure once.
    assert re.fullmatch(r"nccl-bench: recorded in .*\n", ended.stderr)
    printed = flat(ended.stdout)
    assert printed.count(f"CRASH: all_gather bfloat16 2048 B, arm torch, rank 1 on {HOST} ended") == 1
    assert printed.count("planted") == 1
    assert list(obeyed(ended.stdout)) == []
    assert printed.count("WRONG: wrong results in 3 cells of stream-free") == 1
    where = f"HANG: all_gather bfloat16 16384 B, arm torch, rank 1 on {HOST}: in check before timing"
    assert printed.count(where) == 2
