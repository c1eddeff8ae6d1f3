"""The report of a run for a terminal, and its CSV."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from rich.cells import cell_len

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.summary import COLUMNS
from nccl_bench.analysis.wording import format_ratio, significant
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.sizes import format_size
from nccl_bench.records.importers.nccl_tests import ARM
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Line, Skipped, Status
from nccl_bench.report import Detail, Report
from nccl_bench.report.csv import csv_report
from nccl_bench.report.json import json_report
from nccl_bench.report.layout import bandwidth, fold
from nccl_bench.report.terminal import TerminalReport
from tests.support.synthetic_runs import (
    ALL_ARMS,
    ARMS,
    SIZES,
    case,
    crash,
    hang,
    imported,
    meta,
    out_of_place,
    per_iteration,
    run,
    samples,
    sweep,
    wrong,
)


def shown(lines: list[Line] | Run, width: int = 80, **config: Any) -> str:
    of = lines if isinstance(lines, Run) else run(lines, **config)
    return TerminalReport(width=width, styled=False, detail=Detail.FULL).render(Analysis.of(of))


def table(text: str, title: str) -> str:
    """Return the part of ``text`` from ``title`` to the empty line after its rows; the header has one above it."""
    return "\n\n".join(text[text.index(title) :].split("\n\n")[:2])


def flat(text: str) -> str:
    """Return ``text`` without its line breaks."""
    return " ".join(text.split())


EVERYTHING: list[Line] = [
    *sweep(),
    *sweep(timings=(Timing.GATED,), case=case(2048, "all_to_all"), per_iteration=per_iteration(), sizes=(2048,)),
    wrong(arm="torch", case=case(3072)),
    hang(case=case(4098)),
    crash(case=None, message="first line\n" + "x" * 300),
    Skipped(case=case(2**34), reason="its buffers do not fit"),
]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_every_line_fits(width: int) -> None:
    lines = shown(EVERYTHING, width).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert len(lines) > 7 * len(SIZES)


def test_four_arms_fit_in_80_columns_with_every_value() -> None:
    made_up = run(sweep())
    text = shown(made_up)
    assert "Not shown" not in text
    for row in Analysis.of(made_up).rows:
        kind = "cost" if row.timing == "enqueue" else "latency"
        assert row.time_us is not None
        assert row.size_bytes is not None
        line = next(
            line
            for line in table(text, f"4 ranks, {row.timing} {kind} (us)").splitlines()
            if line.split()[:1] == [format_size(row.size_bytes)]
        )
        assert significant(row.time_us) in line.split()
        if row.ratio is not None:
            assert f"{significant(row.time_us)} {format_ratio(row.ratio)}" in line
        if row.busbw_gb_s is not None and row.algbw_gb_s is not None:
            of_bandwidth = table(text, f"{row.timing} bandwidth (GB/s)")
            assert re.search(rf"{bandwidth(row.algbw_gb_s)} +{bandwidth(row.busbw_gb_s)}", of_bandwidth)


def test_a_table_reads_as_it_should() -> None:
    lines = sweep(sizes=(8, 2**20), timings=(Timing.GRAPH,))
    expected = """\
all_reduce bfloat16 sum in-place, 4 ranks, graph latency (us)
The time of one operation inside a captured CUDA graph.

       dedicated-      stream-                    torch-
           stream         free        torch        async
size     baseline     us ratio     us ratio     us ratio
----   ----------   ----------   ----------   ----------
   8         12.7   7.68 0.61x   7.90 0.62x   13.0 1.02x
  1M         17.5   12.5 0.71x   12.7 0.73x   17.7 1.02x
