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
def test_arms_share_a_launch_with_the_detector_last_and_a_probe_that_ends_processes_is_the_last_of_its_arm(
    device: str,
) -> None:
    config = resolved(device)
    (group,) = group_by_launch(config)
    arms = [each.arm for each in group]
    assert arms == sorted(arms, key=list(ARMS).index)
    assert arms[-1] == DETECTOR
    for arm in arms:
        ends = [PROBES[each.probe].ends_processes for each in group if each.arm == arm]
        assert ends == sorted(ends)
        assert ends[-1] == (device == "cuda")
    assert len(set(group)) == len(group)
    assert {each.probe for each in group} == set(PROBES) - set(config.device_spec.missing_probes)


def test_a_probe_that_does_not_apply_is_in_no_launch() -> None:
    config = resolved(arms="stream-free,torch", probes="async,capture")
    assert group_by_launch(config) == [(ArmProbe(arm="stream-free", probe="async"), *CAUGHT[:2])]
