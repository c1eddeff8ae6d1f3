"""The arm probes of a verification, and the launches that they are grouped into."""

from __future__ import annotations

from typing import Any

import pytest

from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.probes import DETECTOR, PROBES
from nccl_bench.config.verification import VerifyConfig, resolve_verification
from nccl_bench.plan.verification import ArmProbe, group_by_launch, list_arm_probes
from tests.support.findings import CAUGHT

DETECTING = ["producer", "consumer"]


def resolved(device: str = "cpu", **options: Any) -> VerifyConfig:
    return resolve_verification(device, options)


@pytest.mark.parametrize("probes", ["state", "consumer,lifetime", "many", "all"])
def test_the_detector_gets_the_selected_probes_and_those_that_it_must_fail(probes: str) -> None:
    config = resolved(arms="torch,stream-free", probes=probes)
    chosen = [name for name in PROBES if name in config.probes]
    arm_probes = list_arm_probes(config)
    of_detector = [each.probe for each in arm_probes if each.arm == DETECTOR]
    assert of_detector == [name for name in PROBES if name in (*DETECTING, *chosen)]
    assert [(each.arm, each.probe) for each in arm_probes if each.arm != DETECTOR] == [
        (arm, probe) for arm in ("torch", "stream-free") for probe in chosen
    ]
    assert arm_probes[-1].arm == DETECTOR


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_launch_has_the_harmless_probes_or_one_dangerous_probe_and_the_detector_last(device: str) -> None:
    config = resolved(device)
    groups = group_by_launch(config)
    kinds = [{each.probe for each in group if PROBES[each.probe].alone} for group in groups]
    assert kinds == [set(), *({name} for name, probe in PROBES.items() if probe.alone and device == "cuda")]
    for kind, group in zip(kinds, groups, strict=True):
        assert not kind or {each.probe for each in group} == kind
        arms = [each.arm for each in group]
        assert arms == sorted(arms, key=list(ARMS).index)
        assert arms[-1] == DETECTOR
    arm_probes = [arm_probe for group in groups for arm_probe in group]
    assert len(set(arm_probes)) == len(arm_probes)
    missing = config.device_spec.missing_probes
    assert {each.probe for each in arm_probes} == set(PROBES) - set(missing)


def test_without_a_dangerous_probe_there_is_one_launch() -> None:
    assert [len(group) for group in group_by_launch(resolved("cuda", arms="torch", probes="producer"))] == [3]


def test_a_probe_that_does_not_apply_is_in_no_launch() -> None:
    config = resolved(arms="stream-free,torch", probes="async,capture")
    assert group_by_launch(config) == [(ArmProbe(arm="stream-free", probe="async"), *CAUGHT[:2])]
