"""The rank and the reason that ``find_crash`` reports from the files of an ended launch. No processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nccl_bench.errors import RecordError
from nccl_bench.launch import crashes
from nccl_bench.launch.crashes import find_crash, tail
from nccl_bench.launch.memory_kills import KillCount
from nccl_bench.launch.messages import AGENT_LOG, LAUNCH_LOG, Exit, LaunchEnd
from nccl_bench.ranks.failure import Failure, read_failures
from nccl_bench.ranks.progress import Position

POSITIONS = [
    Position(rank=rank, local_rank=rank, host="box", pid=1, case_index=4, arm="torch", step=9 - rank) for rank in (0, 1)
]


def leave(scratch: Path, *exits: tuple[int, int], failures: tuple[tuple[int, float], ...] = ()) -> None:
    """Write the files of a launch: ``exits`` are (rank, code), ``failures`` are (rank, time)."""
    LaunchEnd(exits=tuple(Exit(rank=rank, local_rank=rank, code=code) for rank, code in exits)).write(scratch)
    (scratch / LAUNCH_LOG).write_text("W0101 noise\nlast line\n", encoding="utf-8")
    for rank, _ in exits:
        logs = scratch / "logs" / "abc_1" / "attempt_0" / str(rank)
        logs.mkdir(parents=True)
        (logs / "stderr.log").write_text("".join(f"line {n} of {rank}\n\n" for n in range(40)), encoding="utf-8")
    for rank, moment in failures:
        Failure(
            rank=rank, host="box", case_index=5, arm="a", kind="ValueError", message="no", exit_code=3, time=moment
        ).write(scratch)


def test_the_earliest_exception_is_the_reason(tmp_path: Path) -> None:
    leave(tmp_path, (0, 1), failures=((0, 2.0), (1, 1.0)))
    crash = find_crash(tmp_path, POSITIONS, 1)
    assert crash.message == "rank 1 on box ended with exit code 3: ValueError: no"
    assert (crash.rank, crash.case_index, crash.arm) == (1, 5, "a")


def test_sigkill_is_put_down_to_memory_only_if_the_kernels_count_has_risen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(tmp_path, (1, -9))
    before, after = KillCount(file=Path("/vmstat"), kills=3), KillCount(file=Path("/vmstat"), kills=4)
    for now, words in (
        (after, "SIGKILL, because memory ran out (oom_kill in /vmstat has risen to 4):"),
        (before, "SIGKILL:"),
    ):
        monkeypatch.setattr(crashes, "read_kill_count", lambda now=now: now)
        assert (
            f"rank 1 on box was killed by {words}\n" in find_crash(tmp_path, POSITIONS, 1, kills_before=before).message
        )
    assert "memory" not in find_crash(tmp_path, POSITIONS, 1, kills_before=None).message


@pytest.mark.parametrize(("code", "name"), [(-11, "SIGSEGV"), (-9, "SIGKILL"), (-6, "SIGABRT")])
def test_a_killed_rank_comes_before_the_exceptions_of_other_ranks(tmp_path: Path, code: int, name: str) -> None:
    leave(tmp_path, (1, code), failures=((0, 1.0),))
    crash = find_crash(tmp_path, POSITIONS, 1)
    assert (crash.rank, crash.host, crash.case_index, crash.arm) == (1, "box", 4, "torch")
    assert crash.message.startswith(f"rank 1 on box was killed by {name}")
    assert crash.message.endswith("line 35 of 1\nline 36 of 1\nline 37 of 1\nline 38 of 1\nline 39 of 1")
    assert "line 34" not in crash.message


def test_an_exception_comes_before_the_abort_of_the_same_rank(tmp_path: Path) -> None:
    leave(tmp_path, (0, -6), failures=((0, 1.0),))
    assert "ValueError" in find_crash(tmp_path, POSITIONS, 1).message


def test_a_rank_without_an_exception_is_reported_with_its_exit_code_and_stderr(tmp_path: Path) -> None:
    leave(tmp_path, (1, 17))
    assert find_crash(tmp_path, POSITIONS, 1).message.startswith("rank 1 on box ended with exit code 17:\nline 35")


def test_a_launch_that_did_not_start_is_explained_by_its_error(tmp_path: Path) -> None:
    LaunchEnd(error="node 1 did not join").write(tmp_path)
    crash = find_crash(tmp_path, [], 1)
    assert (crash.case_index, crash.message.partition(" on ")[0]) == (-1, "rank 0")
    assert crash.message.endswith("did not start: node 1 did not join")


@pytest.mark.parametrize("written", [LAUNCH_LOG, f"../{AGENT_LOG}"])
def test_without_an_end_of_the_launch_the_end_of_the_agent_is_reported_with_its_log(
    tmp_path: Path, written: str
) -> None:
    scratch = tmp_path / "launch"
    scratch.mkdir()
    (scratch / written).write_text("no module torch\n", encoding="utf-8")
    assert "the process that started it was killed by SIGKILL" in find_crash(scratch, [], -9).message
    assert find_crash(scratch, [], 1).message.endswith("ended with exit code 1:\nno module torch")


def test_exit_code_0_before_the_last_case_is_a_crash(tmp_path: Path) -> None:
    leave(tmp_path)
    assert find_crash(tmp_path, POSITIONS, 0).message == "rank 1 on box ended before its last case, with exit code 0"


def test_a_rank_that_was_ended_after_another_one_is_not_blamed(tmp_path: Path) -> None:
    leave(tmp_path, (0, -9))
    message = "rank 1 on box ended before the other ranks; its exit code is unknown"
    assert find_crash(tmp_path, POSITIONS, 1, ended={1}).message == message
    assert find_crash(tmp_path, POSITIONS, 1, ended={0, 1}).message.startswith("rank 0 on box was killed by SIGKILL")


def test_the_rank_that_ended_first_is_blamed_while_the_launch_does_not_end(tmp_path: Path) -> None:
    assert find_crash(tmp_path, POSITIONS, None, ended={1}).rank == 1


def test_the_tail_of_a_missing_file_is_empty(tmp_path: Path) -> None:
    assert tail(None) == tail(tmp_path / "absent") == ""


@pytest.mark.parametrize(
    ("before", "expected"),
    [("what(): sizes differ\n", "what(): sizes differ"), ("", "Fatal Python error: Aborted\nFile 0\nFile 1\n")],
)
def test_the_stacks_after_a_fatal_signal_do_not_hide_the_reason(tmp_path: Path, before: str, expected: str) -> None:
    stacks = "".join(f"\nFile {n}" for n in range(900))
    (tmp_path / "log").write_text(f"{before}Fatal Python error: Aborted\n{stacks}", encoding="utf-8")
    assert tail(tmp_path / "log").startswith(expected)
    assert len(tail(tmp_path / "log").splitlines()) <= 5


def test_a_record_that_a_rank_could_not_write_is_no_crash_of_a_case(tmp_path: Path) -> None:
    leave(tmp_path, (1, -15), (0, 3), failures=((1, 2.0),))
    text = "samples.jsonl cannot be written: No space left on device"
    Failure.of(RecordError(text), POSITIONS[0]).write(tmp_path)
    (failure,) = (each for each in read_failures(tmp_path) if each.rank == 0)
    replace(failure, time=1.0).write(tmp_path)
    with pytest.raises(RecordError, match=text):
        find_crash(tmp_path, POSITIONS, 1)
