"""Files of accepted races."""

from __future__ import annotations

from pathlib import Path

import pytest

from nccl_bench.audit.findings.audit import Outcome, join_ranks
from nccl_bench.audit.findings.suppressions import read_suppressions
from nccl_bench.errors import UsageError
from tests.support.audit_findings import race, rank_findings


def _file(directory: Path, text: str) -> Path:
    file = directory / "known.txt"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    "pattern",
    [
        "aten::mul_",
        "aten::*",
        "nccl*",
        "engine/model.py:88",
        "model.py:88",
        "model.py",
        "*/comm.py:*",
        "reduce",
        "aten::mul_ -> ncclAllReduce",
        "model.py:88->comm.py",
    ],
)
def test_a_pattern_fits_a_work_a_function_a_file_or_a_line(tmp_path: Path, pattern: str) -> None:
    (suppression,) = read_suppressions(_file(tmp_path, f"# known\n\n{pattern}: it is never read\n"))
    assert suppression.matches(race())
    assert (suppression.number, suppression.reason) == (3, "it is never read")


@pytest.mark.parametrize(
    "pattern", ["aten::mul", "model.py:8", "odel.py:88", "ncclAllReduce -> aten::mul_", "aten::mul_ -> comm.py:21"]
)
def test_a_pattern_of_something_else_does_not_fit(tmp_path: Path, pattern: str) -> None:
    (suppression,) = read_suppressions(_file(tmp_path, f"{pattern}: reason\n"))
    assert not suppression.matches(race())


@pytest.mark.parametrize("line", ["aten::mul_", "aten::mul_:", "model.py:88", "model.py:88:  "])
def test_a_line_without_a_reason_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsageError, match=r"known\.txt:2 is .*, which has no reason: write PATTERN"):
        read_suppressions(_file(tmp_path, f"model.py: known\n{line}\n"))


@pytest.mark.parametrize("line", ["a -> b -> c: reason", "-> b: reason"])
def test_a_line_with_other_than_one_or_two_patterns_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsageError, match=r"known\.txt:1 .*with one pattern or two"):
        read_suppressions(_file(tmp_path, line))


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_suppressions(tmp_path / "known.txt")
    (tmp_path / "known.txt").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="no text in UTF-8"):
        read_suppressions(tmp_path / "known.txt")


def test_used_and_unused_lines_are_told_apart_and_a_suppressed_race_is_no_failure(tmp_path: Path) -> None:
    suppressions = read_suppressions(_file(tmp_path, "aten::add_: old\naten::mul_: never read\nnccl*: second\n"))
    audit = join_ranks("serve.py", 1, [rank_findings(0, race())], suppressions)
    assert audit.outcome is Outcome.NONE
    assert [each.by.number for each in audit.suppressed] == [2]
    assert [each.number for each in audit.unused] == [1, 3]
