"""JSON of a run and of a comparison of runs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.compared_runs import analyse_sides
from nccl_bench.analysis.comparison import Basis
from nccl_bench.analysis.judging import OpenReason
from nccl_bench.analysis.loading import load_run
from nccl_bench.analysis.statistics import Interval, Verdict
from nccl_bench.cli.guide import page
from nccl_bench.config.limits import Limits
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Skipped
from nccl_bench.report.bencher import bencher_report
from nccl_bench.report.document import REPORT_VERSION
from nccl_bench.report.json import json_report
from nccl_bench.report.verdicts import verdict_tables
from tests.support.real_records import REAL_RECORDS
from tests.support.synthetic_comparisons import compared_runs, comparison
from tests.support.synthetic_runs import case, hang, run, samples, sweep, wrong

RESULTS = Path(__file__).parents[3] / "results"


def test_json_of_a_run_is_strict_and_leaves_out_what_was_not_measured() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    lines = [*sweep(), wrong(arm="torch", case=case(3072)), Skipped(case=case(2**34), reason="its buffers do not fit")]
    made_up = run(lines)
    content = json.loads(json_report(Analysis.of(made_up)), parse_constant=refuse)
    assert (content["kind"], content["report_version"]) == ("run", REPORT_VERSION)
    assert content["runs"] == [{"side": "", "meta": made_up.meta}]
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
    assert len(content.pop("bands")) == 2
    assert content == {
        "kind": "comparison",
        "report_version": REPORT_VERSION,
        "title": "b against a",
        "headline": json.loads(json.dumps(asdict(analysis.headline))),
        "exit_code": int(analysis.exit_code),
        "sides": ["before", "after"],
        "basis": "rounds within each run, relative to an arm that both sides have",
        "basis_reason": "a reason",
        "shared_arm": "torch",
        "notes": ["n"],
        "failures": ["f"],
        "warnings": ["w"],
        "hints": [],
        "not_compared": ["u"],
        "not_measured": ["m"],
        "runs": [],
    }
    assert (first["baseline_arm"], first["candidate_arm"]) == ("dedicated-stream", "stream-free")
    assert (first["baseline_us"], first["candidate_us"]) == (2.0, 3.0)
    assert (first["ratio"], first["verdict"], first["threshold"], first["noise_floor"]) == (1.5, "slower", 0.02, 0.01)
    assert first["ratio_low"] < 1.5 < first["ratio_high"]
    assert (first["collective"], first["size_bytes"], first["timing"]) == ("all_reduce", 8, "gated")
    assert second["ratio"] == 1.25
    assert {"verdict", "ratio_low", "ratio_high", "noise_floor", "root"}.isdisjoint(second)
    assert {"below_floor", "pairs_needed", "reason"}.isdisjoint(second)


def test_json_of_a_comparison_says_why_a_cell_is_inconclusive() -> None:
    cells = (
        comparison(8, Verdict.INCONCLUSIVE, 1.1, noise_floor=0.2, reason=OpenReason.WITHIN_NOISE),
        comparison(16, Verdict.INCONCLUSIVE, interval=None, pairs_needed=11),
        comparison(32, Verdict.INCONCLUSIVE, interval=Interval(low=0.9, high=1.1, error=0.05)),
    )
    analysis = compared_runs(cells)
    content = json.loads(json_report(analysis))
    assert [(cell.get("below_floor"), cell.get("pairs_needed")) for cell in content["cells"]] == [
        (True, None),
        (None, 11),
        (None, None),
    ]
    assert content["hints"] == list(analysis.hints)
    assert len(content["hints"]) == 3


def test_json_of_two_arms_of_one_run_names_its_sides() -> None:
    analysis = compared_runs([comparison(8, baseline_us=2.0, candidate_us=3.0)], basis=Basis.ROUNDS)
    assert json.loads(json_report(analysis))["sides"] == ["baseline", "candidate"]


def test_a_band_has_its_sizes_its_verdict_and_what_it_saves() -> None:
    cells = [comparison(size, Verdict.FASTER, 0.5, baseline_us=4.0, candidate_us=2.0) for size in (8, 16, 32)]
    (band,) = json.loads(json_report(compared_runs(cells)))["bands"]
    assert (band["size_bytes"], band["verdict"]) == ([8, 16, 32], "faster")
    assert (band["least_saved_us"], band["most_saved_us"]) == (2.0, 2.0)
    assert (band["least_ratio"], band["most_ratio"]) == (0.5, 0.5)


def test_bands_of_several_sizes_say_how_far_one_size_alone_can_be_off_in_json_and_in_the_full_report() -> None:
    analysis = Analysis.of(Run.load(RESULTS / "h200-x2-after"))
    bands = json.loads(json_report(analysis))["bands"]
    same = [band for band in bands if band["verdict"] == "equivalent"]
    assert all(0.02 < band["hidden_change"] < 0.2 for band in same)
    assert not any("hidden_change" in band for band in bands if band["verdict"] == "inconclusive")
    for only_answers in (False, True):
        (table,) = verdict_tables(analysis, only_answers=only_answers)
        assert ("one size alone" in [column.name for column in table.columns]) is not only_answers


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_no_number_is_null(value: float) -> None:
    cells = [comparison(8, Verdict.FASTER, 0.5, baseline_us=value, communicator_variance=value)]

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    lines = [replace(samples(), samples_us=(8.0, math.nan, 9.0))]
    for analysis in (Analysis.of(run(lines, arms=["stream-free"])), compared_runs(cells)):
        for report in (json_report, bencher_report):
            json.loads(report(analysis), parse_constant=refuse)


def test_every_report_fits_the_schema() -> None:
    validate = Draft202012Validator(json.loads(page("report-schema"))).validate
    everything = [*sweep(), wrong(arm="torch", case=case(3072)), hang(), Skipped(case=case(2**34), reason="large")]
    validate(json.loads(json_report(Analysis.of(run(everything)))))
    validate(json.loads(json_report(compared_runs([comparison(8, Verdict.SLOWER, 1.5), comparison(16, None)]))))
    for directory in REAL_RECORDS:
        validate(json.loads(json_report(Analysis.of(Run.load(directory)))))
    sides = [[load_run(RESULTS / name)] for name in ("h200-x2-before", "h200-x2-after")]
    validate(json.loads(json_report(analyse_sides(*sides, None, None, Limits(default=0.02), allow_mismatch=True))))


def test_the_schema_refuses_a_wrong_report() -> None:
    validate = Draft202012Validator(json.loads(page("report-schema"))).validate
    right = json.loads(json_report(compared_runs([comparison(8, Verdict.SLOWER, 1.5)])))
    for wrong_part in ({"kind": "other"}, {"report_version": 2}, {"cells": [{}]}, {"headline": "text"}):
        with pytest.raises(ValidationError):
            validate(right | wrong_part)
