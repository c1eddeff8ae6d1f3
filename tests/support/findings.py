"""Findings of a verification, as its ranks would write them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from nccl_bench.catalog.probes import DETECTOR, Place
from nccl_bench.cli.recorded_verification import new_record
from nccl_bench.config.verification import VerifyConfig
from nccl_bench.plan.verification import ArmProbe, group_by_launch
from nccl_bench.report.verification import json_verification
from nccl_bench.verify.findings import Finding, append_finding
from nccl_bench.verify.record import VerificationRecord

# What a detector must fail, in every verification.
CAUGHT = (ArmProbe(arm=DETECTOR, probe="producer"), ArmProbe(arm=DETECTOR, probe="consumer"))


def make_findings(config: VerifyConfig, *failed: ArmProbe, broken: Iterable[ArmProbe] = ()) -> list[Finding]:
    """Return one finding for every applicable arm probe: a race for ``failed``, a break for ``broken``."""
    return [
        Finding(
            arm=arm_probe.arm,
            probe=arm_probe.probe,
            trials=4,
            failed=int(arm_probe in failed or arm_probe in broken),
            raced=int(arm_probe in failed),
            quiet=() if arm_probe in failed else tuple(Place),
            detail="planted" if arm_probe in failed or arm_probe in broken else None,
            broken=arm_probe in broken,
        )
        for group in group_by_launch(config)
        for arm_probe in group
    ]


def write_verification(
    directory: Path, config: VerifyConfig, findings: Iterable[Finding], **facts: object
) -> VerificationRecord:
    """Write the record of a verification of two ranks that was killed after ``findings``, and return its start."""
    record = new_record(config, 2, None)
    record = replace(record, facts={**record.facts, **facts})
    text = json_verification(record.facts, record.verification)
    (directory / "verification.json").write_text(text, encoding="utf-8")
    (directory / "findings.jsonl").touch()
    for finding in findings:
        append_finding(directory / "findings.jsonl", finding)
    return record
