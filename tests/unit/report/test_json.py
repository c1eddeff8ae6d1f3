"""JSON of a run and of a comparison of runs."""

from __future__ import annotations

import json
from dataclasses import asdict

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.comparison import Basis
from nccl_bench.analysis.judging import OpenReason
from nccl_bench.analysis.statistics import Interval, Verdict
from nccl_bench.records.schema import SCHEMA, Skipped
from nccl_bench.report.json import json_report
from tests.support.synthetic_comparisons import compared_runs, comparison
from tests.support.synthetic_runs import case, run, sweep, wrong


def test_json_of_a_run_is_strict_and_leaves_out_what_was_not_measured() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    lines = [*sweep(), wrong(arm="torch", case=case(3072)), Skipped(case=case(2**34), reason="its buffers do not fit")]
    made_up = run(lines)
    content = json.loads(json_report(Analysis.of(made_up)), parse_constant=refuse)
    assert (content["schema"], content["run"]) == (SCHEMA, made_up.meta)
    assert set(content["headline"]) == {"title", "problems", "lines", "facts"}
    assert len(content["summary"]) == len(lines)
    assert all(value is not None for row in content["summary"] for value in row.values())
    assert content["summary"][-1] == {**content["summary"][-1], "status": "skipped", "size_bytes": 2**34}
    assert "time_us" not in content["summary"][-1]
    assert "time_us" in content["summary"][0]


def test_json_of_a_comparison_has_every_cell_and_no_absent_value() -> None:
    cells = (
        comparison(8, Verdict.SLOWER, 1.5, noise_floor=0.01, baseline_us=2.0, candidate_us=3.0),
        comparison(16, None, 1.25, interval=None),
    )
    analysis = compared_runs(
        cells,
        shared_arm="torch",
        notes=("n",),
        failures=("f",),
        warnings=("w",),
        not_compared=("u",),
        not_measured=("m",),
    )
    text = json_report(analysis)
    content = json.loads(text)
    assert text.endswith("}\n")
    first, second = content.pop("cells")
    assert content == {
        "title": "b against a",
        "headline": json.loads(json.dumps(asdict(analysis.headline))),
        "basis": "rounds within each run, relative to an arm that both sides have",
        "reason": "a reason",
        "shared_arm": "torch",
        "notes": ["n"],
        "failures": ["f"],
        "warnings": ["w"],
        "hints": [],
        "not_compared": ["u"],
        "not_measured": ["m"],
    }
    assert first["compared"] == "stream-free (after) against dedicated-stream (before)"
    assert (first["before_arm"], first["after_arm"]) == ("dedicated-stream", "stream-free")
    assert (first["before_us"], first["after_us"]) == (2.0, 3.0)
    assert (first["ratio"], first["verdict"], first["threshold"], first["noise_floor"]) == (1.5, "slower", 0.02, 0.01)
    assert first["ratio_low"] < 1.5 < first["ratio_high"]
    assert (first["collective"], first["size_bytes"], first["timing"]) == ("all_reduce", 8, "gated")
    assert second["ratio"] == 1.25
    assert {"verdict", "ratio_low", "ratio_high", "noise_floor", "root"}.isdisjoint(second)
    assert {"below_floor", "pairs_needed"}.isdisjoint(second)


def test_json_of_a_comparison_says_why_a_cell_is_inconclusive() -> None:
    cells = (
        comparison(8, Verdict.INCONCLUSIVE, 1.1, noise_floor=0.2, reason=OpenReason.WITHIN_NOISE),
        comparison(16, Verdict.INCONCLUSIVE, interval=None, pairs_needed=11),
        comparison(32, Verdict.INCONCLUSIVE, interval=Interval(low=0.9, high=1.1, error=0.05)),
    )
    analysis = compared_runs(cells)
    content = json.loads(json_report(analysis))
    assert [(cell["below_floor"], cell.get("pairs_needed")) for cell in content["cells"]] == [
        (True, None),
        (False, 11),
        (False, None),
    ]
    assert content["hints"] == list(analysis.hints)
    assert len(content["hints"]) == 3


def test_json_of_two_arms_of_one_run_names_baseline_and_candidate() -> None:
    analysis = compared_runs([comparison(8, baseline_us=2.0, candidate_us=3.0)], basis=Basis.ROUNDS)
    (cell,) = json.loads(json_report(analysis))["cells"]
    assert (cell["baseline_us"], cell["candidate_us"]) == (2.0, 3.0)
    assert cell["compared"] == "stream-free against dedicated-stream"
