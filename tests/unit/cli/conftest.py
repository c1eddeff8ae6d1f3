"""A directory with runs, a configuration and modules of user arms, and command lines to run in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nccl_bench.cli import launched_run
from nccl_bench.launch import hardware
from nccl_bench.records.store import RunStore
from tests.support.command_line import LAUNCHER_VARIABLES, CommandLine
from tests.support.synthetic_runs import meta, samples


@pytest.fixture(scope="module")
def recorded_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run."""
    directory = tmp_path_factory.mktemp("runs") / "made-up"
    store = RunStore.create(
        directory,
        name="made-up",
        command=[],
        config=meta(device="cpu")["config"],
        launch=meta()["launch"],
        left_out=[],
        environment={},
    )
    store.append(samples())
    return directory


@pytest.fixture
def directory(tmp_path: Path, recorded_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, on a machine without GPUs."""
    for name in LAUNCHER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hardware, "gpu_count", lambda _environ: 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text("rounds = 2\nper_iteration = true\nsame_buffer = true\n", encoding="utf-8")
    (tmp_path / "limits.toml").write_text("[[limits]]\nthreshold = '5%'\nsizes = ':1K'\n", encoding="utf-8")
    for name in ("a-run", "another-run"):
        shutil.copytree(recorded_run, tmp_path / name)
    for tree in (".", "x", "y", "old", "new"):
        (tmp_path / tree).mkdir(exist_ok=True)
        (tmp_path / tree / "m.py").touch()
    return tmp_path


@pytest.fixture
def command_line(directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Command lines that run in ``directory`` and start no ranks."""

    def refuse(*_arguments: object, **_keywords: object) -> None:
        raise AssertionError("ranks would have been started")

    monkeypatch.setattr(launched_run, "run_sweep", refuse)
    return CommandLine(monkeypatch, capsys)