"""
    assert expected in shown(lines)


def test_too_many_arms_are_left_out_by_name_and_never_the_baseline() -> None:
    lines = sweep(ALL_ARMS, sizes=(8, 1024))
    text = shown(lines, arms=list(ALL_ARMS))
    latency = table(text, "eager latency")
    assert "baseline" in latency
    assert "Not shown in a width of 80: transport, a-user arm." in latency
    assert "wider terminal or --width, or see summary.csv" in flat(latency)
    assert "Not shown" not in shown(lines, 160, arms=list(ALL_ARMS))


def test_the_baseline_stays_in_a_very_narrow_terminal() -> None:
    assert "baseline" in shown(sweep(sizes=(8,), timings=(Timing.GATED,)), width=20)


def test_an_arm_without_cells_has_no_column() -> None:
    lines = sweep(("stream-free", "dedicated-stream"), sizes=(8,), timings=(Timing.GATED,), case=out_of_place())
    assert "torch" not in table(shown(lines), "gated latency")


def test_without_the_baseline_there_are_no_ratios() -> None:
    text = table(shown(sweep(("stream-free", "torch"), sizes=(8,), timings=(Timing.GATED,))), "gated latency")
    assert not re.search(r"\bratio\b", text)
    assert "baseline" not in text
    assert "8.42" in text


def test_failures_stand_in_their_cells_and_below() -> None:
    lines = [
        *sweep(sizes=(8,), timings=(Timing.GATED,)),
        wrong(arm="torch"),
        samples("stream-free"),
        hang(case=case(2048), arm="torch-async"),
        crash(case=case(4096), arm="stream-free"),
    ]
    text = shown(lines)
    for title in ("gated latency", "gated bandwidth"):
        of_title = table(text, title)
        assert re.search(r"^ *1K .*WRONG \(12\)", of_title, re.MULTILINE)
        assert re.search(r"^ *2K +HANG", of_title, re.MULTILINE)
        assert re.search(r"^ *4K +CRASH", of_title, re.MULTILINE)
    below = flat(text[text.rindex("WRONG:") :])
    assert "WRONG: wrong results in 1 cell of torch" in below
    assert "HANG: all_reduce bfloat16 sum 2048 B, arm torch-async, rank 3 on node7: in gated" in below
    assert "arm stream-free, rank 1 on node7: ncclSystemError" in below


def test_a_wrong_time_is_not_shown() -> None:
    text = shown([samples("torch", status=Status.WRONG, wrong=3, samples_us=(123.0,)), samples("stream-free")])
    assert "WRONG (3)" in text
    assert "123" not in text


def test_a_user_arm_from_a_built_in_arm_is_listed_with_its_differences() -> None:
    user_arms = [
        {"name": "bound", "target": "stream-free", "transport": "nccl4py", "variables": {}},
        {"name": "few", "target": "stream-free", "variables": {"NCCL_MAX_CTAS": "4", "NCCL_ALGO": "Ring"}},
    ]
    made_up = Run(meta=meta() | {"config": meta()["config"] | {"user_arms": user_arms}}, lines=(samples(),))
    text = flat(shown(made_up))
    assert "bound: stream-free over nccl4py" in text
    assert "few: stream-free with NCCL_MAX_CTAS=4, NCCL_ALGO=Ring" in text


def test_gaps_are_listed_once_with_the_reason() -> None:
    left_out = {"left_out": ["torch does not run this: no such form"]}
    lines = (samples(), Skipped(case=case(2**34), reason="its buffers do not fit"))
    text = flat(shown(Run(meta=meta() | left_out, lines=lines)))
    assert text.count("torch does not run this: no such form") == 1
    assert "17179869184 B: skipped, its buffers do not fit" in text


def test_a_cpu_run_has_a_notice_at_the_top_and_on_every_table() -> None:
    lines = sweep(sizes=(8,), per_iteration=per_iteration())
    text = shown(lines, device="cpu")
    titles = re.findall(r"^all_reduce .*4 ranks, ", text, re.MULTILINE)
    assert len(titles) == 11
    assert text.count(DEVICES["cpu"].figures_notice) == len(titles) + 1
    assert DEVICES["cpu"].figures_notice not in shown(lines)


def test_piped_output_is_plain_ascii() -> None:
    lines = [*sweep(sizes=(8,)), crash(message="caf\u00e9 \x1b[31mred\x07 \u2500")]
    text = TerminalReport.for_stream(io.StringIO()).render(Analysis.of(run(lines)))
    assert text.isascii()
    assert all(character.isprintable() or character == "\n" for character in text)
    assert r"caf\xe9 \x1b[31mred\x07" in text


def test_a_terminal_gets_colour_and_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    styled = TerminalReport(width=80, styled=True, detail=Detail.FULL).render(Analysis.of(run(EVERYTHING)))
    assert "\x1b[1;31mHANG" in styled
    assert re.sub(r"\x1b\[[\d;]*m", "", styled) == shown(EVERYTHING)


def test_the_width_is_80_in_a_pipe_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.__stdout__", io.StringIO())
    monkeypatch.delenv("COLUMNS", raising=False)
    assert TerminalReport.for_stream(io.StringIO()) == TerminalReport(width=80, styled=False)
    monkeypatch.setenv("COLUMNS", "133")
    assert TerminalReport.for_stream(io.StringIO()).width == 133
    assert TerminalReport.for_stream(io.StringIO(), width=99).width == 99


def test_a_cell_without_a_kept_batch_is_marked() -> None:
    text = shown([samples("torch", samples_us=(), discarded=9), samples("stream-free")])
    assert "DISCARDED" in table(text, "gated latency")


def test_warnings_about_the_files_are_shown() -> None:
    warnings = ("samples.jsonl ends within line 2",)
    assert warnings[0] in shown(Run(meta=meta(), lines=(samples(),), warnings=warnings))


def test_percentiles_have_a_table_only_where_measured() -> None:
    text = table(shown([samples("torch", per_iteration=per_iteration())]), "gated single operations (us)")
    assert re.search(r"1K +torch +10.1 +11.2 +14.8 +33.3 +1234 +2.75", text)
    assert "the column cost shows what they add" in flat(text)
    assert "single operations (us)" not in shown([samples()])


def test_percentiles_that_are_absent_have_no_column() -> None:
    given = replace(per_iteration(), p50_us=None, p90_us=None, cost_us=None)
    text = table(shown([imported(per_iteration=given)]), "gated single operations (us)")
    assert re.search(r"size +arm +min +p99 +max\n", text)
    assert "cost" not in text


def test_an_import_says_how_its_times_merge_the_ranks() -> None:
    def notes(**config: object) -> str:
        return flat(shown([imported()], source=["all_reduce.txt"], baseline=ARM, **config))

    assert "Imported: each time is the average over ranks, unless nccl-tests ran with -a 0, 2 or 3." in notes()
    assert "Imported: each time is the average over ranks (-a 1)." in notes(over_ranks="average")
    assert "Imported: each time is the slowest rank's (-a 3)." in notes(over_ranks="maximum")
    assert "slowest" not in notes() + notes(over_ranks="average")
    assert "Imported" not in shown([samples()])


def test_an_incomplete_run_says_so_below_the_title() -> None:
    made_up = Run(meta=meta() | {"status": "interrupted"}, lines=(samples(),))
    assert shown(made_up).splitlines()[1] == "  INTERRUPTED: a part of the run is missing"


@pytest.mark.parametrize(
    ("transport", "text"),
    [
        ({"name": "nccl4py", "version": "2.28.9"}, "on cuda, NCCL 2.28.9 by nccl4py, nccl-bench"),
        ({"name": "nccl", "version": "2.28.9"}, "on cuda, NCCL 2.28.9 by ctypes, nccl-bench"),
        ({"version": "2.28.9"}, "on cuda, NCCL 2.28.9 by ctypes, nccl-bench"),
        ({"name": "gloo", "version": "2.13.0"}, "on cuda, nccl-bench"),
        (None, "on cuda, nccl-bench"),
    ],
)
def test_the_machine_has_nccl_and_its_binding(transport: dict[str, str] | None, text: str) -> None:
    made_up = Run(meta=meta() | {"worker": {"transport": transport}}, lines=(samples(),))
    assert text in flat(shown(made_up))


def test_a_note_says_why_the_binding_is_ctypes() -> None:
    worker = {"transport": {"version": "2.28.9"}, "binding_reason": "nccl4py 0.6.0 is not installed: pip install it"}
    made_up = Run(meta=meta() | {"worker": worker}, lines=(samples(),))
    assert "call NCCL by ctypes, whose calls cost more than those of nccl4py: nccl4py 0.6.0 is not" in flat(
        shown(made_up)
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7.654, "7.65"),
        (9.999, "10.0"),
        (12.62, "12.6"),
        (607.1, "607"),
        (4612.3, "4612"),
        (0.01234, "0.0123"),
        (0, "0"),
    ],
)
def test_a_time_has_three_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.379, "0.38x"), (9.999, "10.0x"), (12.34, "12.3x"), (140.2, "140x")])
def test_a_ratio_has_few_digits(value: float, text: str) -> None:
    assert format_ratio(value) == text


def test_a_small_bandwidth_is_not_zero() -> None:
    assert (bandwidth(0.001), bandwidth(0.006), bandwidth(0), bandwidth(478.514)) == ("<0.01", "0.01", "0.00", "478.51")


def test_a_name_folds_after_a_hyphen() -> None:
    assert fold("dedicated-stream", 10) == ("dedicated-", "stream")
    assert fold("dedicated-stream-wait-stream", 10) == ("dedicated-stream-", "wait-stream")
    assert fold("stream-free", 11) == ("stream-free",)
    assert fold("transport", 4) == ("transport",)


def test_csv_reads_back_with_the_documented_columns() -> None:
    analysis = Analysis.of(run(EVERYTHING))
    text = csv_report(analysis)
    back = pd.read_csv(io.StringIO(text), dtype_backend="numpy_nullable")
    assert list(back.columns) == list(COLUMNS)
    for name, values in analysis.rows.columns().items():
        read = [None if pd.isna(value) else value for value in back[name]]
        # Numbers have eight digits.
        assert read == [pytest.approx(value, rel=1e-7) if isinstance(value, float) else value for value in values], name
    assert ",1024," in text
    assert "1024.0" not in text
    assert "nan" not in text.lower()


def test_every_report_ends_its_last_line() -> None:
    reports: list[Report[Analysis]] = [TerminalReport(width=80, styled=False).render, csv_report, json_report]
    assert all(report(Analysis.of(run([samples(arm) for arm in ARMS]))).endswith("\n") for report in reports)
