"""A directory with runs, a configuration and modules of user arms, and command lines to run in it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nccl_bench.cli import attached_run, launched_run, main, recorded_verification
from nccl_bench.config.verification import resolve_verification
from nccl_bench.config.workload import workload_text
from nccl_bench.errors import ExitCode
from nccl_bench.launch import hardware, job
from nccl_bench.records.schema import Line
from nccl_bench.records.store import RunStatus, RunStore
from tests.support.command_line import LAUNCHER_VARIABLES, TORCHRUN, CommandLine
from tests.support.compare_command import BASE, NEW, CompareCommand, lines, summary_csv, times, write
from tests.support.findings import make_findings, write_verification
from tests.support.resumed_runs import CASES, SIZES, Sweeps, measured
from tests.support.synthetic_runs import case, crash, hang, meta, run, samples, wrong
from tests.support.verify_command import SRUN, Ended, FakeVerification, VerifyCommand
from tests.support.workloads import WORKLOAD


@pytest.fixture(autouse=True)
def no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start no agent, which would import torch in vain: these tests start no ranks."""
    monkeypatch.setattr(job.Agent, "prepare", lambda _self, _launch: None)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of ``directory``, which each test gets a copy of."""
    path = tmp_path_factory.mktemp("files")
    store = RunStore.create(
        path / "a-run",
        name="made-up",
        command=[],
        config=meta(device="cpu")["config"],
        launch=meta()["launch"],
        left_out=[],
        environment={},
    )
    store.append(samples())
    shutil.copytree(path / "a-run", path / "another-run")
    (path / "mine.toml").write_text("rounds = 2\nper_iteration = true\nsame_buffer = true\n", encoding="utf-8")
    (path / "a-verification").mkdir()
    config = resolve_verification("cpu", {"arms": "torch"})
    write_verification(path / "a-verification", config, make_findings(config)[:3])
    (path / "model.toml").write_text("model = 3\n", encoding="utf-8")
    (path / "workload.toml").write_text(workload_text(WORKLOAD), encoding="utf-8")
    (path / "limits.toml").write_text("[[limits]]\nthreshold = '5%'\nsizes = ':1K'\n", encoding="utf-8")
    for tree in (".", "x", "y", "old", "new"):
        (path / tree).mkdir(exist_ok=True)
        (path / tree / "m.py").touch()
    return path


@pytest.fixture
def directory(tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, on a machine without GPUs."""
    for name in LAUNCHER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hardware, "gpu_count", lambda _environ: 0)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def command_line(directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Command lines that run in ``directory`` and start no ranks."""

    def refuse(*_arguments: object, **_keywords: object) -> None:
        raise AssertionError("ranks would have been started")

    monkeypatch.setattr(launched_run, "run_sweep", refuse)
    return CommandLine(monkeypatch, capsys)


@pytest.fixture(scope="session")
def compared_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs and summaries for ``compare``, which each test gets a copy of."""
    path = tmp_path_factory.mktemp("compared")
    write(path / "before", lines())
    write(path / "same", lines(seed=2, drift=1.2))
    write(path / "slower", lines(new_us=8.8, seed=3))
    write(path / "faster", lines(new_us=7.2, seed=4))
    write(path / "noisy", [times(BASE, 10.0, 15), times(NEW, 8.0, 15, noise=0.2)])
    write(path / "few", [times(BASE, 10.0, 6, rounds=3), times(NEW, 8.0, 6, rounds=3)])
    write(path / "alone", [times(NEW, 8.0, 7)])
    write(path / "lonely", [times(NEW, 8.0, 17)])
    write(path / "hung", [*lines(seed=9), hang(arm=NEW, case=case(64))])
    write(path / "crashed", [*lines(seed=10), crash(arm=NEW, case=case(64))])
    write(path / "wrong", [*lines(seed=8), wrong(arm=NEW, case=case(64))])
    for name, of in (("before", lines()), ("after", lines(seed=11, drift=2.0)), ("hung", [*lines(seed=9), hang()])):
        (path / f"{name}.csv").write_text(summary_csv(run(of, arms=[BASE, NEW])))
    return path


@pytest.fixture
def compare(
    tmp_path: Path, compared_files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CompareCommand:
    """Return a function that runs ``nccl-bench compare`` in a directory with runs and summaries."""
    shutil.copytree(compared_files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run_command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nccl-bench", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        return int(end.value.code or 0), printed.out, printed.err

    return run_command


@pytest.fixture
def fake_verification(monkeypatch: pytest.MonkeyPatch) -> FakeVerification:
    """Return a double that ``nccl-bench verify`` calls in place of ``run_verification``."""
    fake = FakeVerification()
    monkeypatch.setattr(recorded_verification, "run_verification", fake)
    return fake


@pytest.fixture
def verify(
    fake_verification: FakeVerification, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> VerifyCommand:
    """Return a function that runs ``nccl-bench verify`` with some arguments."""
    for name in SRUN:
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments, env={}: Ended(*command_line.run("verify", *arguments, env=env))


@pytest.fixture
def attached(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run a command line as rank 0 of a launch in which the rank measures some lines and then raises."""

    def run(error: BaseException, lines: Sequence[Line], case_index: int = 0) -> tuple[int, str, str]:
        def measure(spec: Any, progress: Any) -> None:
            for line in lines:
                RunStore(path=Path(spec.run_dir)).append(line)
            progress.update(case_index=case_index, arm="torch", phase="eager", deadline_s=None)
            progress.finish()
            raise error

        monkeypatch.setitem(sys.modules, "nccl_bench.bench.worker", SimpleNamespace(measure=measure))
        return command_line.run("run", "--sizes", "1K,2K", "--out", "there")

    def leave(code: int) -> None:
        raise SystemExit(code)

    for name in TORCHRUN:
        # Variables that the rank sets are removed after the test, too.
        monkeypatch.setenv(name, TORCHRUN[name])
    monkeypatch.setattr(attached_run, "_leave", leave)
    return run


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    return Sweeps(monkeypatch)


@pytest.fixture
def killed(command_line: CommandLine, sweeps: Sweeps, directory: Path) -> Path:
    """The directory of a run whose command was killed in its second case, while it wrote a line."""
    sweeps.lines = [*measured(0), samples(case=CASES[1], samples_us=(1.0, 1.0, 1.0))]
    sweeps.interrupted = True
    assert command_line.run("run", "--sizes", SIZES, "--out", "there")[0] == ExitCode.INTERRUPTED
    sweeps.interrupted = False
    store = RunStore(path=directory / "there")
    store.update(status=RunStatus.RUNNING, finished=None, started="2026-01-01T00:00:00+00:00")
    with (store.path / "samples.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"kind": "sam')
    return store.path
