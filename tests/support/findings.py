"""Findings of a verification, as its ranks would write them."""

from __future__ import annotations

from collections.abc import Iterable

from nccl_bench.catalog.probes import DETECTOR, Place
from nccl_bench.config.verification import VerifyConfig
from nccl_bench.plan.verification import ArmProbe, group_by_launch
from nccl_bench.verify.findings import Finding

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
