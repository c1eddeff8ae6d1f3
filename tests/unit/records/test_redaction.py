"""Records of older versions: values that today's records do not hold are taken out while a record is read."""

from __future__ import annotations

import json
from typing import Any

from nccl_bench.records.redaction import redact

OLD: dict[str, Any] = {
    "command": ["nccl-bench", "run", "--env", "WANDB_API_KEY=hunter2", "--arm", "m=f.py:C,API_TOKEN=hunter3"],
    "config": {
        "variables": {"WANDB_API_KEY": "hunter2", "NCCL_PROTO": "LL"},
        "user_arms": [{"name": "m", "target": "f.py:C", "variables": {"API_TOKEN": "hunter3"}}],
    },
    "environment": {
        "variables": {"NCCL_SECRET_TOKEN": "hunter4", "NCCL_ALGO": "Ring"},
        "nccl_conf": {"/etc/nccl.conf": {"NCCL_PASSWORD": "hunter5", "NCCL_DEBUG ": "INFO"}},
    },
    "worker": {"process_sets": [{"reason": "API_TOKEN=hunter3 is set only in these processes"}]},
}


def test_an_older_record_is_read_without_its_secrets() -> None:
    clean = redact(OLD)
    assert "hunter" not in json.dumps(clean)
    assert clean["environment"]["variables"] == {"NCCL_SECRET_TOKEN": "set", "NCCL_ALGO": "Ring"}
    assert clean["environment"]["nccl_conf"]["/etc/nccl.conf"] == {"NCCL_PASSWORD": "set", "NCCL_DEBUG ": "INFO"}
    assert clean["worker"]["process_sets"][0]["reason"] == "API_TOKEN=set is set only in these processes"
    assert redact(clean) == clean


def test_values_of_unexpected_types_stay_as_they_are() -> None:
    odd = {
        "command": [1],
        "config": {"variables": [1], "user_arms": [{"variables": None}, {}]},
        "environment": {"variables": {"NCCL_ALGO": [1]}, "nccl_conf": {"a": 3}},
        "worker": None,
    }
    assert redact(odd) == odd
