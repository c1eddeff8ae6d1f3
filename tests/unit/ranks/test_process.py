"""The process of a rank around its work; the end of the process is replaced by an exception."""

from __future__ import annotations

import faulthandler
import os
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.errors import ExitCode, UsageError
from nccl_bench.ranks.failure import read_failures
from nccl_bench.ranks.process import run_rank
from nccl_bench.ranks.progress import STACKS_SIGNAL, Progress, read_positions, stacks_path


class Ended(BaseException):
    """Raised where the process would end."""


@pytest.fixture(autouse=True)
def rank_3(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")


def test_a_body_that_returns_leaves_a_position_and_no_failure(tmp_path: Path) -> None:
    run_rank(tmp_path, Progress.finish)
    (position,) = read_positions(tmp_path)
    assert (position.rank, position.local_rank, position.done) == (3, 1, True)
    assert read_failures(tmp_path) == []


def test_the_file_for_stacks_exists_only_once_the_signal_is_handled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, existed, register = stacks_path(tmp_path, 3), [], faulthandler.register

    def observe_register(*args: Any, **kwargs: Any) -> None:
        existed.append(file.exists())
        register(*args, **kwargs)
        existed.append(file.exists())

    def body(_: Progress) -> None:
        os.kill(os.getpid(), STACKS_SIGNAL)

    monkeypatch.setattr(faulthandler, "register", observe_register)
    run_rank(tmp_path, body)
    assert existed == [False, False]
    assert "in body" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError("planted"), ExitCode.USAGE), (ValueError("planted"), ExitCode.SETUP), (KeyboardInterrupt(), 3)],
)
def test_an_exception_of_the_body_leaves_a_failure_and_ends_the_process(
    error: BaseException, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(progress: Progress) -> None:
        progress.update(case_index=2, arm="torch", phase="timed", deadline_s=None)
        raise error

    with pytest.raises(Ended) as ended:
        run_rank(tmp_path, body)
    assert ended.value.args == (code,)
    (failure,) = read_failures(tmp_path)
    assert (failure.rank, failure.case_index, failure.arm, failure.exit_code) == (3, 2, "torch", code)
    assert (failure.kind, failure.message) == (type(error).__name__, str(error))
    assert f"{failure.kind}" in capsys.readouterr().err
