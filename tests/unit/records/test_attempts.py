"""The lines that count of a case that was measured several times."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nccl_bench.errors import RecordError
from nccl_bench.records.attempts import sort_out
from nccl_bench.records.schema import CaseEnd, Entry, Resume, Skipped, dump, parse
from tests.support.synthetic_runs import case, crash, hang, samples

FIRST, SECOND = samples(), samples(samples_us=(9.0, 9.1, 9.2))
END = CaseEnd(case=case())
SET_UP_HANG = replace(hang(), case=None)
# Ranks that were late went on until they were ended.
EARLIER_HANG = replace(hang(), case=case(size_bytes=8))
SKIPPED = Skipped(case=case(), reason="no room")
RESUME = Resume(started="2026-10-01T02:00:00+00:00", command=("nccl-bench", "run", "--resume", "there"))


@pytest.mark.parametrize(
    ("entries", "lines", "is_ended"),
    [
        ((FIRST, END), (FIRST,), True),
        ((FIRST,), (FIRST,), False),
        ((FIRST, crash(), SECOND, END), (crash(), SECOND), True),
        ((crash(), crash()), (crash(), crash()), False),
        # The killed command wrote a part of the case.
        ((FIRST, RESUME, SECOND, END), (SECOND,), True),
        ((FIRST, END, RESUME), (FIRST,), True),
        ((FIRST, RESUME, crash(), RESUME, SECOND, END), (crash(), SECOND), True),
        # An attempt that reached its end counts, although a later one began.
        ((FIRST, END, hang(), SECOND), (FIRST, hang()), True),
        ((FIRST, END, hang(), SECOND, END), (hang(), SECOND), True),
        # New ranks after a failure in set-up, or in a case before this one, measure the case again.
        ((FIRST, END, SET_UP_HANG, SECOND, END), (SET_UP_HANG, SECOND), True),
        ((FIRST, END, EARLIER_HANG, SECOND, END), (EARLIER_HANG, SECOND), True),
        ((SKIPPED, END, EARLIER_HANG, SKIPPED, END), (EARLIER_HANG, SKIPPED), True),
    ],
)
def test_the_last_attempt_that_reached_its_end_counts(
    entries: tuple[Entry, ...], lines: tuple[Entry, ...], is_ended: bool
) -> None:
    attempts = sort_out(entries, Path("samples.jsonl"))
    assert attempts.lines == lines
    assert attempts.ended == ({(case(), 1)} if is_ended else set())
    assert attempts.resumes == tuple(entry for entry in entries if entry is RESUME)


def test_attempts_are_sorted_out_in_each_launch_separately() -> None:
    second = [replace(line, launch=2) for line in (FIRST, crash(), SECOND, END)]
    attempts = sort_out((FIRST, END, *second), Path("samples.jsonl"))
    assert attempts.lines == (FIRST, second[1], second[2])
    assert attempts.ended == {(case(), 1), (case(), 2)}


def test_two_lines_of_one_attempt_are_refused_after_a_resume_too() -> None:
    with pytest.raises(RecordError, match=r"^samples\.jsonl, line 4: .* twice$"):
        sort_out((FIRST, RESUME, FIRST, FIRST), Path("samples.jsonl"))


@pytest.mark.parametrize("mark", [END, RESUME])
def test_a_mark_is_read_as_it_was_written(mark: Entry) -> None:
    assert parse(dump(mark)) == mark
