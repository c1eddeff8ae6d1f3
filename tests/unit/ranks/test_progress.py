"""Specifications, positions and failures, as one process writes them and another reads them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nccl_bench.config.run import resolve
from nccl_bench.errors import InterruptedRunError
from nccl_bench.ranks.failure import Failure, read_failures
from nccl_bench.ranks.progress import RECORD_BYTES, Position, Progress, find_overdue, read_positions
from nccl_bench.ranks.spec import WorkerSpec


def at(rank: int, step: int, deadline: float | None, *, done: bool = False) -> Position:
    return Position(rank=rank, local_rank=rank, host="h", pid=1, step=step, deadline=deadline, done=done)


def test_a_specification_is_read_as_it_was_written(tmp_path: Path) -> None:
    config = resolve("cuda", {"sizes": "8:64:x2", "ops_per_batch": 3, "nccl_library": "/a/b.so", "timeout_s": 7})
    spec = WorkerSpec(config=config, run_dir=None, scratch=str(tmp_path), cases=(4, 1))
    spec.write(tmp_path / "spec.json")
    assert WorkerSpec.read(tmp_path / "spec.json") == spec


def test_the_copy_for_a_launch_has_its_own_scratch_directory() -> None:
    before = time.monotonic()
    spec = WorkerSpec(config=resolve("cpu", {"timeout_s": 7}), run_dir="/run")
    # The time limit is for the whole run, so a relaunch keeps the start.
    assert before <= spec.started <= time.monotonic()
    assert spec.for_launch("/there") == WorkerSpec(
        config=spec.config, run_dir="/run", scratch="/there", started=spec.started
    )
    assert spec.scratch is None


def test_the_launcher_reads_the_position_that_a_rank_wrote(tmp_path: Path) -> None:
    progress = Progress(tmp_path, rank=3, local_rank=1)
    before = time.monotonic()
    progress.update(case_index=2, arm="torch", phase="timed", deadline_s=5.0)
    (position,) = read_positions(tmp_path)
    assert position == progress.position
    assert (position.rank, position.local_rank, position.pid) == (3, 1, os.getpid())
    assert (position.case_index, position.arm, position.phase, position.step) == (2, "torch", "timed", 1)
    assert position.deadline is not None
    assert before + 5 <= position.deadline <= time.monotonic() + 5
    assert position.timeout_s == 5


def test_an_update_without_a_deadline_keeps_the_last_one_and_finish_marks_the_end(tmp_path: Path) -> None:
    progress = Progress(tmp_path, rank=0, local_rank=0)
    progress.update(case_index=0, arm="a", phase="warm-up", deadline_s=60)
    deadline = progress.position.deadline
    progress.update(case_index=0, arm="b", phase="timed", deadline_s=None)
    assert progress.position.deadline == deadline
    progress.finish()
    (position,) = read_positions(tmp_path)
    assert position.done
    assert position.step == 3
    assert position.arm == "b"


def test_without_a_scratch_directory_the_position_is_kept_in_memory() -> None:
    progress = Progress(None, rank=0, local_rank=0)
    progress.update(case_index=1, arm="a", phase="timed", deadline_s=1)
    assert progress.position.case_index == 1


def test_a_short_record_overwrites_all_of_a_long_one(tmp_path: Path) -> None:
    progress = Progress(tmp_path, rank=0, local_rank=0)
    progress.update(case_index=123456, arm="a" * 60, phase="b" * 60, deadline_s=60)
    progress.update(case_index=1, arm="a", phase="b", deadline_s=60)
    assert read_positions(tmp_path) == [progress.position]


def test_empty_and_partly_written_positions_are_left_out(tmp_path: Path) -> None:
    whole = Progress(tmp_path, rank=0, local_rank=0)
    whole.update(case_index=0, arm="a", phase="timed", deadline_s=60)
    Progress(tmp_path, rank=1, local_rank=1)
    torn = Progress(tmp_path, rank=2, local_rank=2)
    torn.update(case_index=11, arm="a", phase="timed", deadline_s=60)
    first = (tmp_path / "position-2").read_bytes()
    torn.update(case_index=22, arm="a", phase="timed", deadline_s=60)
    second = (tmp_path / "position-2").read_bytes()
    half = len(second.rstrip()) // 2
    (tmp_path / "position-2").write_bytes(second[:half] + first[half:])
    (tmp_path / "position-3").write_bytes(second[:100])
    assert len(second) == RECORD_BYTES
    assert [position.rank for position in read_positions(tmp_path)] == [0]


def test_positions_are_sorted_by_rank(tmp_path: Path) -> None:
    for rank in (10, 2, 0):
        Progress(tmp_path, rank, rank).finish()
    assert [position.rank for position in read_positions(tmp_path)] == [0, 2, 10]


@pytest.mark.parametrize(
    ("positions", "late_rank"),
    [
        ([at(0, 5, 99.0), at(1, 5, 101.0)], 0),
        ([at(0, 5, 99.0), at(1, 4, 101.0)], 1),
        ([at(0, 5, 99.0), at(1, 4, None)], 1),
        ([at(0, 3, 101.0), at(1, 4, 102.0)], None),
        ([at(0, 3, None)], None),
        ([at(0, 3, 50.0, done=True), at(1, 4, 102.0)], None),
        ([at(0, 3, 50.0, done=True), at(1, 4, 99.0)], 1),
        ([], None),
    ],
)
def test_the_rank_with_the_fewest_steps_is_late_once_any_deadline_has_passed(
    positions: list[Position], late_rank: int | None
) -> None:
    late = find_overdue(positions, now=100.0)
    assert (late[0].rank if late else None) == late_rank
    assert all(not position.done for position in late)


def test_failures_are_sorted_by_time(tmp_path: Path) -> None:
    second = Failure.of(ValueError("late"), at(0, 1, None))
    first = Failure.of(InterruptedRunError("a\nb\nc\nd\ne\nf"), at(1, 1, None))
    assert second.time <= first.time
    for failure, moment in ((second, 2.0), (first, 1.0)):
        Failure(**{name: getattr(failure, name) for name in Failure.__slots__} | {"time": moment}).write(tmp_path)
    failures = read_failures(tmp_path)
    assert [(failure.rank, failure.kind, failure.exit_code) for failure in failures] == [
        (1, "InterruptedRunError", 130),
        (0, "ValueError", 3),
    ]
    assert failures[0].message == "b\nc\nd\ne\nf"


def test_a_failure_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    Failure.of(ValueError("first"), at(0, 1, None)).write(tmp_path / "gone")
    assert read_failures(tmp_path) == []
