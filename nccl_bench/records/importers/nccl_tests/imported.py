"""Files of nccl-tests as a run: what each says, several as one, and as ``run.json`` has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeVar

from nccl_bench import __version__
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.errors import UsageError
from nccl_bench.records.importers.nccl_tests.output import OverRanks
from nccl_bench.records.run import TOOL
from nccl_bench.records.schema import SCHEMA, Samples, Skipped
from nccl_bench.records.store import RunStatus

ARM = "nccl-tests"
# What a run has one of, and what it is called.
_ONE_OF = {
    "world_size": "ranks",
    "over_ranks": "times over ranks (-a):",
    "nccl_version": "NCCL",
    "gpus": "GPUs",
    "variables": "NCCL's variables",
}
_Entry = TypeVar("_Entry")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What files of nccl-tests say; ``None`` is what they do not.

    ``lines`` are of the arm ``ARM``, ``source`` the files' names without their directories, ``left_out`` what was not
    read and why; ``whole`` says that nothing was cut off. ``over_ranks`` is what the times are of the ranks', ``gpus``
    are names of GPUs, ``variables`` NCCL's settings.
    """

    source: tuple[str, ...]
    world_size: int
    over_ranks: OverRanks | None
    started: str | None
    finished: str | None
    nccl_version: str | None
    hostnames: tuple[str, ...]
    gpus: tuple[str, ...]
    variables: Mapping[str, str] | None
    whole: bool
    left_out: tuple[str, ...]
    lines: tuple[Samples | Skipped, ...]

    def meta(self, name: str = ARM) -> dict[str, Any]:
        """What ``run.json`` says of such a run: all that readers of one need, and the ``source`` of it."""
        gpus = [{"name": gpu} for gpu in self.gpus]
        return {
            "schema": SCHEMA,
            "tool": TOOL,
            "version": __version__,
            "name": name,
            "started": self.started or "start not recorded",
            "finished": self.finished,
            "status": RunStatus.COMPLETE if self.whole else RunStatus.INTERRUPTED,
            "command": [],
            "config": {
                "name": name,
                "device": "cuda",
                "collectives": list(unique(line.case.collective for line in self.lines)),
                "arms": [ARM],
                "baseline": ARM,
                "timings": list(unique(line.timing for line in self.lines if isinstance(line, Samples))),
                "source": list(self.source),
                "over_ranks": self.over_ranks,
            },
            "launch": {"mode": ARM, "world_size": self.world_size},
            "left_out": list(self.left_out),
            "environment": {
                "hostnames": list(self.hostnames),
                "gpus": gpus,
                **({} if self.variables is None else {"variables": dict(self.variables)}),
            },
            "worker": self.nccl_version and {"transport": {"name": "nccl", "version": self.nccl_version}},
        }


def merged(files: Sequence[Imported]) -> Imported:
    """Several files as one run; raises ``UsageError`` where they differ in what a run has one of, or overlap."""
    for one, other in combinations(files, 2):
        for name, what in _ONE_OF.items():
            values = getattr(one, name), getattr(other, name)
            if None not in values and values[0] != values[1]:
                raise UsageError(
                    f"{what} {values[0]} in {one.source[0]} and {values[1]} in {other.source[0]}: they cannot be one "
                    "run, so import each by itself"
                )
    sources: dict[tuple[Case, Timing], str] = {}
    for file in files:
        cells = [(line.case, line.timing) for line in file.lines if isinstance(line, Samples)]
        for case, timing in cells:
            if (case, timing) in sources:
                raise UsageError(
                    f"{sources[case, timing]} and {file.source[0]} both have {case.label} ({timing}): they cannot be "
                    "one run, so import each by itself"
                )
        sources |= dict.fromkeys(cells, file.source[0])
    return Imported(
        source=tuple(name for file in files for name in file.source),
        world_size=files[0].world_size,
        # One that does not tell may well have been run otherwise.
        over_ranks=files[0].over_ranks if len({file.over_ranks for file in files}) == 1 else None,
        started=min((file.started for file in files if file.started), default=None),
        finished=max((file.finished for file in files if file.finished), default=None),
        nccl_version=next((file.nccl_version for file in files if file.nccl_version), None),
        hostnames=unique(name for file in files for name in file.hostnames),
        gpus=files[0].gpus,
        variables=next((file.variables for file in files if file.variables is not None), None),
        whole=all(file.whole for file in files),
        left_out=tuple(text for file in files for text in file.left_out),
        # An empty message may be in several files, and is skipped once.
        lines=unique(line for file in files for line in file.lines),
    )


def unique(entries: Iterable[_Entry]) -> tuple[_Entry, ...]:
    return tuple(dict.fromkeys(entries))
