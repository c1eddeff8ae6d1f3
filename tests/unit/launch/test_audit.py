"""The description of the end of a program under watch, and of a hang."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from nccl_bench.audit.activity import Activity
from nccl_bench.audit.findings.record import ProgramEnd, RankFindings
from nccl_bench.launch.audit import RankOutput, describe_failure
from tests.support.audit_findings import line, rank_findings


def _ended(rank: int, exit_code: int, at: float, error: str = "") -> RankFindings:
    end = ProgramEnd(exit_code=exit_code, error=error, line=line() if error else None, ended_at=at)
    return replace(rank_findings(rank), end=end)


def test_the_rank_that_failed_first_is_the_reason() -> None:
    ranks = [
        _ended(0, 1, at=9.0, error="RuntimeError: Connection closed by peer"),
        _ended(1, 1, at=8.0, error="ValueError: bad weights"),
        _ended(2, 0, at=7.0),
        rank_findings(3),
    ]
    assert describe_failure(ranks) == (
        "The program ended with exit code 1 on rank 1: ValueError: bad weights at engine/model.py:88"
    )
    assert describe_failure(ranks[2:]) == ""
    assert describe_failure([_ended(0, 7, at=1.0)]) == "The program ended with exit code 7 on rank 0"


def test_a_program_does_not_hang_while_any_rank_is_active(tmp_path: Path) -> None:
    first, second = Activity(tmp_path, 100.0), Activity(tmp_path, 100.0)
    long_ago = time.time() - 150
    os.utime(tmp_path / ".alive", (long_ago, long_ago))
    first.note(0)
    assert first.left_s() < 0
    second.note(5)
    assert first.left_s() > 50
    os.utime(tmp_path / ".alive", (long_ago, long_ago))
    second.note(5)
    assert second.left_s() < 0


def test_the_output_of_ranks_is_passed_on_once_and_in_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "launch-0" / "logs" / "x" / "attempt_0" / "1" / "stdout.log"
    log.parent.mkdir(parents=True)
    log.write_text("one\ntw")
    output = RankOutput(tmp_path)
    assert list(output.new_lines()) == [(1, "one")]
    assert list(output.new_lines()) == []
    log.write_text("one\ntwo\nthree")
    assert list(output.new_lines()) == [(1, "two")]
    assert list(output.new_lines(whole=False)) == [(1, "three")]
