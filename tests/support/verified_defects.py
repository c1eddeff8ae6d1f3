"""Arms with the defects of ``defective_communicators``, and their verification.

``verify_defects`` runs some of these arms; its ranks run ``verify_worker``, which knows the arms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast
from unittest.mock import patch

from nccl_bench.catalog.arms import ARMS, ArmSpec, Order
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.probes import DETECTOR
from nccl_bench.communicators.registry import BUILDERS
from nccl_bench.config.verification import VerifyConfig
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.launch.job import running_agent
from nccl_bench.launch.verification import run_verification
from nccl_bench.plan import verification as plan
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.ranks.progress import Position
from nccl_bench.verify import judgement
from nccl_bench.verify.findings import Finding, read_findings
from nccl_bench.verify.judgement import Verification
from tests.support.defective_communicators import DEFECTS

WORKER = "tests.support.verify_worker"


def arms() -> Mapping[str, ArmSpec]:
    """Return the arms with a defect by name."""
    return {
        name: ArmSpec(
            name=name,
            communicator=name,
            order=Order.CURRENT,
            launch_entries=1,
            summary="has a defect",
        )
        for name in DEFECTS
    }


def add_defective_arms() -> None:
    """Add the arms with a defect to this worker process."""
    cast(dict[str, ArmSpec], ARMS).update(arms())
    cast(dict[str, Any], BUILDERS).update(DEFECTS)


def verify_defects(
    device: str,
    cells: Sequence[ArmProbe],
    *,
    timeout_s: float,
    on_progress: Callable[[list[Position]], None] = lambda positions: None,
) -> Verification:
    """Run the probes of ``cells`` on two ranks that know the arms with a defect, and return the verification."""
    config = VerifyConfig(
        device=device,
        arms=tuple(dict.fromkeys(cell.arm for cell in cells if cell.arm != DETECTOR)),
        user_arms=(),
        probes=tuple(dict.fromkeys(cell.probe for cell in cells)),
        routes=(),
        nccl_library=None,
        transport=DEVICES[device].bindings[0],
        timeout_s=timeout_s,
    )
    with (
        patch.dict(cast(dict[str, ArmSpec], ARMS), arms()),
        patch.object(plan, "list_arm_probes", return_value=list(cells)),
        patch.object(judgement, "list_arm_probes", return_value=list(cells)),
        running_agent() as agent,
    ):
        launch = LaunchConfig(nproc=2, worker=WORKER)
        findings = agent.scratch / "findings"
        findings.touch()
        run_verification(config, launch, agent, findings, on_progress=on_progress)
        return judgement.judge(config, 2, read_findings(findings))


def mismatches(
    verification: Verification, expected: Mapping[str, Mapping[str, str | None]]
) -> dict[tuple[str, str], object]:
    """Return the findings that differ from ``expected``, by arm and probe.

    ``expected`` has a pattern for each arm and probe: the beginning of the first failure's detail. It is ``None`` where
    no trial may fail.
    """
    findings = {(judgement.arm, judgement.probe): judgement.finding for judgement in verification.judgements}
    return {
        (arm, probe): findings[arm, probe]
        for arm, probes in expected.items()
        for probe, pattern in probes.items()
        if not _matches(findings[arm, probe], pattern)
    }


def _matches(finding: Finding | None, pattern: str | None) -> bool:
    if finding is None or finding.trials < 1:
        return False
    if pattern is None:
        return (finding.failed, finding.detail) == (0, None)
    return finding.failed > 0 and re.match(pattern, finding.detail or "") is not None
