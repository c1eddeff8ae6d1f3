"""The specification of a verification's launch: the launcher writes it, each rank reads it. Imports no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nccl_bench.config.user_arms import UserArm, user_arm_of
from nccl_bench.config.variables import preload
from nccl_bench.config.verification import VerifyConfig, resolve_verification
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.ranks.spec import LaunchSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationSpec(LaunchSpec):
    """The work of one launch of a verification."""

    config: VerifyConfig  # the configuration of the verification
    arm_probes: tuple[ArmProbe, ...]  # each arm and probe of the launch, in the order of their runs
    findings: str  # the file to append findings to
    first: int = 0  # the index of the arm probe that the launch starts with

    @property
    def is_empty(self) -> bool:
        """True if no arm probe is left to run."""
        return self.first >= len(self.arm_probes)

    def variables_of(self, local_rank: int, local_world_size: int) -> Mapping[str, str]:
        """Return the environment variables that the arm of this launch sets."""
        user_arm = self.user_arm
        return {} if user_arm is None else preload(user_arm.library, user_arm.variables, os.environ)

    def python_of(self, local_rank: int, local_world_size: int) -> str | None:
        """Return the interpreter of the arm of this launch; ``None`` for the interpreter of the command."""
        return None if self.user_arm is None else self.user_arm.python

    @property
    def library(self) -> str | None:
        """The libnccl of this launch's arm; ``None`` if the arm uses the libnccl of the verification."""
        return None if self.user_arm is None else self.user_arm.library

    @property
    def user_arm(self) -> UserArm | None:
        """The user arm of this launch; ``None`` if the launch has built-in arms without settings of their own."""
        return user_arm_of(self.config.user_arms, self.arm_probes[0].arm)

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
