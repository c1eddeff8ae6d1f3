"""Where ranks that hang are in the user's code: real processes that sleep, asked for their stacks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nccl_bench.launch.user_calls import UserCall, find_user_call
from nccl_bench.ranks.progress import STACKS_SIGNAL, Position, stacks_path

# A rank as far as it matters here: `ours` waits in Python's own code, `users` in a call of the user's, which may wait
# within another library's.
RANK = """
import faulthandler, sys, threading, time
faulthandler.register({signal}, file=open(sys.argv[1], "w"), all_threads=True)
sys.path.insert(0, sys.argv[3])
import mine
doing = {{"ours": lambda: threading.Event().wait(60), "users": mine.sleeps, "waits": mine.waits}}[sys.argv[2]]
thread = threading.Thread(target=doing, daemon=True)
thread.start()
print("ready", flush=True)
threading.Event().wait(60)
"""
MINE = "import threading, time\n\ndef sleeps():\n    time.sleep(60)\n\ndef waits():\n    threading.Event().wait(60)\n"
Start = Callable[[int, str], Position]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a rank that does this."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    processes: list[subprocess.Popen[str]] = []

    def started(rank: int, doing: str) -> Position:
        code = RANK.format(signal=int(STACKS_SIGNAL))
        words = [sys.executable, "-c", code, str(stacks_path(tmp_path, rank)), doing, str(tmp_path)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return Position(rank=rank, local_rank=rank, host=socket.gethostname(), pid=process.pid)

    yield started
    for process in processes:
        process.kill()
        process.communicate()


def test_the_rank_that_is_in_the_user_s_own_code_is_told_before_one_that_waits_from_there(
    start: Start, tmp_path: Path
) -> None:
    ranks = [start(0, "waits"), start(1, "users")]
    assert find_user_call(ranks, ranks[0], tmp_path) == UserCall(rank=1, where="sleeps (mine.py:4)", last=True)


def test_of_ranks_that_wait_alike_the_late_one_is_told(start: Start, tmp_path: Path) -> None:
    ranks = [start(0, "waits"), start(1, "waits")]
    assert find_user_call(ranks, ranks[1], tmp_path) == UserCall(rank=1, where="waits (mine.py:7)", last=False)


def test_where_nobody_is_in_code_of_the_user_s_there_is_nothing_to_tell(start: Start, tmp_path: Path) -> None:
    ranks = [start(0, "ours")]
    found = find_user_call(ranks, ranks[0], tmp_path)
    # The command line of a process is nobody's file.
    assert found is None


def test_a_process_that_cannot_be_asked_is_left_alone(tmp_path: Path) -> None:
    me = Position(rank=0, local_rank=0, host=socket.gethostname(), pid=os.getpid())
    assert find_user_call([me], me, tmp_path) is None
