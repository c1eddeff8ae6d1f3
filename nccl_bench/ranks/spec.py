"""The specification of a launch, which the launcher writes and every rank reads. No torch."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from nccl_bench.config.run import RunConfig, resolve
from nccl_bench.config.variables import preload
from nccl_bench.plan.process_sets import ProcessSet, process_sets_of
from nccl_bench.plan.shuffling import cases_of_launches


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """The work of one launch, as the launcher sees it: a list of items, which all ranks do in the same order."""

    # The directory for positions, failures and logs; None before the launch, or if there is no launcher.
    scratch: str | None = None

    @property
    def is_empty(self) -> bool:
        """True if no item is left to do."""
        return False

    @property
    def processes_per_rank(self) -> int:
        """The number of processes that share one rank's device."""
        return 1

    @property
    def records_ras(self) -> bool:
        """True if the record of a hang has room for the answer of NCCL's RAS, and the ranks use NCCL."""
        return False

    def variables_of(self, local_rank: int, local_world_size: int) -> Mapping[str, str]:
        """Return the environment variables that only this process of a node gets. Both numbers count processes."""
        return {}

    def python_of(self, local_rank: int, local_world_size: int) -> str | None:
        """Return the interpreter of this process of a node; ``None`` for the interpreter of the command."""
        return None

    def for_launch(self, scratch: str) -> Self:
        """Return a copy for a launch that has its own ``scratch``."""
        return replace(self, scratch=scratch)

    def write(self, path: Path) -> None:
        """Write the specification as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec(LaunchSpec):
    """The work of new ranks of a run: some or all cases of one launch, and what later launches measure."""

    config: RunConfig  # what to measure
    # The indices of the cases in the plan, in the order of their measurement; None for all cases.
    cases: tuple[int, ...] | None = None
    launch: int = 1  # the number of the launch that measures the cases, counted from 1
    later: tuple[tuple[int, ...], ...] = ()  # the cases of every later launch
    run_dir: str | None  # the run directory; None on nodes other than the first
    excluded: tuple[str, ...] = ()  # the arms that are no longer measured, because they failed in earlier launches
    # (index of a case, arm): the arm is not measured in the case, because it ended in a deadlock there.
    deadlocks: tuple[tuple[int, str], ...] = ()
    # The user arms that failed in set-up in shared processes -> the reason. Each of these arms gets its own processes.
    apart: Mapping[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)  # the time when the command started
    earlier_s: float = 0.0  # seconds from the start of the run to this command; 0 unless the command resumes the run

    @property
    def is_empty(self) -> bool:
        """True if no case is left to measure."""
        return self.cases == ()

    @property
    def following(self) -> WorkerSpec | None:
        """The work of the next launch that has cases; ``None`` after the last one."""
        for number, cases in enumerate(self.later, start=1):
            if cases:
                return replace(self, launch=self.launch + number, cases=cases, later=self.later[number:])
        return None

    @property
    def process_sets(self) -> tuple[ProcessSet, ...]:
        """The process sets of this launch, each with its arms."""
        return process_sets_of(self.config, excluded=self.excluded, apart=self.apart)

    @property
    def processes_per_rank(self) -> int:
        """The number of process sets: a rank has one process in each of them."""
        return len(self.process_sets)

    @property
    def records_ras(self) -> bool:
        """True if the ranks use NCCL."""
        return self.config.device_spec.transport == "nccl"

    def variables_of(self, local_rank: int, local_world_size: int) -> Mapping[str, str]:
        """Return the environment variables of the process set of this process."""
        process_set = self._process_set_of(local_rank, local_world_size)
        return preload(process_set.library, process_set.variables, os.environ)

    def python_of(self, local_rank: int, local_world_size: int) -> str | None:
        """Return the interpreter of the process set of this process; ``None`` for the interpreter of the command."""
        return self._process_set_of(local_rank, local_world_size).python

    def _process_set_of(self, local_rank: int, local_world_size: int) -> ProcessSet:
        return self.process_sets[local_rank * self.processes_per_rank // local_world_size]

    @classmethod
    def of_run(
        cls, config: RunConfig, cases: int, *, done: Collection[tuple[int, int]] = (), **fields: Any
    ) -> WorkerSpec:
        """Return the work of every launch of a run with ``cases`` cases. ``fields`` are more fields of the class.

        ``done`` has the (index, launch) pairs that are measured already.
        """
        first, *later = cases_of_launches(cases, config.launches, config.seed, done)
        return cls(config=config, cases=first, later=tuple(later), **fields)

    @classmethod
    def read(cls, path: Path) -> WorkerSpec:
        """Return the specification in ``path``. Raise ``UsageError`` if this version refuses its configuration."""
        mapping = json.loads(path.read_text(encoding="utf-8"))
        config = mapping.pop("config")
        excluded = tuple(mapping.pop("excluded"))
        cases = mapping.pop("cases")
        later = tuple(map(tuple, mapping.pop("later")))
        deadlocks = tuple((index, arm) for index, arm in mapping.pop("deadlocks"))
        return cls(
            config=resolve(config["device"], config),
            cases=None if cases is None else tuple(cases),
            later=later,
            excluded=excluded,
            deadlocks=deadlocks,
            **mapping,
        )
