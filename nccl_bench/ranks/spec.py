"""What the launching process and its workers tell each other, through files in a scratch directory. No torch.

The launcher writes a ``WorkerSpec``; each worker keeps a ``Position`` up to date and leaves a ``Failure`` when it dies
of an exception. Deadlines are ``time.monotonic()`` values, which processes of one host share; a scratch directory never
spans hosts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from nccl_bench.config.run import RunConfig, resolve
from nccl_bench.plan.process_sets import ProcessSet, process_sets_of


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What one launch of the workers is to do.

    ``run_dir`` is ``None`` on nodes other than the first, ``scratch`` where no launcher watches (the attach mode);
    ``first_case`` is an index into the plan's cases; of earlier launches, ``excluded`` are the arms that failed and
    ``apart`` those that did not get past set-up beside others, with the reason; ``started`` is the
    ``time.monotonic()`` of the command's start, the same for every launch.
    """

    config: RunConfig
    run_dir: str | None
    scratch: str | None
    first_case: int
    excluded: tuple[str, ...] = ()
    apart: Mapping[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def process_sets(self) -> tuple[ProcessSet, ...]:
        """Who does what in this launch."""
        return process_sets_of(self.config, excluded=self.excluded, apart=self.apart)

    @property
    def processes_per_rank(self) -> int:
        """One in each world."""
        return len(self.process_sets)

    def at(self, scratch: str, first: int) -> Self:
        """The same for one launch, which has ``scratch`` to itself and starts with the case at index ``first``."""
        return replace(self, scratch=scratch, first_case=first)

    def write(self, path: Path) -> None:
        """Write the specification as JSON."""
        mapping = {
            "config": self.config.to_mapping(),
            "run_dir": self.run_dir,
            "scratch": self.scratch,
            "first_case": self.first_case,
            "excluded": list(self.excluded),
            "apart": dict(self.apart),
            "started": self.started,
        }
        path.write_text(json.dumps(mapping), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> WorkerSpec:
        """The specification that ``write`` wrote; raises ``UsageError`` for a configuration this version refuses."""
        mapping = json.loads(path.read_text(encoding="utf-8"))
        config = mapping.pop("config")
        excluded = tuple(mapping.pop("excluded"))
        return cls(config=resolve(config["device"], config), excluded=excluded, **mapping)
