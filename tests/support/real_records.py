"""A few records of real machines from ``results/``, for tests that take long with each record."""

from __future__ import annotations

from tests.support.command_line import ROOT

# An older record, in which batches have no begins, and one of each scenario of the newest schema.
REAL_RECORDS = tuple(
    ROOT / "results" / name
    for name in ("h200-x2-before", "h200-x2-sglang-llama3-70b", "h200-x2-sglang-chain", "h200-x2-sglang-overlap")
)
