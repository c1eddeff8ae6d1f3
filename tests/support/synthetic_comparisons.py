"""Comparisons that nobody measured, for the tests of hints, reports and the gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.arm_pairs import ArmPairs
from nccl_bench.analysis.comparison import Basis, Comparison, OpenReason
from nccl_bench.analysis.estimates import EstimateColumns
from nccl_bench.analysis.rows import Rows
from nccl_bench.analysis.statistics import Interval, Verdict
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.timings import Timing
from nccl_bench.errors import ExitCode
from nccl_bench.records.columns import ValueColumn
from tests.support.synthetic_runs import case


def arm_pairs(cases: Sequence[Case], estimates: EstimateColumns) -> ArmPairs:
    """Return ``stream-free`` and ``dedicated-stream`` at each of ``cases``, with these estimated ratios."""
    return ArmPairs(
        case=ValueColumn.of(cases),
        timing=ValueColumn.of([Timing.GATED] * len(cases)),
        baseline=ValueColumn.of(["dedicated-stream"] * len(cases)),
        candidate=ValueColumn.of(["stream-free"] * len(cases)),
        baseline_us=[1.0] * len(cases),
        candidate_us=[1.0] * len(cases),
        estimates=estimates,
        placements=[(Placement.IN_PLACE, Placement.IN_PLACE)] * len(cases),
        kernels=[None] * len(cases),
        launches=[1] * len(cases),
        in_different_processes=np.zeros(len(cases), dtype=bool),
    )


def comparison(
    size: int = 8, verdict: Verdict | None = Verdict.EQUIVALENT, ratio: float = 1.0, **changes: Any
) -> Comparison:
    """Return a comparison of ``stream-free`` with ``dedicated-stream``, with a narrow interval around ``ratio``.

    Without a ``reason``, an inconclusive comparison without an interval has too few rounds. One with an interval has a
    difference that can be below the threshold.
    """
    fields: dict[str, Any] = {
        "case": case(size),
        "timing": Timing.GATED,
        "baseline": "dedicated-stream",
        "candidate": "stream-free",
        "baseline_us": 10.0,
        "candidate_us": 10.0 * ratio,
        "ratio": ratio,
        "threshold": 0.02,
        "interval": Interval(low=ratio / 1.01, high=ratio * 1.01, error=0.05),
        "verdict": verdict,
        "noise_floor": None,
        "pairs_needed": None,
        "placements": (Placement.IN_PLACE, Placement.IN_PLACE),
    }
    fields |= changes
    if verdict is Verdict.INCONCLUSIVE:
        missing = fields["interval"] is None
        fields.setdefault("reason", OpenReason.TOO_FEW_ROUNDS if missing else OpenReason.BELOW_THRESHOLD)
    return Comparison(**fields)


def compared_runs(comparisons: Sequence[Comparison] = (), **changes: Any) -> Analysis:
    """Return the analysis of a comparison of two sides with these ``comparisons``."""
    fields: dict[str, Any] = {
        "title": "b against a",
        "notes": (),
        "run": None,
        "metas": (),
        "rows": Rows.of(),
        "comparisons": tuple(comparisons),
        "basis": Basis.SHARED_ARM,
        "reason": "a reason",
        "failures": (),
        "warnings": (),
        "not_measured": (),
        "candidate_incomplete": False,
        "exit_code": ExitCode.OK,
    }
    return Analysis(**{**fields, **changes})
