"""The file of findings, and the arms that are given up because of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nccl_bench.config.verification import resolve_verification
from nccl_bench.plan.verification import ArmProbe, group_by_launch, list_arm_probes
from nccl_bench.verify.findings import MOST_BROKEN, append_finding, find_given_up_arms, read_findings
from tests.support.findings import CAUGHT, make_findings

CONFIG = resolve_verification("cpu", {"arms": "stream-free,torch", "probes": "producer,consumer,async,many"})


def test_findings_are_read_as_they_were_appended_without_a_partial_line(tmp_path: Path) -> None:
    path = tmp_path / "findings"
    assert read_findings(path) == []
    findings = make_findings(CONFIG, *CAUGHT, broken=[ArmProbe(arm="torch", probe="many")])
    for finding in findings:
        append_finding(path, finding)
    assert read_findings(path) == findings
    path.write_text(path.read_text(encoding="utf-8")[:-2], encoding="utf-8")
    assert read_findings(path) == findings[:-1]
    append_finding(path, findings[0])
    assert read_findings(path) == [*findings[:-1], findings[0]]


def test_a_finding_names_its_arm_probe() -> None:
    arm_probes = [arm_probe for group in group_by_launch(CONFIG) for arm_probe in group]
    assert [finding.arm_probe for finding in make_findings(CONFIG)] == arm_probes


def test_an_arm_that_broke_in_several_probes_is_given_up() -> None:
    broken = [each for each in list_arm_probes(CONFIG) if each.arm == "stream-free"][:MOST_BROKEN]
    findings = make_findings(CONFIG, *CAUGHT, broken=broken)
    (given_up,) = find_given_up_arms(findings).values()
    assert find_given_up_arms(finding for finding in findings if finding.arm_probe != broken[0]) == {}
    assert (given_up.arm, given_up.trials, given_up.failed, given_up.broken) == ("stream-free", 1, 1, True)
    assert given_up.detail is not None
    assert given_up.detail.startswith("not tried: ")


def test_an_arm_that_cannot_be_made_is_given_up() -> None:
    findings = make_findings(CONFIG, *CAUGHT)
    unmade = replace(
        next(finding for finding in findings if finding.arm == "torch"), failed=1, broken=True, unmade=True
    )
    assert find_given_up_arms([*findings, unmade]) == {"torch": unmade}
