"""The process that imports torch: a broken, slow or missing one is a problem in words, and never an error here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nccl_bench.doctor.torch_facts import TorchFacts, begin_torch
from nccl_bench.launch.config import module_command

FACTS = TorchFacts(torch="2.11.0", multicast=(True, False), loaded=("/a", "/b"))


def facts_of(program: str, wait_s: float = 60) -> TorchFacts:
    return begin_torch([sys.executable, "-c", program], os.environ, wait_s)()


def test_the_last_line_has_the_facts_whatever_an_import_prints() -> None:
    assert facts_of(f"print('a banner'); print({FACTS.to_json()!r})") == FACTS


@pytest.mark.parametrize(
    ("program", "texts"),
    [
        ("raise RuntimeError('planted')", ("exit code 1", "RuntimeError: planted")),
        ("import os; os.kill(os.getpid(), 11)", ("signal 11",)),
        ("print('{}')", ("exit code 0",)),
        ("print('no JSON')", ("exit code 0",)),
    ],
)
def test_a_process_that_fails_is_a_problem(program: str, texts: tuple[str, ...]) -> None:
    problem = facts_of(program).problem
    assert all(text in problem for text in texts), problem


def test_an_import_that_does_not_end_is_killed() -> None:
    assert facts_of("import time; time.sleep(100)", wait_s=0.5).problem == "its import did not end within 0.5 s"


def test_an_interpreter_that_is_not_there_is_a_problem() -> None:
    assert "No such file" in begin_torch(["/nowhere/python"], {})().problem


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("raise ImportError('libcudart.so.13: cannot open')", "ImportError: libcudart.so.13: cannot open"),
        ("import os; os.abort()", "its import ended the process with signal 6"),
    ],
)
def test_a_broken_torch_is_seen(body: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(body, encoding="utf-8")
    environ = os.environ | {"PYTHONPATH": str(tmp_path)}
    seen = begin_torch(module_command("nccl_bench.doctor.torch_process"), environ)()
    assert seen.problem.startswith(problem)
