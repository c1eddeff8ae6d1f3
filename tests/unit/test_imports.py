"""The modules that load torch, pandas and numpy: help loads none of them, and only a worker loads torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from nccl_bench.records.environment import collect
from nccl_bench.records.store import RunStatus, RunStore
from tests.support.synthetic_runs import meta, samples

ROOT = Path(__file__).parents[2]
TORCH_FREE = (
    "analysis",
    "audit.findings",
    "audit.order",
    "audit.program",
    "audit.spec",
    "catalog",
    "cli",
    "config",
    "safety",
    "doctor",
    "errors",
    "launch",
    "plan",
    "pytest_plugin",
    "ranks.failure",
    "ranks.progress",
    "ranks.spec",
    "records",
    "report",
    "traces",
    "user_arms.loading",
    "verify.findings",
    "verify.judgement",
    "verify.record",
    "verify.spec",
)
# These modules run only in the process of the agent, which has torch.
OF_THE_AGENT = tuple(f"nccl_bench.launch.{name}" for name in ("elastic", "nodes", "rendezvous", "store"))
COMMAND_NAMES = ("run", "report", "compare", "import", "list", "verify", "trace", "doctor", "guide")
WITH_TORCH = ("arms", "audit", "bench", "communicators", "ranks", "streams", "transports", "user_arms", "verify")

# Runs `action` with `forbidden` modules absent, then writes the names of all loaded modules. It needs its own process,
# where this test has loaded nothing.
PROBE = """
import json, sys
forbidden, loaded_at, action = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(forbidden))
exec(action)
with open(loaded_at, "w") as file:
    json.dump([name for name, module in sys.modules.items() if module is not None], file)
"""
# All command lines run in one process.
COMMANDS = """
import sys
from nccl_bench.__main__ import main
for arguments in {lines!r}:
    sys.argv = ["nccl-bench", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (arguments, end.code)
    else:
        raise AssertionError(arguments)
"""
IMPORT_ALL = """
import importlib, pkgutil
for top in {modules!r}:
    module = importlib.import_module('nccl_bench.' + top)
    for found in pkgutil.walk_packages(getattr(module, '__path__', []), module.__name__ + '.'):
        if found.name not in {agent!r}:
            importlib.import_module(found.name)
"""


def loaded(tmp_path: Path, action: str, forbidden: Sequence[str] = ()) -> tuple[set[str], str]:
    """Return the modules that a fresh interpreter has loaded after ``action``, and its output."""
    at = tmp_path / "loaded.json"
    process = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps([list(forbidden), str(at), action])],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return set(json.loads(at.read_text(encoding="utf-8"))), process.stdout


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    lines = [["--help"], *([command, "--help"] for command in COMMAND_NAMES)]
    modules, output = loaded(tmp_path, COMMANDS.format(lines=lines))
    assert output.count("Usage: ") == len(lines)
    assert not modules & {"torch", "pandas", "numpy", "pynvml"}


@pytest.mark.parametrize("words", ["run --arms str", "guide ver", "list arm", "run --fo"])
def test_completion_loads_nothing_heavy(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = f"nccl-bench {words}"
    monkeypatch.setenv("_NCCL_BENCH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    modules, output = loaded(tmp_path, COMMANDS.format(lines=[[]]))
    assert words.split()[-1] in output
    assert not modules & {"torch", "pandas", "numpy", "scipy", "pynvml"}


def test_a_dry_run_needs_neither_torch_nor_pandas_nor_numpy(tmp_path: Path) -> None:
    command = COMMANDS.format(lines=[["run", "--device", "cpu", "--dry-run"]])
    _, output = loaded(tmp_path, command, forbidden=("torch", "pandas", "numpy"))
    assert "on 2 ranks (cpu)" in output


def test_list_needs_neither_torch_nor_pandas_nor_numpy(tmp_path: Path) -> None:
    command = COMMANDS.format(lines=[["list"], ["list", "--format", "json"]])
    _, output = loaded(tmp_path, command, forbidden=("torch", "pandas", "numpy"))
    tables, _, document = output.partition("\n{")
    assert "stream-free" in tables
    assert "stream-free" in document


def test_a_report_of_a_run_without_a_twin_loads_neither_torch_nor_scipy(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    store = RunStore.create(
        run_dir,
        name="made-up",
        command=["nccl-bench"],
        config=meta(device="cpu")["config"],
        launch=meta()["launch"],
        left_out=[],
        environment=collect(),
    )
    store.append(samples("stream-free"))
    store.append(samples("dedicated-stream"))
    store.finish(RunStatus.COMPLETE)
    lines = [["report", str(run_dir), "--format", form] for form in ("terminal", "json", "csv")]
    _, output = loaded(tmp_path, COMMANDS.format(lines=lines), ("torch", "scipy"))
    tables, _, rest = output.partition("\n{")
    document, _, csv = rest.rpartition("}\n")
    assert all("stream-free" in text for text in (tables, document, csv))


def test_torch_free_rooms_import_without_torch(tmp_path: Path) -> None:
    modules, _ = loaded(tmp_path, IMPORT_ALL.format(modules=TORCH_FREE, agent=OF_THE_AGENT), forbidden=("torch",))
    assert {f"nccl_bench.{name}" for name in TORCH_FREE} <= modules
    assert "nccl_bench.launch.config" in modules
    assert "nccl_bench.cli.recorded_run" in modules


def test_ranks_need_only_torch_and_numpy(tmp_path: Path) -> None:
    # The interpreter of an engine can lack all other packages.
    not_needed = ("msgspec", "pandas", "psutil", "pynvml", "rich", "scipy", "typer")
    ours = "bench.worker", "verify.worker", "transports.nccl4py", "communicators.nccl4py"
    modules, _ = loaded(tmp_path, f"import {', '.join(f'nccl_bench.{name}' for name in ours)}", forbidden=not_needed)
    assert {"torch", "nccl_bench.bench.runner"} <= modules
    # nccl4py is imported only where it is used.
    assert "nccl" not in modules


def test_every_room_is_listed_as_torch_free_or_not() -> None:
    package = ROOT / "nccl_bench"
    tops = {path.stem for path in (*package.glob("*.py"), *(init.parent for init in package.glob("*/__init__.py")))}
    assert tops - {"__init__", "__main__"} == {name for name in TORCH_FREE if "." not in name} | {*WITH_TORCH}


def test_the_probe_lists_loaded_modules_and_hides_forbidden_modules(tmp_path: Path) -> None:
    modules, _ = loaded(tmp_path, "import fractions")
    assert "fractions" in modules
    with pytest.raises(AssertionError, match="import of fractions halted"):
        loaded(tmp_path, "import fractions", forbidden=("fractions",))
