from __future__ import annotations

import json
from pathlib import Path

from nccl_bench.records.run import Run
from nccl_bench.records.upgrade import upgrade

RUN_OF_0_1_0 = Path(__file__).parents[3] / "results" / "h200-x1-engine"


def test_a_run_of_schema_2_is_read_with_todays_names() -> None:
    written = json.loads((RUN_OF_0_1_0 / "run.json").read_text(encoding="utf-8"))
    assert (written["schema"], len(written["config"]["plugins"])) == (2, 2)
    meta = Run.load(RUN_OF_0_1_0).meta
    assert meta["config"]["user_arms"] == written["config"]["plugins"]
    assert meta["worker"]["user_arms"] == written["worker"]["plugins"]
    assert meta["worker"]["process_sets"] == written["worker"]["worlds"]
    assert not {"plugins", "worlds"} & {*meta["config"], *meta["worker"]}


def test_a_run_of_schema_3_stays_as_it_is() -> None:
    meta = {"schema": 3, "config": {"plugins": "kept"}, "worker": None}
    assert upgrade(meta) == meta
