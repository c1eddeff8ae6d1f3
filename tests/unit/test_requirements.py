"""nccl-bench can be installed beside the engines that it measures: its requirements admit what they pin."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from nccl_bench.doctor.packages import OLDEST_TORCH

ROOT = Path(__file__).parents[2]
# What each engine's wheel pins, or the newest version that it allows.
PINS = {
    "vllm 0.7.0": {"torch": "2.5.1", "numpy": "1.26.4", "nvidia-ml-py": "12.560.30"},
    "sglang 0.5.9 and 0.5.10": {"torch": "2.9.1"},
    "sglang 0.5.23": {"torch": "2.14.1"},
}


@pytest.mark.parametrize("engine", PINS)
def test_an_engine_keeps_its_versions_beside_nccl_bench(engine: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = {each.name: each.specifier for each in map(Requirement, project["dependencies"])}
    refused = {name: version for name, version in PINS[engine].items() if version not in requirements[name]}
    assert refused == {}


def test_doctor_refuses_a_torch_that_the_requirements_refuse() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"torch>={'.'.join(map(str, OLDEST_TORCH))}" in project["dependencies"]
