"""The findings of probes about arms, and the file where ranks and launcher collect them. Imports no torch.

Each line of the file is a finding, a note about a problem outside of probes, or the versions in new processes. A line
is on the disk before the next probe begins, so a killed command loses only the probe that was running.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from nccl_bench.catalog.bounds import Count, Name, Size
from nccl_bench.catalog.probes import Place
from nccl_bench.errors import RecordError
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.records.decoding import decode, parse_json, read_text
from nccl_bench.records.files import append_lines, sync_file
from nccl_bench.records.redaction import map_texts
from nccl_bench.safety.secrets import masked, without_credentials

# An arm that broke in this many probes is not tried any more, because each broken probe costs another launch.
MOST_BROKEN = 3
# The key of a note in its line, and the key of the processes of a launch.
_NOTE, _PROCESSES = "note", "processes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """The processes in which some arms were probed, and the versions of the programs that these processes ran."""

    arms: tuple[str, ...]  # the names of the arms
    python: Name | None  # the interpreter; None for the interpreter of nccl-bench
    library: Name | None  # the path of the libnccl that was loaded first; None for the libnccl of the verification
    variables: dict[str, Name]  # the environment variables that only these processes got
    versions: dict[str, Name]  # program -> version


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialGroup:
    """The trials of a probe on one stream with one operation and one message size, over all ranks."""

    place: Place  # the stream of the calls
    operation: str | None  # the collective with its placement or its sizes; None if a trial mixes operations
    size_bytes: Size | None  # the message size; None if a trial mixes sizes
    in_graph_mode: bool = False  # True if the calls are inside graph_capture() of a coordinator
    trials: Count  # the number of trials
    failed: Count  # the number of trials that failed
    calls: Count  # the number of calls whose results were checked, on each rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The finding of one probe about one arm, over all ranks."""

    arm: Name  # the arm's name
    probe: Name  # the probe's name
    trials: Count  # the number of trials; 0 if the probe does not apply
    failed: Count  # the number of trials that failed
    detail: str | None  # the error of the first failed trial, or the reason why no trial ran; None if all passed
    raced: Count = 0  # the number of failed trials that only a race explains
    quiet: tuple[str, ...] = ()  # the places where no trial raced
    broken: bool = False  # True if an exception, crash or hang ended the probe; `failed` is then 1
    unmade: bool = False  # True if the probe did not begin, because the arm could not be made
    declined: tuple[str, ...] = ()  # the exchanges that the arm declined, each with the reason
    leaks: tuple[str, ...] = ()  # what the arm's object leaves behind, if it was dropped because no method ends it
    watched_calls: Count = 0  # the calls of all ranks whose order was decided by construction
    unforked_calls: Count = 0  # watched calls that nothing orders after the write of their input
    unjoined_calls: Count = 0  # watched calls after which nothing orders a copy of their output
    groups: tuple[TrialGroup, ...] = ()  # the trials by stream, operation and size; empty in records of 0.1.0

    @classmethod
    def of_break(cls, arm_probe: ArmProbe, detail: str, *, unmade: bool = False) -> Finding:
        """Return the finding of a probe that broke. Set ``unmade`` if the arm could not be made."""
        return cls(
            arm=arm_probe.arm, probe=arm_probe.probe, trials=1, failed=1, detail=detail, broken=True, unmade=unmade
        )

    @property
    def arm_probe(self) -> ArmProbe:
        """The arm and the probe of this finding."""
        return ArmProbe(arm=self.arm, probe=self.probe)

    @property
    def calls(self) -> int:
        """The number of calls whose results were checked, on each rank; 0 if the probe checks no results."""
        return sum(group.calls for group in self.groups)


def append_finding(path: Path, finding: Finding) -> None:
    """Append ``finding`` to the file, which must exist. Afterwards the finding is on the disk."""
    detail = None if finding.detail is None else masked(finding.detail)
    _append(path, asdict(replace(finding, detail=detail)))


def append_note(path: Path, note: str) -> None:
    """Append a text about a problem outside of probes to the file, which must exist. Then the text is on the disk."""
    _append(path, {_NOTE: masked(note)})


def append_processes(path: Path, processes: Processes) -> None:
    """Append the versions in new processes to the file, which must exist. Afterwards they are on the disk."""
    _append(path, {_PROCESSES: asdict(processes)})


def _append(path: Path, line: Mapping[str, object]) -> None:
    append_lines(path, json.dumps(line) + "\n")
    sync_file(path)


def read_findings(path: Path) -> list[Finding]:
    """Return the findings in the file, as ``parse_findings`` does."""
    return parse_findings(read_text(path), path)


def parse_findings(lines: str, path: Path) -> list[Finding]:
    """Return the last finding of each arm probe in ``lines``. The first findings of the arm probes give the order.

    A partial last line is ignored: its writer was killed. Raises ``RecordError``, with ``path`` in its
    message, for a line that is none of the three kinds.
    """
    findings: dict[ArmProbe, Finding] = {}
    for where, mapping in _parse(lines, path):
        if mapping.keys().isdisjoint((_NOTE, _PROCESSES)):
            finding = decode(Finding, mapping, where)
            findings[finding.arm_probe] = finding
    return list(findings.values())


def parse_notes(lines: str, path: Path) -> list[str]:
    """Return the notes in ``lines``; the rules are those of ``parse_findings``."""
    return [decode(str, mapping[_NOTE], where) for where, mapping in _parse(lines, path) if _NOTE in mapping]


def parse_processes(lines: str, path: Path) -> list[Processes]:
    """Return the processes in ``lines``. The rules are those of ``parse_findings``.

    Processes that differ only in their arms become one entry with all these arms.
    """
    alike: dict[str, Processes] = {}
    for where, mapping in _parse(lines, path):
        if _PROCESSES in mapping:
            processes = decode(Processes, mapping[_PROCESSES], where)
            key = repr(replace(processes, arms=()))
            arms = (*(alike[key].arms if key in alike else ()), *processes.arms)
            alike[key] = replace(processes, arms=tuple(dict.fromkeys(arms)))
    return list(alike.values())


@lru_cache(maxsize=1)
def _parse(lines: str, path: Path) -> Sequence[tuple[str, Mapping[str, object]]]:
    """Return the place and the content of each complete line. Three functions need it, so it is cached."""
    *complete, _partial = lines.split("\n")
    parsed: list[tuple[str, Mapping[str, object]]] = []
    for number, line in enumerate(complete, start=1):
        where = f"{path}, line {number}"
        try:
            value = parse_json(line)
        except RecordError as error:
            raise RecordError(f"{where}: {error}") from error
        parsed.append((where, map_texts(decode(dict[str, Any], value, where), without_credentials)))
    return parsed


def find_given_up_arms(findings: Iterable[Finding]) -> Mapping[str, Finding]:
    """Return the arms that are not tried any more, each with the finding that its remaining probes get.

    An arm is given up if it broke in ``MOST_BROKEN`` probes, or if it could not be made.
    """
    given_up: dict[str, Finding] = {}
    broken = Counter[str]()
    for finding in findings:
        broken[finding.arm] += finding.broken
        if finding.unmade:
            given_up[finding.arm] = finding
        elif broken[finding.arm] >= MOST_BROKEN:
            detail = f"not tried: the arm hung or crashed in {MOST_BROKEN} earlier probes"
            given_up.setdefault(finding.arm, Finding.of_break(finding.arm_probe, detail))
    return given_up
