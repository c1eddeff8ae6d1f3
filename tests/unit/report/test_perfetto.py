"""The timeline of a run in Chrome's Trace Event Format: its lanes, the order of its batches, and its notes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.run import Run
from nccl_bench.report.perfetto import perfetto_report
from tests.support.real_records import REAL_RECORDS
from tests.support.synthetic_runs import case, crash, imported, run, samples
from tests.support.trace_events import lanes_of, problems_of


def two_ranks(**changes: Any) -> Run:
    """Return a run of two arms in two rounds, in which the order of the arms changes and rank 0 is once the slowest."""
    base = {"world_size": 2, "ops_per_batch": 100, "rounds": (0, 1), "samples_us": (8.0, 9.0)}
    ranks = {"fastest_rank_us": (7.0, 7.5), "slowest_rank": (1, 0)}
    lines = [
        samples("dedicated-stream", **base | ranks | {"arms_before": (0, 1), "began_s": (2.0, 2.0032)} | changes),
        samples("torch", **base | ranks | {"arms_before": (1, 0), "began_s": (2.001, 2.0021)} | changes),
    ]
    made = run(lines)
    made.meta["launch"]["world_size"] = 2
    return made


def timeline(of: Run) -> str:
    return perfetto_report(Analysis.of(of))


def test_batches_stand_where_they_began_in_a_lane_for_each_of_two_ranks() -> None:
    lanes = lanes_of(timeline(two_ranks()))
    assert list(lanes) == ["cases", "rank 0", "rank 1"]
    batches = [
        [(each.name, each.begin_ns, each.end_ns - each.begin_ns) for each in lanes[name]] for name in list(lanes)[1:]
    ]
    assert batches == [
        [
            ("dedicated-stream", 2_000_000_000, 700_000),
            ("torch", 2_001_000_000, 700_000),
            ("torch", 2_002_100_000, 900_000),
            ("dedicated-stream", 2_003_200_000, 900_000),
        ],
        [
            ("dedicated-stream", 2_000_000_000, 800_000),
            ("torch", 2_001_000_000, 800_000),
            ("torch", 2_002_100_000, 750_000),
            ("dedicated-stream", 2_003_200_000, 750_000),
        ],
    ]
    assert lanes["rank 1"][0].facts == {
        "case": "all_reduce bfloat16 sum 1024 B",
        "timing": "gated",
        "round": 0,
        "us per operation": 8.0,
        "operations": 100,
        "slowest rank": 1,
    }


def test_a_case_has_its_timings_and_a_timing_its_rounds() -> None:
    spans = lanes_of(timeline(two_ranks()))["cases"]
    assert [(span.name, span.begin_ns, span.end_ns) for span in spans] == [
        ("all_reduce bfloat16 sum 1024 B", 2_000_000_000, 2_004_100_000),
        ("gated", 2_000_000_000, 2_004_100_000),
        ("round 0", 2_000_000_000, 2_001_800_000),
        ("round 1", 2_002_100_000, 2_004_100_000),
    ]


def test_batches_of_an_older_record_are_laid_end_to_end_and_the_timeline_says_so() -> None:
    text = timeline(two_ranks(began_s=()))
    assert [(each.name, each.begin_ns) for each in lanes_of(text)["rank 0"]] == [
        ("dedicated-stream", 0),
        ("torch", 800_000),
        ("torch", 1_600_000),
        ("dedicated-stream", 2_500_000),
    ]
    document = json.loads(text)
    assert document["traceEvents"][0]["args"]["name"] == "made-up (begin times not recorded: batches end to end)"
    assert "laid end to end" in document["otherData"]["notes"]
    assert "order of the arms in a round is not recorded" not in document["otherData"]["notes"]
    without_order = json.loads(timeline(two_ranks(began_s=(), arms_before=())))
    assert "order of the arms in a round is not recorded" in without_order["otherData"]["notes"]


def test_no_batch_begins_before_the_end_of_the_one_before_it() -> None:
    # Rank 1 needs 2 ms for the first batch, and rank 0 begins the next one after 1 ms.
    lanes = lanes_of(timeline(two_ranks(samples_us=(20.0, 20.0))))
    assert [each.begin_ns for each in lanes["rank 1"]][:2] == [2_000_000_000, 2_002_000_000]


def test_of_many_ranks_there_are_the_slowest_and_the_fastest() -> None:
    text = timeline(run([samples(began_s=(1.0, 2.0, 3.0))]))
    lanes = lanes_of(text)
    assert list(lanes) == ["cases", "slowest rank", "fastest rank"]
    assert [lanes[name][0].end_ns - 1_000_000_000 for name in list(lanes)[1:]] == [840_000, 831_600]
    assert "not those of the other ranks" in json.loads(text)["otherData"]["notes"]


def test_an_import_has_one_lane_and_names_the_rule_over_ranks() -> None:
    made = run([imported(arm="nccl-tests", ops_per_batch=0)], baseline="nccl-tests", over_ranks="average")
    text = timeline(made)
    assert list(lanes_of(text)) == ["cases", "time over ranks"]
    assert "one time for all ranks: average." in json.loads(text)["otherData"]["notes"]


def test_launches_are_not_joined() -> None:
    lines = [samples(launch=launch, began_s=(launch, launch + 0.1, launch + 0.2)) for launch in (1, 2)]
    cases = [each for each in lanes_of(timeline(run(lines)))["cases"] if "launch" in each.name]
    assert [each.name.partition(", ")[2] for each in cases] == ["launch 1", "launch 2"]


def test_a_run_without_times_has_a_timeline_without_slices() -> None:
    assert {*map(len, lanes_of(timeline(run([crash()]))).values())} == {0}


@pytest.mark.parametrize("record", REAL_RECORDS, ids=[record.name for record in REAL_RECORDS])
def test_the_timeline_of_a_real_record_is_valid_and_has_every_batch(record: Path) -> None:
    measured = Run.load(record)
    _cases, *ranks = lanes_of(timeline(measured)).values()
    assert [len(slices) for slices in ranks] == [len(measured.samples.samples_us.numbers)] * 2


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"tid": 7}, "no name"),
        ({"dur": 1_500.0}, "ends behind"),
        ({"ts": -1.0}, "'ts'"),
        ({"dur": "1"}, "'dur'"),
        ({"ph": "B"}, "'ph'"),
        ({"pid": 0}, "'pid'"),
    ],
)
def test_the_check_of_timelines_notices_damage(change: dict[str, Any], problem: str) -> None:
    lines = timeline(run([samples(timing=Timing.EAGER, case=case(8), began_s=(1.0, 1.001, 1.002))])).splitlines()
    at = next(number for number, line in enumerate(lines) if '"tid": 2, "ts"' in line)
    lines[at] = json.dumps(json.loads(lines[at].rstrip(",")) | change) + ","
    (message,) = problems_of("\n".join(lines))
    assert problem in message
