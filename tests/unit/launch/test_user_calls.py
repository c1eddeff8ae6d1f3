"""The call of the user's code in which a rank hangs: real processes that sleep and write their stacks on a signal."""

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

# A minimal rank. With `ours` it waits in Python's own code, with `users` in the user's code, and with `waits` in a call
# that the user's code made to Python's.
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
    """Start a rank that runs one of the functions in ``RANK``."""
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


def test_a_rank_in_the_users_own_code_comes_before_a_rank_that_waits_in_a_call_from_there(
    start: Start, tmp_path: Path
) -> None:
    ranks = [start(0, "waits"), start(1, "users")]
    assert find_user_call(ranks, ranks[0], tmp_path) == UserCall(rank=1, location="sleeps (mine.py:4)", innermost=True)


def test_of_ranks_that_wait_in_the_same_call_the_late_one_is_reported(start: Start, tmp_path: Path) -> None:
    ranks = [start(0, "waits"), start(1, "waits")]
    assert find_user_call(ranks, ranks[1], tmp_path) == UserCall(rank=1, location="waits (mine.py:7)", innermost=False)


def test_without_a_rank_in_the_users_code_there_is_no_call(start: Start, tmp_path: Path) -> None:
    ranks = [start(0, "ours")]
    # The frames of `python -c` have no file of the user.
    assert find_user_call(ranks, ranks[0], tmp_path) is None


def test_a_process_without_a_stacks_file_gets_no_signal(tmp_path: Path) -> None:
    me = Position(rank=0, local_rank=0, host=socket.gethostname(), pid=os.getpid())
    assert find_user_call([me], me, tmp_path) is None
