"""The arms of the experiments on a real rank, so that the commands that repeat figures keep working."""

from __future__ import annotations

from pathlib import Path
from typing import cast
from unittest import mock

from nccl_bench.catalog.arms import ARMS
from tests.experiments.measured import measure
from tests.experiments.slowed_arms import AGAIN, ORIGINAL, SLOWED


def test_copies_and_slowed_copies_of_an_arm_are_measured(tmp_path: Path) -> None:
    options = {"arms": ",".join((ORIGINAL, AGAIN, *SLOWED)), "baseline": ORIGINAL, "sizes": "8", "timings": "gated"}
    with mock.patch.dict(cast(dict[str, object], ARMS)):
        comparisons = measure(tmp_path / "run", "cpu", 1, {**options, "rounds": 3, "max_rounds": 3, "launches": 2})
    assert {each.candidate for each in comparisons} >= {AGAIN, *SLOWED}
    assert {each.launches for each in comparisons} == {2}
