"""``nccl-bench doctor``: exit 0 or 3, in each format, also with a torch that is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.doctor import torch_facts
from nccl_bench.doctor.torch_facts import TorchFacts
from tests.support.command_line import ROOT, CommandLine, assert_one_message


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The facts that the process which imports torch reports."""
    facts: dict[str, Any] = {"torch": "2.11.0", "cuda": None}
    monkeypatch.setattr(torch_facts, "begin_torch", lambda *_arguments: lambda: TorchFacts(**facts))
    return facts


def test_it_exits_with_3_only_if_something_stops_a_benchmark(
    torch: dict[str, Any], command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    torch["problem"] = "ImportError: planted"
    code, stdout, stderr = command_line.run("doctor")
    assert code == 3
    assert "Stops a benchmark\n  torch" in stdout
    assert_one_message(stderr, ("examining this machine",))


@pytest.mark.usefixtures("torch")
def test_every_format_has_the_same_diagnoses(command_line: CommandLine) -> None:
    document = json.loads(command_line.run("doctor", "--format", "json")[1])
    markdown = command_line.run("doctor", "--format", "markdown")[1]
    # A load can change from one call to the next.
    seen = [each["seen"] for each in document["diagnoses"] if each["subject"] in ("torch", "Slurm", "nccl4py")]
    assert len(seen) >= 3
    assert all(text in markdown for text in seen)


@pytest.mark.usefixtures("torch")
def test_no_line_but_a_command_is_wider_than_the_width(command_line: CommandLine) -> None:
    lines = command_line.run("doctor", "--width", "60")[1].splitlines()
    assert max(len(line) for line in lines if " $ " not in line) <= 60


def test_a_torch_that_ends_its_process_breaks_nothing(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("import os; os.abort()", encoding="utf-8")
    process = subprocess.run(
        [sys.executable, "-m", "nccl_bench", "doctor", "--format", "json"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 3
    assert "Traceback" not in process.stderr
    (stopping,) = [each for each in json.loads(process.stdout)["diagnoses"] if each["severity"] == "stops"]
    assert "signal 6" in stopping["seen"]
