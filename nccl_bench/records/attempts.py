"""Finds which lines of ``samples.jsonl`` count. A case can be measured several times, and only one attempt counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nccl_bench.catalog.cases import Case
from nccl_bench.errors import RecordError
from nccl_bench.records.columns import Indexes
from nccl_bench.records.lines import Lines
from nccl_bench.records.schema import CaseEnd, Crash, Entry, Hang, Line, Resume

# A case and the number of a launch.
CaseInLaunch = tuple[Case, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """The lines of a run that count, and its marks."""

    lines: Lines[Line]  # the samples of the attempts that count, and every other line about a case
    ended: frozenset[CaseInLaunch]  # the cases, each in a launch, that have an end; empty before schema 4
    resumes: tuple[Resume, ...]  # the points at which the run was continued


def sort_out(entries: Sequence[Entry], file: Path) -> Attempts:
    """Return the lines of ``entries`` that count. Rounds of different attempts cannot be paired, so one attempt counts.

    For each case in each launch, the last attempt that reached the end of the case counts. If no attempt reached it,
    the last attempt with lines counts. A hang or a crash ends the attempts of all cases of its launch, because new
    ranks follow, and they may measure any case again. A resume ends the attempts of all cases.

    Raises ``RecordError`` if one attempt has two lines of samples of the same arm and timing: the file mixes two runs.
    ``file`` is for messages.
    """
    lines = Lines.of(entries)
    samples, count = lines.samples, len(lines.samples)
    resumes = {at: mark for at, mark in lines.others.items() if isinstance(mark, Resume)}
    marks = {at: mark for at, mark in lines.others.items() if not isinstance(mark, Resume)}
    # Each array below has the samples first and the marks after them.
    codes = {case: code for code, case in enumerate(samples.case.values)}
    of_marks = [-1 if mark.case is None else codes.setdefault(mark.case, len(codes)) for mark in marks.values()]
    case = np.append(samples.case.codes, of_marks).astype(np.intp)
    at = np.append(lines.positions, [*marks]).astype(np.intp)
    launches, launch = np.unique(
        np.append(samples.launch, [mark.launch for mark in marks.values()]), return_inverse=True
    )
    is_break, is_end = (
        np.append(np.zeros(count), [isinstance(mark, kind) for mark in marks.values()]) > 0
        for kind in (Hang | Crash, CaseEnd)
    )
    # Number the attempts. A hang, a crash or a resume increases the number, so each attempt of a case has its own.
    attempt = _earlier(launch, at, is_break) + np.searchsorted([*resumes], at)
    _, group = np.unique(case * len(launches) + launch, return_inverse=True)
    _refuse_repetitions(lines, group[:count], attempt[:count], file)
    counted = np.zeros(len(at), dtype=np.intp)
    is_line = ~is_break & ~is_end
    np.maximum.at(counted, group[is_line], attempt[is_line])
    # If a group has several ends, the assignment keeps the attempt of the last one.
    counted[group[is_end]] = attempt[is_end]
    counts = is_break | (is_line & (attempt == counted[group]))
    return Attempts(
        lines=lines.only(counts[:count], at[count:][counts[count:]].tolist()),
        ended=frozenset((mark.case, mark.launch) for mark in marks.values() if isinstance(mark, CaseEnd)),
        resumes=tuple(resumes.values()),
    )


def _earlier(group: Indexes, at: Indexes, is_event: NDArray[np.bool_]) -> Indexes:
    """Return, for each position in ``at``, how many events of the same group come before it."""
    if not is_event.any():
        return np.zeros(len(at), dtype=np.intp)
    begin = group * (at.max() + 1)
    events = np.sort((begin + at)[is_event])
    count: Indexes = np.searchsorted(events, begin + at) - np.searchsorted(events, begin)
    return count


def _refuse_repetitions(lines: Lines[Entry], group: Indexes, attempt: Indexes, file: Path) -> None:
    """Raise ``RecordError`` if one attempt has two lines of samples of the same arm and timing."""
    arm, timing = lines.samples.arm, lines.samples.timing
    keys = (group * len(arm.values) + arm.codes) * len(timing.values) + timing.codes
    _, first = np.unique(keys * (attempt.max(initial=0) + 1) + attempt, return_index=True)
    if len(first) < len(keys):
        number = int(np.delete(np.arange(len(keys)), first)[0])
        label, place = lines.samples.case[number].label, lines.positions[number] + 1
        raise RecordError(f"{file}, line {place}: {arm[number]!r} has {label} {timing[number]} twice")
