"""The specification of an audit's launch: the launcher writes it, each rank reads it. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from nccl_bench.audit.program import Program
from nccl_bench.ranks.spec import LaunchSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSpec(LaunchSpec):
    """The work of each rank: run a program under watch."""

    program: Program  # the program
    findings: str  # the directory for the findings of each rank
    directory: str  # the directory in which the command started
    every: int = 1  # one of this number of steps is watched
    timeout_s: float  # the program hangs if no rank does anything for this time, in seconds

    @classmethod
    def read(cls, path: Path) -> AuditSpec:
        """Return the specification that ``write`` wrote into ``path``."""
        mapping = json.loads(path.read_text(encoding="utf-8"))
        program = mapping.pop("program")
        program["arguments"] = tuple(program["arguments"])
        return cls(program=Program(**program), **mapping)
