"""The output of the terminal, compared with the files in ``snapshots``."""

from __future__ import annotations

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.report.terminal import TerminalReport
from tests.support.snapshots import CheckSnapshot
from tests.support.synthetic_runs import run, sweep

WIDTHS = (80, 160)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_run_reads_as_its_snapshot(width: int, snapshot: CheckSnapshot) -> None:
    analysis = Analysis.of(run(sweep()))
    snapshot(f"run-{width}", TerminalReport(width=width, styled=False).render(analysis))
