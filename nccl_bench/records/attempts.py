"""Finds which lines of ``samples.jsonl`` count. A case can be measured several times, and only one attempt counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nccl_bench.catalog.cases import Case
from nccl_bench.errors import RecordError
from nccl_bench.records.schema import CaseEnd, Crash, Entry, Hang, Line, Resume, Samples, Skipped

# A case and the number of a launch.
CaseInLaunch = tuple[Case, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """The lines of a run that count, and its marks."""

    lines: tuple[Line, ...]  # the samples of the attempts that count, and every other line about a case
    ended: frozenset[CaseInLaunch]  # the cases, each in a launch, that have an end; empty before schema 4
    resumes: tuple[Resume, ...]  # the points at which the run was continued


def sort_out(entries: Sequence[Entry], file: Path) -> Attempts:
    """Return the lines of ``entries`` that count. Rounds of different attempts cannot be paired, so one attempt counts.

    For each case in each launch it is the last attempt that reached the end of the case. If no attempt did, it is the
    last one with lines. A hang or a crash ends the attempts of all cases of its launch: new ranks follow, which may
    measure any of them again. A resume ends the attempts of all cases.

    Raises ``RecordError`` if one attempt has two lines of samples of the same arm and timing: the file mixes two runs.
    ``file`` is for messages.
    """
    resumes: list[Resume] = []
    broken: Counter[int] = Counter()  # the number of hangs and crashes of each launch
    attempts: list[int] = []
    last: dict[CaseInLaunch, int] = {}
    ended: dict[CaseInLaunch, int] = {}
    seen = set()
    for number, entry in enumerate(entries, start=1):
        if isinstance(entry, Resume):
            resumes.append(entry)
            attempts.append(0)
            continue
        # These numbers only grow, so each attempt of a case in a launch has its own sum.
        attempt = broken[entry.launch] + len(resumes)
        attempts.append(attempt)
        if isinstance(entry, Samples | Skipped):
            last[entry.case, entry.launch] = attempt
        if isinstance(entry, Samples):
            key = (entry.case, entry.launch, entry.arm, entry.timing, attempt)
            if key in seen:
                raise RecordError(f"{file}, line {number}: {entry.arm!r} has {entry.case.label} {entry.timing} twice")
            seen.add(key)
        elif isinstance(entry, CaseEnd):
            ended[entry.case, entry.launch] = attempt
        elif isinstance(entry, Hang | Crash):
            broken[entry.launch] += 1
    counted = last | ended
    lines = tuple(
        entry
        for entry, attempt in zip(entries, attempts, strict=True)
        if not isinstance(entry, Resume | CaseEnd)
        and (isinstance(entry, Hang | Crash) or attempt == counted[entry.case, entry.launch])
    )
    return Attempts(lines=lines, ended=frozenset(ended), resumes=tuple(resumes))
