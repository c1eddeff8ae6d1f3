"""The command imports nothing from the current directory but a user arm, however it was started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.planted_modules import INSTALLED_NAMES, imported_modules, plant_modules, standard_names

ROOT = Path(__file__).parents[2]
DRY_RUN = ("run", "--device", "cpu", "--dry-run", "--arm", "mine=mine:Comm", "--arms", "stream-free")
ARGUMENTS = ("-m", "nccl_bench", *DRY_RUN)
SCRIPT = ("-c", "from nccl_bench.__main__ import main; main()", *DRY_RUN)


def run_in(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=directory, env=kept | variables, capture_output=True, text=True)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    plant_modules(tmp_path, INSTALLED_NAMES | standard_names())
    (tmp_path / "mine.py").write_text("class Comm:\n    pass\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("arguments", [ARGUMENTS, SCRIPT, ("-P", *ARGUMENTS)], ids=["-m", "-c", "-P -m"])
def test_the_command_imports_only_the_user_arm_from_the_current_directory(
    arguments: tuple[str, ...], directory: Path
) -> None:
    ended = run_in(directory, *arguments, PYTHONPATH=str(ROOT))
    assert ended.returncode == 0, ended.stderr
    assert imported_modules(directory) == []


def test_a_checkout_as_the_current_directory_runs_and_hides_nothing(directory: Path) -> None:
    (directory / "nccl_bench").symlink_to(ROOT / "nccl_bench")
    ended = run_in(directory, *ARGUMENTS)
    assert ended.returncode == 0, ended.stderr
    assert imported_modules(directory) == []


@pytest.mark.parametrize("safe", [{}, {"PYTHONSAFEPATH": "1"}], ids=["usual", "safe"])
def test_a_current_directory_that_pythonpath_names_stays(safe: dict[str, str], tmp_path: Path) -> None:
    plant_modules(tmp_path, ["typer"])
    ended = run_in(tmp_path, *ARGUMENTS, PYTHONPATH=os.pathsep.join((str(tmp_path), str(ROOT))), **safe)
    assert ended.returncode != 0
    assert imported_modules(tmp_path) == ["typer"]
