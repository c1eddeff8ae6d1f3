"""CSV: pandas reads every column with its type, as the guide says."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.judging import OpenReason
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.summary import COLUMNS, Row
from nccl_bench.cli.guide import page
from nccl_bench.records.schema import Skipped
from nccl_bench.report.csv import csv_report
from tests.support.synthetic_comparisons import compared_runs, comparison
from tests.support.synthetic_runs import case, crash, gpus, per_iteration, run, samples, sweep, wrong

TYPES = {"str | None": "string", "int | None": "Int64", "float | None": "Float64"}


def read_as_the_guide_says(text: str, tmp_path: Path) -> pd.DataFrame:
    (call,) = re.findall(r"^frame = pd\.read_csv\(\"summary\.csv\", (.*)\)$", page("formats"), re.MULTILINE)
    assert call == 'dtype_backend="numpy_nullable"'
    return pd.read_csv(io.StringIO(text), dtype_backend="numpy_nullable")


def test_pandas_reads_the_summary_with_the_right_types(tmp_path: Path) -> None:
    everything = samples(per_iteration=per_iteration(), gpus=gpus(throttled_rank=1, other_process=7))
    lines = [
        *sweep(sizes=(8, 1024)),
        everything,
        wrong(arm="torch", case=case(3072)),
        crash(case=None),
        Skipped(case=case(2**34), reason='large, "very"'),
    ]
    frame = read_as_the_guide_says(csv_report(Analysis.of(run(lines))), tmp_path)
    assert list(frame.columns) == list(COLUMNS)
    for name, hint in Row.__annotations__.items():
        if frame[name].notna().any():
            expected = next(dtype for kind, dtype in TYPES.items() if kind in str(hint))
            # A column of whole numbers without a fraction in any row reads as whole numbers.
            assert str(frame[name].dtype) in {expected, "Int64" if expected == "Float64" else expected}, name
    assert frame["size_bytes"].isna().sum() == 1
    assert frame["size_bytes"].max() == 2**34
    assert frame["throttled_rank"].dropna().tolist() == [1]
    assert frame["reason"].dropna().tolist() == ['large, "very"']
    assert frame.loc[frame["status"] == "skipped", "time_us"].isna().all()


def test_pandas_reads_a_comparison_with_booleans_and_absent_values(tmp_path: Path) -> None:
    cells = [
        comparison(8, Verdict.INCONCLUSIVE, 1.1, noise_floor=0.2, reason=OpenReason.WITHIN_NOISE),
        comparison(16, Verdict.INCONCLUSIVE, interval=None, pairs_needed=11),
        comparison(32, None, 1.25, interval=None),
    ]
    frame = read_as_the_guide_says(csv_report(compared_runs(cells)), tmp_path)
    assert str(frame["below_floor"].dtype) == "boolean"
    assert frame["below_floor"].tolist() == [True, False, pd.NA]
    assert str(frame["pairs_needed"].dtype) == "Int64"
    assert frame["pairs_needed"].tolist() == [pd.NA, 11, pd.NA]
    assert str(frame["verdict"].dtype) == "string"
    assert str(frame["ratio"].dtype) == "Float64"
