from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nccl_bench.records.importers import Imported, read
from tests.support.damaged_logs import Outcome, damaged, good_logs, outcome_of

LOGS = good_logs()


@pytest.fixture(scope="module")
def any_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any") / "file"


@cache
def whole(any_file: Path, name: str) -> Imported:
    """Return the import of a whole log."""
    text, collective = LOGS[name]
    any_file.write_text(text, encoding="utf-8")
    good = read(any_file, collective)
    assert good.lines
    assert good.left_out == (("file: it does not name the version of NCCL",) if collective else ())
    return good


# `python -m tests.experiments.damaged_imports` is the long form.
@pytest.mark.parametrize("name", LOGS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_damaged_log_equals_the_whole_log_or_says_what_is_missing(
    any_file: Path, name: str, data: st.DataObject
) -> None:
    text, collective = LOGS[name]
    outcome = outcome_of(any_file, data.draw(damaged(text)), whole(any_file, name), collective)
    assert outcome is not Outcome.SILENT
