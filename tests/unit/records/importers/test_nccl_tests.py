from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.analysis.rows import rows_of
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.timings import Timing
from nccl_bench.errors import RecordError
from nccl_bench.records.importers import OverRanks, read
from nccl_bench.records.importers.nccl_tests import ARM
from nccl_bench.records.schema import Skipped, Status
from tests.support.nccl_tests_files import (
    DATA,
    DOCUMENT,
    FILES,
    ROWS,
    SIZES,
    TABLE,
    document,
    run_of,
    samples_of,
    table_row,
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_json_and_table_give_the_same_cases_of_all_ranks(file: Path) -> None:
    imported = read(file)
    lines = samples_of(imported)
    assert [(line.case.size_bytes, line.case.count, line.case.placement) for line in lines] == [
        (8, 4, Placement.IN_PLACE),
        (8, 4, Placement.OUT_OF_PLACE),
        (8388608, 4194304, Placement.IN_PLACE),
        (8388608, 4194304, Placement.OUT_OF_PLACE),
    ]
    assert {(line.case.collective, line.case.dtype, line.case.redop, line.case.root) for line in lines} == {
        ("all_reduce", "bfloat16", RedOp.SUM, None)
    }
    assert {(line.arm, line.timing, line.status, line.wrong) for line in lines} == {(ARM, Timing.EAGER, Status.OK, 0)}
    assert {(line.ops_per_batch, line.rounds, line.world_size) for line in lines} == {(50, (0,), 4)}
    # The JSON lists only the first device of each process.
    assert (imported.world_size, str(imported.library)) == (4, "NCCL 2.28.9")
    assert (imported.source, imported.hostnames, imported.gpus) == ((file.name,), ("vm",), ("NVIDIA H200",))
    assert (imported.world_size, imported.processes) == (4, 1)
    assert not imported.left_out


def test_json_of_gpus_of_amd_has_the_version_of_rccl(written: Any) -> None:
    text = (DATA / "all_reduce.json").read_text(encoding="utf-8")
    imported = written(("NVIDIA H200", "AMD Instinct MI300X"), text=text, name="made-up.json")
    assert str(imported.library) == "RCCL 2.28.9"
    assert imported.meta()["worker"] == {"transport": {"name": "rccl", "version": "2.28.9"}}


def test_each_placement_has_its_own_time() -> None:
    def times(name: str) -> list[tuple[float, ...]]:
        return [line.samples_us for line in samples_of(read(DATA / name))]

    assert times("all_reduce.txt") == [(9.5,), (10.08,), (61.77,), (62.48,)]
    assert times("all_reduce.json") == [(9.954095,), (9.23868,), (61.194615,), (62.02521,)]


def test_bandwidth_is_the_same_as_nccl_tests_computes() -> None:
    results = json.loads((DATA / "all_reduce.json").read_text(encoding="utf-8"))["results"]
    theirs = [
        result[placement][key]
        for result in results
        for placement in ("in_place", "out_of_place")
        for key in ("alg_bw", "bus_bw")
    ]
    rows = rows_of(run_of(read(DATA / "all_reduce.json")))
    assert [value for row in rows for value in (row.algbw_gb_s, row.busbw_gb_s)] == pytest.approx(theirs, abs=1e-6)


def test_percentiles_that_the_file_lacks_are_none() -> None:
    of_json, of_text = (
        samples_of(read(DATA / f"all_reduce-per-iteration.{form}"))[1].per_iteration for form in ("json", "txt")
    )
    assert of_json is not None
    assert of_text is not None
    assert (of_json.operations, of_json.min_us, of_json.p50_us, of_json.p99_us) == (50, 10.144, 10.656, 55.456001)
    assert (of_text.operations, of_text.min_us, of_text.p50_us, of_text.p99_us) == (50, 10.14, None, 55.46)
    assert of_json.p90_us is of_json.cost_us is of_text.p90_us is None
    assert samples_of(read(DATA / "all_reduce.txt"))[0].per_iteration is None


def test_operations_of_percentiles_exclude_skipped_iterations(written: Any) -> None:
    for name, old, new in (
        ("all_reduce-per-iteration.json", '"skipped_iterations":0', '"skipped_iterations":10'),
        ("all_reduce-per-iteration.txt", "process rows ", "process rows; summary skips first 10 iterations "),
    ):
        text = (DATA / name).read_text(encoding="utf-8")
        (line, *_) = samples_of(written((old, new), text=text))
        assert line.per_iteration is not None
        assert line.per_iteration.operations == 40


@pytest.mark.parametrize(
    ("args", "kind"),
    [
        ([], OverRanks.AVERAGE),
        (["-a", "0"], OverRanks.FIRST),
        (["-a", "1"], OverRanks.AVERAGE),
        (["-a", "2"], OverRanks.MINIMUM),
        (["-b", "8", "-a", "3", "-G", "20"], OverRanks.MAXIMUM),
        (["-a3"], OverRanks.MAXIMUM),
        (["--average", "3"], OverRanks.MAXIMUM),
        (["--average=3"], OverRanks.MAXIMUM),
        (["--ave=3"], OverRanks.MAXIMUM),
        (["-a", "3", "-a", "2"], OverRanks.MINIMUM),
        # Values of other options.
        (["-J", "-a3"], OverRanks.AVERAGE),
        (["--output_file", "-a", "3"], OverRanks.AVERAGE),
        (["--agg_iters", "3"], OverRanks.AVERAGE),
        (["-m", "3"], OverRanks.AVERAGE),
        (["--agg_iters=3", "-a", "3"], OverRanks.MAXIMUM),
        # Not a value of -a.
        (["-a", "7"], None),
        (["-a"], None),
        (["-a", 3.5], None),
        (["-a", ["3"], "-a", "3"], OverRanks.MAXIMUM),
    ],
)
def test_over_ranks_follows_the_last_average_option_of_the_arguments(
    args: list[object], kind: OverRanks | None, written: Any
) -> None:
    imported = written(text=document(args=["./build/all_reduce_perf", *args]))
    assert imported.over_ranks is kind
    assert imported.meta()["config"]["over_ranks"] == kind


def test_over_ranks_is_known_from_json_only() -> None:
    assert [read(file).over_ranks for file in FILES] == [
        OverRanks.AVERAGE if file.suffix == ".json" else None for file in FILES
    ]


def test_import_keeps_only_nccl_variables_of_the_environment(written: Any) -> None:
    env = ["NCCL_ALGO=Ring", "CUDA_VERSION=13.0.2", "AWS_SECRET=hunter2", "MY_NCCL_KEY=hunter3", "odd"]
    imported = written(text=document(env=env))
    assert imported.variables == {"NCCL_ALGO": "Ring"}
    assert "hunter" not in repr(imported)
    assert (imported.started, imported.finished) == ("2026-11-22T09:16:22", "2026-11-22T09:16:24")


@pytest.mark.parametrize(
    ("program", "collective", "redop", "root", "count", "placements"),
    [
        ("all_reduce_perf", "all_reduce", RedOp.SUM, None, 256, 2),
        ("all_gather_perf", "all_gather", None, None, 64, 2),
        ("reduce_scatter_perf_mpi", "reduce_scatter", RedOp.SUM, None, 64, 2),
        ("alltoall_perf", "all_to_all", None, None, 64, 1),
        ("broadcast_perf", "broadcast", None, 3, 256, 2),
        ("reduce_perf", "reduce", RedOp.SUM, 3, 256, 2),
        ("gather_perf", "gather", None, 3, 64, 2),
        ("sendrecv_perf", "send_recv", None, None, 256, 1),
    ],
)
def test_each_program_gives_the_cases_of_its_collective(
    program: str, collective: str, redop: RedOp | None, root: int | None, count: int, placements: int, written: Any
) -> None:
    rows = [
        table_row(
            1024,
            count,
            redop="sum",
            root=-1 if root is None else root,
            times_us=(10.0, 11.0),
            wrong=("0", "N/A"),
            bus_factor=COLLECTIVES[collective].bus_factor(4),
        )
    ]
    cases = {line.case: line for line in samples_of(written(("all_reduce_perf", program), rows=rows))}
    assert {(case.collective, case.redop, case.root, case.count) for case in cases} == {
        (collective, redop, root, count)
    }
    assert len(cases) == placements
    assert {case.placement: line.samples_us for case, line in cases.items()}[Placement.OUT_OF_PLACE] == (10.0,)
    assert {case.placement: line.wrong for case, line in cases.items()}.get(Placement.IN_PLACE) is None


@pytest.mark.parametrize("program", ["scatter_perf", "hypercube_perf", "./build/alltoallv_perf"])
def test_import_refuses_an_unknown_collective_and_lists_the_known_ones(program: str, written: Any) -> None:
    message = f'is "{program}", and nccl-bench has only the collectives of all_reduce, .*, sendrecv'
    with pytest.raises(RecordError, match=message):
        written(("all_reduce_perf", program))
    with pytest.raises(RecordError, match=message):
        written(text=document(args=[program]))


def test_each_dtype_redop_and_root_is_a_separate_case(written: Any) -> None:
    rows = [
        table_row(1024, 256, "float", redop="sum", root=0),
        table_row(1024, 512, "half", redop="sum", root=0),
        table_row(1024, 512, "half", redop="max", root=0),
        table_row(1024, 512, "half", redop="max", root=1),
    ]
    cases = [line.case for line in samples_of(written(("all_reduce_perf", "reduce_perf"), rows=rows))]
    assert [(case.dtype, case.redop, case.root) for case in cases[::2]] == [
        ("float32", "sum", 0),
        ("float16", "sum", 0),
        ("float16", "max", 0),
        ("float16", "max", 1),
    ]


def test_import_leaves_out_unknown_types_and_names_them(written: Any) -> None:
    rows = [
        table_row(1024, 256, "uint32", "sum"),
        table_row(1024, 256, "float", "mulsum"),
        table_row(1024, 256, "float", "sum"),
    ]
    imported = written(rows=rows)
    assert len(imported.lines) == 2
    assert imported.left_out == (
        'made-up.txt: "uint32 sum", which nccl-bench does not have',
        'made-up.txt: "float mulsum", which nccl-bench does not have',
    )
    with pytest.raises(RecordError, match='no result that nccl-bench can read: "uint32 sum"'):
        written(rows=rows[:1])


def test_a_case_measured_twice_has_two_rounds(written: Any) -> None:
    rows = [table_row(8, 2, redop="sum"), table_row(8, 2, redop="sum", times_us=(12.0, 12.0))]
    (line, _) = samples_of(written(rows=rows))
    assert (line.rounds, line.samples_us) == ((0, 1), (10.0, 12.0))
    # Sendrecv reduces nothing, but `-o all` repeats it all the same.
    rows = [table_row(8, 2, redop="sum"), table_row(8, 2, redop="max")]
    (line,) = samples_of(written(("all_reduce_perf", "sendrecv_perf"), rows=rows))
    assert line.rounds == (0, 1)


def test_several_rounds_keep_minimum_and_maximum_and_lose_percentiles(written: Any) -> None:
    again = deepcopy(DOCUMENT["results"][0])
    again["in_place_per_iter"] |= {"min_us": 1.5, "max_us": 99.5}
    (line, *_) = samples_of(written(text=document(results=[DOCUMENT["results"][0], again])))
    times = line.per_iteration
    assert times is not None
    assert (times.operations, times.min_us, times.max_us, times.p50_us, times.p99_us) == (100, 1.5, 99.5, None, None)


def test_an_empty_message_is_skipped_once_per_placement(written: Any) -> None:
    empty = table_row(0, 0, times_us=(0.0, 0.0))
    rows = [empty, empty, table_row(64, 4, bus_factor=0.75)]
    text = TABLE.replace(SIZES, "minBytes 16 maxBytes 64 step: 2(factor)")
    imported = written(("all_reduce_perf", "all_gather_perf"), rows=rows, text=text)
    assert not imported.left_out
    skipped = [line for line in imported.lines if isinstance(line, Skipped)]
    assert [line.case.placement for line in skipped] == [Placement.IN_PLACE, Placement.OUT_OF_PLACE]
    assert [line.case.size_bytes for line in samples_of(imported)] == [64, 64]


def test_wrong_elements_are_counted_and_unchecked_results_are_none(written: Any) -> None:
    rows = [table_row(8, 2, redop="sum", wrong=("3", "N/A"))]
    unchecked, wrong = samples_of(written(rows=rows))
    assert (wrong.wrong, wrong.status) == (3, Status.WRONG)
    assert (unchecked.wrong, unchecked.status) == (None, Status.OK)
    results = [DOCUMENT["results"][0] | {"in_place": {"time": 8.0, "alg_bw": 0.001, "bus_bw": 0.0015, "nwrong": None}}]
    assert samples_of(written(text=document(results=results)))[0].wrong is None


@pytest.mark.parametrize(
    ("table", "config", "timing", "operations"),
    [
        (("graph: 0", "graph: 20"), {"graph": 20}, Timing.GRAPH, 1000),
        (("agg iters: 1", "agg iters: 3"), {"aggregated_iterations": 3}, Timing.EAGER, 150),
    ],
)
def test_settings_decide_timing_and_operations_per_batch(
    table: tuple[str, str], config: dict[str, Any], timing: Timing, operations: int, written: Any
) -> None:
    for imported in (written(table), written(text=document(config=DOCUMENT["config"] | config))):
        assert {(line.timing, line.ops_per_batch) for line in samples_of(imported)} == {(timing, operations)}


def test_cpu_time_becomes_the_enqueue_timing(written: Any) -> None:
    assert samples_of(written((" time", " cputime")))[0].timing is Timing.ENQUEUE
    text = document().replace('"time"', '"cpu_time"')
    assert samples_of(written(text=text))[0].timing is Timing.ENQUEUE
    with pytest.raises(RecordError, match="it timed graph launches"):
        written((" time", " cputime"), ("graph: 0", "graph: 2"))


def test_import_refuses_blocking_calls(written: Any) -> None:
    with pytest.raises(RecordError, match="without -z"):
        written(("#\n# Using", "# Blocking Enabled: wait and barrier after each inner iteration\n#\n# Using"))
    with pytest.raises(RecordError, match="without -z"):
        written(text=document(config=DOCUMENT["config"] | {"blocking_collectives": "true"}))


def test_ranks_of_only_one_group_are_counted(written: Any) -> None:
    # NCCL_TESTS_SPLIT: two communicators of two ranks each.
    text = TABLE.replace("nThread 4", "nThread 1")
    for rank in (1, 3):
        text = text.replace(f"Rank  {rank} Group  0", f"Rank  {rank} Group  1")
    assert written(text=text).world_size == 2
    device = DOCUMENT["config"]["devices"][0]
    config = DOCUMENT["config"] | {"devices": [device, device | {"rank": 4, "group": 1}]}
    assert written(text=document(config=config)).world_size == 4


def test_lines_of_other_programs_and_unknown_columns_are_ignored(written: Any) -> None:
    noise = "vm:1625:1640 [0] NCCL INFO Connected all rings\n"
    stamped = [line + "  2026-11-22 09:16:22" for line in ROWS]
    replaced = [("#wrong \n", "#wrong           timestamp\n"), (ROWS[0], stamped[0]), (ROWS[1], noise + stamped[1])]
    assert written(*replaced, text="mpirun: warning\n" + TABLE).lines == read(DATA / "all_reduce.txt").lines
    assert written(("\n", "\r\n")).lines == read(DATA / "all_reduce.txt").lines
