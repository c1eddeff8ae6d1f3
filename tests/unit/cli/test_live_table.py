"""The live table of a verification."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from nccl_bench.catalog.probes import DETECTOR
from nccl_bench.cli.live_table import LiveTable
from nccl_bench.cli.tracking import track_verification
from nccl_bench.config.verification import resolve_verification
from nccl_bench.verify.judgement import judge
from tests.support.findings import CAUGHT, make_findings

CONFIG = resolve_verification("cpu", {"arms": "all"})
FINDINGS = make_findings(CONFIG, *CAUGHT)


def set_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace standard error by a terminal until the end of the test."""
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", stream)


def displayed(table: LiveTable, width: int, height: int = 24) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), legacy_windows=False)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_table_fills_as_findings_arrive_in_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    set_terminal(monkeypatch)
    ran = 0
    with LiveTable(track_verification(CONFIG, []), lambda: judge(CONFIG, 2, FINDINGS[:ran])) as table:
        empty = displayed(table, 80)
        small = displayed(table, 80, height=len(empty) - 1)
        # Nothing changes between two calls.
        ran = 3
        assert displayed(table, 80) == empty
        table.show([])
        filled = displayed(table, 80)
        ran = len(FINDINGS)
        table.show([])
        full = displayed(table, 80)
    assert max(map(len, [*empty, *filled, *full])) <= 80
    # The table fits into a terminal of 24 lines.
    assert len(empty) == len(filled) == len(full) <= 23
    assert [lines[0].rpartition(": ")[2] for lines in (empty, filled)] == [
        f"{number} of {len(FINDINGS)} probes ran, counted for each arm" for number in (0, 3)
    ]
    # A smaller terminal shows the last line only.
    assert small == empty[-1:]
    assert not any("pass" in line for line in empty)
    # A pass is shown before anybody knows whether the detector will be caught.
    row, *_ = (line for line in filled if line.startswith("stream-free "))
    assert row.split()[1:] == ["pass", "pass", "pass", "-", "...", "...", "...", "...", "-"]
    assert not any("..." in line for line in full)


def test_a_pass_is_unverified_in_the_live_table_of_a_blind_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    set_terminal(monkeypatch)
    with LiveTable(track_verification(CONFIG, []), lambda: judge(CONFIG, 2, make_findings(CONFIG))) as table:
        lines = displayed(table, 160)
    (row,) = (line for line in lines if line.startswith(DETECTOR))
    assert row.split()[1:3] == ["BLIND", "BLIND"]
    assert not any("pass" in line for line in lines)
