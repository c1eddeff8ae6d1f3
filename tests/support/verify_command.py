"""What the tests of ``nccl-bench verify`` share: a verification without ranks, and its record."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nccl_bench.config.verification import VerifyConfig
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.ranks.progress import Position
from nccl_bench.verify.findings import append_finding, read_findings
from tests.support.findings import CAUGHT, make_findings

# The variables of a rank that srun started.
SRUN = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "1",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
}
# The record of `--out there`.
RECORD = Path("there", "verification.json")


@dataclass
class FakeVerification:
    """A double of ``run_verification`` that notes its arguments and writes a finding for each missing arm probe."""

    failed: tuple[ArmProbe, ...] = CAUGHT  # the arm probes that fail
    error: BaseException | None = None  # an error to raise after `ran` findings
    ran: int = 0  # the number of findings before `error`
    calls: list[tuple[VerifyConfig, LaunchConfig]] = field(default_factory=list)
    before: Callable[[], None] = lambda: None  # an action before the first probe
    after: Callable[[], None] = lambda: None  # an action after the last probe

    def __call__(
        self,
        config: VerifyConfig,
        launch: LaunchConfig,
        _agent: object,
        findings: Path,
        *,
        on_progress: Callable[[list[Position]], None],
    ) -> None:
        self.calls.append((config, launch))
        self.before()
        on_progress([])
        done = {finding.arm_probe for finding in read_findings(findings)}
        missing = [finding for finding in make_findings(config, *self.failed) if finding.arm_probe not in done]
        for finding in missing[: self.ran] if self.error else missing:
            append_finding(findings, finding)
        if self.error:
            raise self.error
        self.after()


class Ended(NamedTuple):
    """The end of a command."""

    code: int
    stdout: str
    stderr: str


VerifyCommand = Callable[..., Ended]


def recorded() -> dict[str, Any]:
    """Return the content of ``RECORD``."""
    return dict(json.loads(RECORD.read_text(encoding="utf-8")))
