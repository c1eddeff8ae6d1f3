"""The content of one or several files of another tool, and the ``run.json`` made from this content."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import combinations
from typing import Any

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.sizes import unique
from nccl_bench.errors import UsageError
from nccl_bench.records.schema import Samples, Skipped
from nccl_bench.records.store import RunStatus, new_meta

# The fields that must be equal in all files of a run, and their names in messages.
_SINGLE = {
    "arm": "tool",
    "world_size": "number of ranks",
    "processes": "number of processes",
    "over_ranks": "time over ranks",
    "library": "library",
    "gpus": "GPUs",
    "variables": "NCCL variables",
}

# The names of libraries in records.
NCCL, RCCL = "nccl", "rccl"


class OverRanks(StrEnum):
    """The rule that makes one time from the times of all ranks. nccl-bench itself uses ``MAXIMUM``."""

    FIRST = "rank 0"
    AVERAGE = "average"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryVersion:
    """The name and the version of the library that moved the bytes."""

    name: str  # ``NCCL`` or ``RCCL``
    version: str  # its version, such as 2.28.9

    def __str__(self) -> str:
        return f"{self.name.upper()} {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The content of one or several files of another tool."""

    arm: str  # the name of the tool, which is the only arm of the run
    source: tuple[str, ...]  # the names of the files, without their directories
    world_size: int  # the number of ranks
    processes: int  # the number of processes that ran the ranks
    over_ranks: OverRanks | None  # the rule for the time of all ranks; None if the files name no rule
    started: str | None  # start time in ISO 8601; None if the files have none
    finished: str | None  # end time in ISO 8601; None if the files have none
    library: LibraryVersion | None  # the library that the tool called; None if the files do not name it
    hostnames: tuple[str, ...]  # names of hosts, each once
    gpus: tuple[str, ...]  # names of GPU models, each once
    variables: Mapping[str, str] | None  # NCCL's environment variables; None if the files do not list them
    whole: bool  # False if the tool did not finish or a file was cut off
    left_out: tuple[str, ...]  # sentences that say what was not read, and why
    lines: tuple[Samples | Skipped, ...]  # the lines for samples.jsonl

    def meta(self, name: str = "") -> dict[str, Any]:
        """Return the ``run.json`` of this run. The run's name is ``name``, or the arm's name if ``name`` is empty."""
        name = name or self.arm
        variables = {} if self.variables is None else {"variables": dict(self.variables)}
        return new_meta(
            name=name,
            started=self.started or "start not recorded",
            finished=self.finished,
            status=RunStatus.COMPLETE if self.whole else RunStatus.INTERRUPTED,
            config={
                "name": name,
                "device": "cuda",
                "collectives": list(unique(line.case.collective for line in self.lines)),
                "arms": [self.arm],
                "baseline": self.arm,
                "timings": list(unique(line.timing for line in self.lines if isinstance(line, Samples))),
                "source": list(self.source),
                "over_ranks": self.over_ranks,
                "processes": self.processes,
            },
            launch={"mode": self.arm, "world_size": self.world_size},
            left_out=self.left_out,
            environment={
                "hostnames": list(self.hostnames),
                "gpus": [{"name": gpu} for gpu in self.gpus],
                **variables,
            },
            worker=None if self.library is None else {"transport": asdict(self.library)},
        )


def merge(files: Sequence[Imported]) -> Imported:
    """Return several files as one run; raise ``UsageError`` if files contradict each other or share a case."""
    for first, second in combinations(files, 2):
        for name, what in _SINGLE.items():
            values = getattr(first, name), getattr(second, name)
            if None not in values and values[0] != values[1]:
                raise UsageError(
                    f"the {what} differs: {values[0]} in {first.source[0]} and {values[1]} in {second.source[0]}. "
                    "One run cannot have both: import each file separately"
                )
    sources: dict[tuple[Case, Timing], str] = {}
    for file in files:
        measured = [(line.case, line.timing) for line in file.lines if isinstance(line, Samples)]
        for case, timing in measured:
            if (case, timing) in sources:
                raise UsageError(
                    f"{sources[case, timing]} and {file.source[0]} both have {case.label} ({timing}). "
                    "One run cannot have both: import each file separately"
                )
        sources |= dict.fromkeys(measured, file.source[0])
    return Imported(
        arm=files[0].arm,
        source=tuple(name for file in files for name in file.source),
        world_size=files[0].world_size,
        processes=files[0].processes,
        # A file that does not name its rule may have another rule.
        over_ranks=files[0].over_ranks if len({file.over_ranks for file in files}) == 1 else None,
        started=min((file.started for file in files if file.started), default=None),
        finished=max((file.finished for file in files if file.finished), default=None),
        library=next((file.library for file in files if file.library), None),
        hostnames=unique(name for file in files for name in file.hostnames),
        gpus=files[0].gpus,
        variables=next((file.variables for file in files if file.variables is not None), None),
        whole=all(file.whole for file in files),
        left_out=tuple(text for file in files for text in file.left_out),
        # An empty message that several files have becomes one line of kind `skipped`.
        lines=unique(line for file in files for line in file.lines),
    )
