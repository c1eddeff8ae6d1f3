"""One proof: what to probe, in which launches of the ranks, what was found, and what follows from it. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from nccl_bench.config.user_arms import from_list, of_arm
from nccl_bench.config.verification import VerifyConfig
from nccl_bench.plan.verification import Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationSpec:
    """What one launch of the ranks is to do: ``cells`` from index ``first`` on, findings appended to ``findings``."""

    config: VerifyConfig
    cells: tuple[Cell, ...]
    findings: str
    scratch: str | None = None
    first: int = 0

    @property
    def variables(self) -> Mapping[str, str]:
        """What its processes have in their environment besides."""
        user_arm = of_arm(self.config.user_arms, self.cells[0].arm)
        return {} if user_arm is None else user_arm.variables

    @property
    def processes_per_rank(self) -> int:
        """One: arms that need processes of their own have launches of their own."""
        return 1

    def at(self, scratch: str, first: int) -> VerificationSpec:
        """The same for one launch."""
        return replace(self, scratch=scratch, first=first)

    def write(self, path: Path) -> None:
        """Write the specification as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> VerificationSpec:
        """The specification that ``write`` wrote."""
        mapping = json.loads(path.read_text(encoding="utf-8"))
        config = mapping.pop("config")
        names = ("arms", "probes", "routes")
        return cls(
            config=VerifyConfig(
                **config | {name: tuple(config[name]) for name in names} | {"user_arms": from_list(config["user_arms"])}
            ),
            cells=tuple(Cell(**cell) for cell in mapping.pop("cells")),
            **mapping,
        )
