"""Presets: each of them makes a plan on every device."""

from __future__ import annotations

from pathlib import Path

import pytest

from nccl_bench.catalog.devices import DEVICES
from nccl_bench.cli.model_option import with_workload
from nccl_bench.config.run import read_run_config, resolve
from nccl_bench.plan.cases import make_plan

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.toml"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_preset_plans_on_every_device(path: Path, device: str) -> None:
    values = read_run_config(path)
    assert values["name"] == path.stem
    # A model on one rank sends nothing.
    for world_size in (2, 8) if "model" in values else (1, 2, 8):
        config = resolve(device, *with_workload([values], None, device, world_size))
        assert make_plan(config, world_size).cases


def test_there_are_presets() -> None:
    assert CONFIGS
