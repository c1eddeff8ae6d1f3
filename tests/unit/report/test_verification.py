"""The text of a verification in the terminal: its table, its width and its snapshots."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nccl_bench.catalog.probes import DETECTOR, PROBES
from nccl_bench.report import Detail
from nccl_bench.report.verification import (
    TerminalVerification,
    markdown_verification,
)
from nccl_bench.verify.headline import weak_detections
from nccl_bench.verify.judgement import ProbeStatus, Verification
from tests.support.findings import make_user_verification
from tests.support.made_verifications import EVERYTHING, INSTALLED, shown, table_of
from tests.support.snapshots import CheckSnapshot

NARROWEST = TerminalVerification.narrowest


def headings_and_rows(table: str) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns, each of which can take two lines, and the cells of each row."""
    lines = table.splitlines()
    rule = next(number for number, line in enumerate(lines) if line.startswith("---"))
    columns = [match.span() for match in re.finditer("-+", lines[rule])]
    names = ["".join(line[start:end].strip() for line in lines[:rule]) for start, end in columns]
    return [name.replace("-", "") for name in names], [line.split() for line in lines[rule + 1 :]]


@pytest.mark.parametrize("width", [80, 160])
def test_a_verification_with_failures_reads_as_its_snapshot(
    width: int, tmp_path: Path, snapshot: CheckSnapshot
) -> None:
    text = shown(make_user_verification(tmp_path).verification, width)
    snapshot(f"verify-{width}", text)


def test_quiet_is_the_headline_alone_and_full_has_all_trials(tmp_path: Path, snapshot: CheckSnapshot) -> None:
    verification = make_user_verification(tmp_path).verification
    quiet, usual, full = (
        TerminalVerification(width=80, styled=False, detail=detail).render(verification) for detail in Detail
    )
    assert usual.startswith(f"{quiet}\n")
    assert "large-unjoined" in quiet
    assert "\narm " not in quiet
    assert full.startswith(usual)
    snapshot("verify-full-80", full.removeprefix(usual))


def test_markdown_reads_as_its_snapshot(tmp_path: Path, snapshot: CheckSnapshot) -> None:
    text = markdown_verification(make_user_verification(tmp_path).verification)
    snapshot("verify-markdown", text)


def test_an_incomplete_verification_reads_as_its_snapshot(tmp_path: Path, snapshot: CheckSnapshot) -> None:
    text = shown(make_user_verification(tmp_path, ran=7).verification)
    snapshot("verify-incomplete-80", text)


@pytest.mark.parametrize("of", EVERYTHING, ids=["good", "cpu", "failing", "blind", "broken", "incomplete"])
@pytest.mark.parametrize("width", [NARROWEST, 40, 60, 61, 79, 80, 100, 160])
def test_every_line_fits_and_is_plain_ascii(of: Verification, width: int) -> None:
    text = shown(of, width)
    assert text.isascii()
    assert all(character.isprintable() or character == "\n" for character in text)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_has_every_arm_and_every_probe_with_its_status(width: int) -> None:
    # A name that is too long continues on the next line.
    table = re.sub(r"(?m)^(\S+)(.*)\n  (-\S+)$", r"\1\3\2", table_of(shown(EVERYTHING[2], width)))
    header, rows = headings_and_rows(table)
    assert header == ["arm", *PROBES]
    assert [row[0] for row in rows] == INSTALLED
    letters = {
        ProbeStatus.PASS: "pass",
        ProbeStatus.FAIL: "FAIL",
        ProbeStatus.CAUGHT: "caught",
        ProbeStatus.MISSED: "missed",
    }
    weak = {detection.probe for detection in weak_detections(EVERYTHING[2])}
    assert weak
    for row in rows:
        judgements = [judgement for judgement in EVERYTHING[2].judgements if judgement.arm == row[0]]
        assert row[1:] == [
            "weak" if each.status is ProbeStatus.PASS and each.probe in weak else letters.get(each.status, "-")
            for each in judgements
        ]


@pytest.mark.parametrize("width", [NARROWEST, 60, 79])
def test_a_table_that_does_not_fit_continues_below_with_every_cell(width: int) -> None:
    whole: dict[tuple[str, str], str] = {}
    parts: dict[tuple[str, str], str] = {}
    for cells, text in ((whole, shown(EVERYTHING[2], 160)), (parts, shown(EVERYTHING[2], width))):
        for table in [part for part in text.split("\n\n") if re.search(r"(?m)^arm ", part)]:
            header, rows = headings_and_rows(re.sub(r"(?m)^(\S+)(.*)\n  (-\S+)$", r"\1\3\2", table))
            for arm, *statuses in rows:
                cells |= {(arm, probe): status for probe, status in zip(header[1:], statuses, strict=True)}
    assert len(parts) == len(INSTALLED) * len(PROBES)
    assert parts == whole


def test_nothing_narrower_has_room_for_the_table() -> None:
    assert max(map(len, shown(EVERYTHING[0], NARROWEST - 1).splitlines())) == NARROWEST


def test_a_wide_table_folds_no_name() -> None:
    assert "\n  -unordered" in shown(EVERYTHING[0], 80)
    assert re.search(rf"(?m)^{DETECTOR} +caught +caught +caught +missed", shown(EVERYTHING[0], 160))


@pytest.mark.parametrize("of", EVERYTHING, ids=["good", "cpu", "failing", "blind", "broken", "incomplete"])
def test_a_terminal_gets_colour_and_the_same_text(of: Verification, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    styled = TerminalVerification(width=80, styled=True).render(of)
    assert "\x1b[" in styled
    assert re.sub(r"\x1b\[[\d;]*m", "", styled) == shown(of)
