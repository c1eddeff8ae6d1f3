"""Records of older versions: values that today's records do not hold are taken out while a record is read."""

from __future__ import annotations

import json
from typing import Any

from nccl_bench.records.redaction import redact, redact_line
from nccl_bench.records.schema import Skipped, dump
from tests.support.synthetic_runs import case, crash, hang

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


def test_a_token_in_any_text_of_a_record_is_masked_while_it_is_read() -> None:
    token = "ghp_0123456789abcdefghijABCDEFGHIJ"
    planted = OLD | {"left_out": [f"a {token}"], "name": token, "environment": {"topology": token, "hostname": token}}
    assert token not in json.dumps(redact(planted))
    lines = [
        crash(case=None, message=f"401 for {token}"),
        hang(call=f"f({token})", ras={"ranks": [token]}),
        Skipped(case=case(), reason=token),
    ]
    assert token not in "".join(dump(redact_line(line)) for line in lines)


def test_values_of_unexpected_types_stay_as_they_are() -> None:
    odd = {
        "command": [1],
        "config": {"variables": [1], "user_arms": [{"variables": None}, {}]},
        "environment": {"variables": {"NCCL_ALGO": [1]}, "nccl_conf": {"a": 3}},
        "worker": None,
    }
    assert redact(odd) == odd
