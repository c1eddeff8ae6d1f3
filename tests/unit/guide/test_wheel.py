"""A wheel has all that an installed command needs: the guide, its examples and the presets."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the content of a wheel that was built from this checkout."""
    built, folder = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(built)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_a_wheel_has_every_page_of_the_guide_and_every_preset(installed: Path) -> None:
    package = installed / "nccl_bench"
    for checked_out, in_wheel in ((ROOT / "nccl_bench" / "guide", "guide"), (ROOT / "configs", "presets")):
        names = {path.name for path in checked_out.iterdir() if path.is_file()}
        assert names == {path.name for path in (package / in_wheel).iterdir()}


def test_an_installed_command_finds_the_presets(installed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nccl_bench", "run", "--preset", "llama3-70b-tp", "--device", "cpu", "--dry-run"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "workload: 10 messages, 20898 calls in 129 steps, from llama3-70b-tp" in ended.stdout
