"""``pytest --nccl-audit``, in a pytest of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import ROOT

pytestmark = pytest.mark.timeout(60)

_TESTS = """
import pytest
import torch
from nccl_bench.streams import cpu

def race():
    side, x = cpu.Stream(), torch.ones(8)
    with cpu.stream(side):
        side.submit(torch.Tensor.mul_, x, 3)  # queued
    x.add_(1)  # reader

def test_right():
    torch.ones(8).add_(1)

def test_racy():
    race()

def test_that_fails_anyway():
    race()
    assert 1 == 2

@pytest.mark.xfail(raises=ValueError)
def test_expected_error():
    raise ValueError
"""


def _pytest(directory: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_engine.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "nccl_bench.pytest_plugin", "-p", "no:cacheprovider", *arguments],
        cwd=directory,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_race_fails_the_test_that_made_it_with_its_lines_and_remedy(tmp_path: Path) -> None:
    ended = _pytest(tmp_path, _TESTS, "--nccl-audit")
    assert "2 failed, 1 passed, 1 xfailed" in ended.stdout, ended.stdout
    assert "1 race that nothing orders" in ended.stdout
    racy, anyway = ended.stdout.split("test_that_fails_anyway", 1)
    for text in (racy, anyway):
        assert "test_engine.py:10 in race" in text
        assert "`current_stream().wait_stream(stream)` before test_engine.py:10" in text
        assert "called from test_engine.py" in text
        assert "_pytest" not in text
    assert "assert 1 == 2" in anyway
    assert "Races in 2 tests. Watched:" in ended.stdout


def test_an_accepted_race_fails_no_test_and_is_reported(tmp_path: Path) -> None:
    (tmp_path / "known.txt").write_text("test_engine.py:10: never read\nold.py: gone\n")
    ended = _pytest(tmp_path, _TESTS, "--nccl-audit", "--nccl-audit-suppress", "known.txt", "-k", "racy")
    assert ended.returncode == 0, ended.stdout
    assert "suppression in line 1, test_engine.py:10: used" in ended.stdout
    assert "suppression in line 2, old.py: not used by these tests" in ended.stdout
    assert "NOT AUDITED: no collective was seen" in ended.stdout
    (tmp_path / "known.txt").write_text("test_engine.py:10\n")
    ended = _pytest(tmp_path, _TESTS, "--nccl-audit", "--nccl-audit-suppress", "known.txt")
    assert "known.txt:1 is 'test_engine.py:10', which has no reason" in ended.stderr


def test_without_the_option_the_plugin_imports_nothing(tmp_path: Path) -> None:
    names = ("torch", "typer", "rich.text", "msgspec", "nccl_bench.audit")
    test = f"def test_modules():\n    import sys\n    assert not [name for name in {names} if name in sys.modules]\n"
    ended = _pytest(tmp_path, test)
    assert "1 passed" in ended.stdout, ended.stdout
    assert "nccl-audit" not in ended.stdout
