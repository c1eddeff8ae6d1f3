"""The page of a verification has what its terminal output has, and every trial."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from nccl_bench.catalog.probes import DETECTOR
from nccl_bench.report.html.page import PageTable, Remarks
from nccl_bench.report.html.verification_page import verification_html, verification_page
from nccl_bench.report.verification import table_cells
from nccl_bench.verify.headline import verification_headline
from nccl_bench.verify.judgement import Verification
from tests.support.findings import LARGE, make_user_verification


@pytest.fixture
def verification(tmp_path: Path) -> Verification:
    return make_user_verification(tmp_path).verification


def rows_of_trials(verification: Verification) -> list[dict[str, object]]:
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', verification_html(verification))
    assert text is not None
    numbers = json.loads(text[1])["numbers"]
    columns = {
        column["name"]: [column["same"]] * numbers["count"] if "same" in column else column["values"]
        for column in numbers["columns"]
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_the_table_has_the_cells_of_the_terminal(verification: Verification) -> None:
    page = verification_page(verification)
    table = next(block for section in page.sections for block in section.blocks if isinstance(block, PageTable))
    assert table.header == ("arm", *verification.probes)
    shown = {(row[0], probe): text for row in table.rows for probe, text in zip(table.header[1:], row[1:], strict=True)}
    assert shown == table_cells(verification)
    assert table.styles["FAIL"] == "problem"
    assert page.heading == verification_headline(verification).title


def test_every_trial_is_in_the_table_of_trials_and_failures_come_first(verification: Verification) -> None:
    rows = rows_of_trials(verification)
    groups = [group for each in verification.judgements if each.finding for group in each.finding.groups]
    assert len(rows) == len(groups)
    assert sum(int(str(row["failed"])) for row in rows) == sum(group.failed for group in groups)
    tested = [bool(row["failed"]) for row in rows if row["arm"] != DETECTOR]
    assert tested == sorted(tested, reverse=True)
    assert {row["size_bytes"] for row in rows if row["arm"] == "large-unjoined" and row["failed"]} == {LARGE}
    assert {row["arm"] for row in rows[len(tested) :]} == {DETECTOR}


def test_a_record_without_groups_has_a_row_for_each_probe(verification: Verification) -> None:
    judgements = tuple(
        replace(each, finding=each.finding and replace(each.finding, groups=())) for each in verification.judgements
    )
    rows = rows_of_trials(replace(verification, judgements=judgements))
    assert [row["trials"] for row in rows] == [24] * len([each for each in judgements if each.finding])


def test_a_verification_that_found_nothing_has_a_page(tmp_path: Path) -> None:
    verification = make_user_verification(tmp_path, ran=0).verification
    page = verification_page(verification)
    assert [section.identifier for section in page.sections] == ["answer", "probes", "environment"]
    assert any("INCOMPLETE" in str(block.items) for block in page.sections[0].blocks if isinstance(block, Remarks))
