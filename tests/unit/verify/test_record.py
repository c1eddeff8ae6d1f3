"""The record of a verification, as it is read from its directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.config.user_arms import UserArm
from nccl_bench.config.verification import resolve_verification
from nccl_bench.errors import RecordError
from nccl_bench.verify.findings import append_note
from nccl_bench.verify.judgement import judge
from nccl_bench.verify.record import VerificationRecord
from tests.support.findings import CAUGHT, make_findings, write_verification

CONFIG = resolve_verification(
    "cpu",
    {"arms": "torch", "probes": "producer,many", "user_arms": [UserArm(name="mine", target="m:C")], "timeout_s": 9},
)


@pytest.mark.parametrize("ran", [0, 3, None])
def test_a_record_is_read_with_everything_that_was_found(ran: int | None, tmp_path: Path) -> None:
    findings = make_findings(CONFIG, *CAUGHT)[:ran]
    write_verification(tmp_path, CONFIG, findings)
    append_note(tmp_path / "findings.jsonl", "late")
    record = VerificationRecord.load(tmp_path)
    assert (record.config, record.world_size, record.gpus, record.facts["status"]) == (CONFIG, 2, None, "running")
    assert replace(record.verification, history=(), resume_command="", facts={}) == judge(CONFIG, 2, findings, ["late"])


def test_a_partial_last_line_of_a_killed_writer_is_dropped(tmp_path: Path) -> None:
    findings = make_findings(CONFIG, *CAUGHT)
    write_verification(tmp_path, CONFIG, findings)
    file = tmp_path / "findings.jsonl"
    file.write_text(file.read_text(encoding="utf-8")[:-5], encoding="utf-8")
    read = VerificationRecord.load(tmp_path).verification
    assert replace(read, history=(), resume_command="", facts={}) == judge(CONFIG, 2, findings[:-1])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"tool": "other"}, "it was not written by nccl-bench"),
        ({"status": None}, "version 0.1.0 wrote it, without findings.jsonl: read the file itself"),
        ({"command": 3}, "command is 3: it has to be a list"),
        ({"world_size": "2"}, 'world_size is "2": it has to be a whole number'),
        ({"config": {"device": "tpu"}}, "device is 'tpu': did you mean 'cpu'? Allowed are cuda, cpu"),
        ({"config": {"device": "cpu", "arms": ["nosuch"]}}, "nosuch"),
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_refused_by_name(
    changes: Mapping[str, Any], text: str, tmp_path: Path
) -> None:
    write_verification(tmp_path, CONFIG, [])
    file = tmp_path / "verification.json"
    meta = {**json.loads(file.read_text(encoding="utf-8")), "version": "0.1.0", **changes}
    file.write_text(json.dumps({key: value for key, value in meta.items() if value is not None}), encoding="utf-8")
    with pytest.raises(RecordError, match=f"^{file}: ") as caught:
        VerificationRecord.load(tmp_path)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"is not a verification: it does not exist"):
        VerificationRecord.load(tmp_path / "missing")
    with pytest.raises(RecordError, match=r"is not a verification: it has no verification\.json"):
        VerificationRecord.load(tmp_path)
    write_verification(tmp_path, CONFIG, [])
    (tmp_path / "findings.jsonl").unlink()
    with pytest.raises(RecordError, match=r"findings\.jsonl cannot be read: No such file"):
        VerificationRecord.load(tmp_path)
