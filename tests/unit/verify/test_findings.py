"""The file of findings, and the arms that are given up because of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nccl_bench.config.verification import resolve_verification
from nccl_bench.errors import RecordError
from nccl_bench.plan.verification import ArmProbe, group_by_launch, list_arm_probes
from nccl_bench.verify.findings import (
    MOST_BROKEN,
    Finding,
    Processes,
    append_finding,
    append_note,
    append_processes,
    find_given_up_arms,
    parse_findings,
    parse_notes,
    parse_processes,
    read_findings,
)
from tests.support.findings import CAUGHT, make_findings

CONFIG = resolve_verification("cpu", {"arms": "stream-free,torch", "probes": "producer,consumer,async,many"})


def test_findings_are_read_as_they_were_appended_without_a_partial_line(tmp_path: Path) -> None:
    path = tmp_path / "findings"
    path.touch()
    assert read_findings(path) == []
    findings = make_findings(CONFIG, *CAUGHT, broken=[ArmProbe(arm="torch", probe="many")])
    for finding in findings:
        append_finding(path, finding)
    assert read_findings(path) == findings
    path.write_text(path.read_text(encoding="utf-8")[:-2], encoding="utf-8")
    assert read_findings(path) == findings[:-1]
    append_finding(path, findings[-1])
    assert read_findings(path) == findings


def test_a_later_finding_of_the_same_arm_probe_replaces_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "findings"
    path.touch()
    passed, other = make_findings(CONFIG, *CAUGHT)[:2]
    broken = Finding.of_break(passed.arm_probe, "crashed after it")
    for finding in (passed, other, broken):
        append_finding(path, finding)
    assert read_findings(path) == [broken, other]


def test_notes_stand_between_the_findings(tmp_path: Path) -> None:
    path = tmp_path / "findings"
    path.touch()
    (finding, *_) = make_findings(CONFIG)
    append_note(path, "After its last probe rank 0 hung")
    append_finding(path, finding)
    assert read_findings(path) == [finding]
    assert parse_notes(path.read_text(encoding="utf-8"), path) == ["After its last probe rank 0 hung"]


@pytest.mark.parametrize("line", ["{", "[]", '{"arm": "torch"}', '{"note": 3}', '{"arm": "a", "probe": 1}'])
def test_a_line_that_is_damaged_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "findings"
    lines = f'{{"note": ""}}\n{line}\n'
    with pytest.raises(RecordError, match=f"^{path}, line 2"):
        _ = [parse_findings(lines, path), parse_notes(lines, path)]


def test_a_finding_is_not_written_into_a_file_that_was_removed(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="was removed or renamed"):
        append_finding(tmp_path / "findings", make_findings(CONFIG)[0])


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


def test_processes_that_are_alike_are_read_together_with_all_their_arms(tmp_path: Path) -> None:
    path = tmp_path / "findings"
    path.touch()
    older = Processes(arms=("torch",), python=None, library=None, variables={}, versions={"torch": "2.5.1"})
    newer = replace(older, arms=("mine",), python="/venv/bin/python", versions={"torch": "2.11.0"})
    for processes in (older, newer, replace(older, arms=("stream-free", "torch"))):
        append_processes(path, processes)
    append_finding(path, make_findings(CONFIG)[0])
    assert len(read_findings(path)) == 1
    assert parse_processes(path.read_text(encoding="utf-8"), path) == [
        replace(older, arms=("torch", "stream-free")),
        newer,
    ]
