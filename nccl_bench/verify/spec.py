"""The specification of one launch of a verification, which the launcher writes and every rank reads. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from nccl_bench.config.user_arms import user_arm_of
from nccl_bench.config.verification import VerifyConfig, resolve_verification
from nccl_bench.plan.verification import ArmProbe


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationSpec:
    """The work of one launch of a verification."""

    config: VerifyConfig  # what to verify
    arm_probes: tuple[ArmProbe, ...]  # the arm probes of the launch, in order
    findings: str  # the file to append findings to
    scratch: str | None = None  # the directory of this launch; None before the launch
    first: int = 0  # the index in arm_probes to start with

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment variables that the arm of this launch sets."""
        user_arm = user_arm_of(self.config.user_arms, self.arm_probes[0].arm)
        return {} if user_arm is None else user_arm.variables

    @property
    def processes_per_rank(self) -> int:
        """Always 1, because an arm that needs its own processes has its own launch."""
        return 1

    def for_launch(self, scratch: str, first: int) -> VerificationSpec:
        """Return a copy for a launch that starts at the arm probe with index ``first`` and has its own ``scratch``."""
        return replace(self, scratch=scratch, first=first)

    def write(self, path: Path) -> None:
        """Write the specification as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> VerificationSpec:
        """Return the specification that ``write`` wrote into ``path``."""
        mapping = json.loads(path.read_text(encoding="utf-8"))
        config = mapping.pop("config")
        return cls(
            config=resolve_verification(config["device"], config),
            arm_probes=tuple(ArmProbe(**arm_probe) for arm_probe in mapping.pop("arm_probes")),
            **mapping,
        )
