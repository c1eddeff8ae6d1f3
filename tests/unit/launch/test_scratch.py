"""The directory of a command's launches, beside those of other commands."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.launch import scratch
from nccl_bench.launch.scratch import scratch_directory


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_directories_of_killed_commands_are_removed_and_no_others(temporary: Path) -> None:
    killed = temporary / "nccl-bench-launches-killed"
    killed_before_its_lock = temporary / "nccl-bench-launches-early"
    of_the_user = temporary / "nccl-bench-results"
    for directory in (killed, killed_before_its_lock, of_the_user):
        directory.mkdir()
    (killed / ".nccl-bench-lock").touch()
    (killed / "launch.log").touch()
    (of_the_user / "lock").touch()
    with scratch_directory() as in_use, scratch_directory() as path:
        assert set(temporary.iterdir()) == {in_use, path, of_the_user}
    assert list(temporary.iterdir()) == [of_the_user]


def run_before(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, act: Callable[[], object]) -> None:
    """Let the first call of the function ``name`` of ``target`` do ``act`` first."""
    function, acts = getattr(target, name), iter([act])

    def replacement(*arguments: Any, **keywords: Any) -> Any:
        for each in acts:
            each()
        return function(*arguments, **keywords)

    monkeypatch.setattr(target, name, replacement)


@pytest.mark.parametrize(("target", "name"), [(Path, "open"), (fcntl, "flock")])
def test_a_directory_that_another_command_removes_before_it_is_locked_is_replaced(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, target: Any, name: str
) -> None:
    # Another command looks just before the lock is made, or just before it is taken.
    run_before(monkeypatch, target, name, scratch._remove_abandoned)
    with scratch_directory() as path:
        assert list(temporary.iterdir()) == [path]
        scratch._remove_abandoned()
        assert path.is_dir()
    assert list(temporary.iterdir()) == []
