"""What nccl-tests writes, as a run; and what it does not write, as one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nccl_bench.analysis.summary import summary_rows
from nccl_bench.catalog.collectives import Placement, RedOp
from nccl_bench.catalog.timings import Timing
from nccl_bench.cli import main
from nccl_bench.errors import RecordError, UsageError
from nccl_bench.records.importers.nccl_tests import ARM, Imported, OverRanks, merged, read
from nccl_bench.records.run import FILES as FILES_OF_A_RUN
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples, Skipped, Status, dump, parse
from nccl_bench.report.export import CsvReport, JsonReport
from nccl_bench.report.terminal import TerminalReport

# Excerpts of real files: of 14 sizes two, of the times of single operations three.
DATA = Path(__file__).parents[3] / "data" / "nccl-tests"
FILES = sorted(DATA.iterdir())
DOCUMENT = json.loads((DATA / "all_reduce-per-iteration.json").read_text(encoding="utf-8"))
TABLE = (DATA / "all_reduce.txt").read_text(encoding="utf-8")
ROWS = [line for line in TABLE.split("\n") if line.lstrip()[:1].isdigit()]
HALF = "    10.00    0.00    0.00       0"


def samples_of(imported: Imported) -> list[Samples]:
    return [line for line in imported.lines if isinstance(line, Samples)]


def row(
    size: int, count: int, dtype: str = "float", redop: str = "none", root: int = -1, halves: str = HALF + HALF
) -> str:
    return f"{size:12d}  {count:12d}  {dtype:>8}  {redop:>6}  {root:6d}{halves}"


@pytest.fixture
def written(tmp_path: Path) -> Any:
    """Writes a file and reads it: a table of ``rows`` by default, with the first text of each pair replaced."""

    def write_and_read(
        *replaced: tuple[str, str], rows: list[str] | None = None, text: str = TABLE, name: str = "made-up.txt"
    ) -> Imported:
        for old, new in replaced:
            assert old in text
            text = text.replace(old, new)
        if rows is not None:
            text = text.replace("\n".join(ROWS), "\n".join(rows))
        (tmp_path / name).write_text(text, encoding="utf-8")
        return read(tmp_path / name)

    return write_and_read


def document(**changes: Any) -> str:
    return json.dumps(DOCUMENT | changes)


def run_of(imported: Imported) -> Run:
    return Run(meta=json.loads(json.dumps(imported.meta())), lines=imported.lines)


# -- what is read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_both_forms_tell_the_same_cases_of_all_ranks(file: Path) -> None:
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
    # The JSON lists the first device of each process alone.
    assert (imported.world_size, imported.nccl_version) == (4, "2.28.9")
    assert (imported.source, imported.hostnames, imported.gpus) == ((file.name,), ("vm",), ("NVIDIA H200",))
    assert not imported.left_out


def test_times_are_those_of_the_halves() -> None:
    def times(name: str) -> list[tuple[float, ...]]:
        return [line.samples_us for line in samples_of(read(DATA / name))]

    assert times("all_reduce.txt") == [(9.5,), (10.08,), (61.77,), (62.48,)]
    assert times("all_reduce.json") == [(9.954095,), (9.23868,), (61.194615,), (62.02521,)]


def test_our_bandwidth_is_nccl_tests_own() -> None:
    results = json.loads((DATA / "all_reduce.json").read_text(encoding="utf-8"))["results"]
    theirs = [
        result[half][key] for result in results for half in ("in_place", "out_of_place") for key in ("alg_bw", "bus_bw")
    ]
    rows = summary_rows(run_of(read(DATA / "all_reduce.json")))
    assert [value for found in rows for value in (found.algbw_gb_s, found.busbw_gb_s)] == pytest.approx(
        theirs, abs=1e-6
    )


def test_percentiles_are_those_given_and_no_others() -> None:
    of_json, of_text = (
        samples_of(read(DATA / f"all_reduce-per-iteration.{form}"))[1].per_iteration for form in ("json", "txt")
    )
    assert of_json is not None
    assert of_text is not None
    assert (of_json.operations, of_json.min_us, of_json.p50_us, of_json.p99_us) == (50, 10.144, 10.656, 55.456001)
    assert (of_text.operations, of_text.min_us, of_text.p50_us, of_text.p99_us) == (50, 10.14, None, 55.46)
    assert of_json.p90_us is of_json.cost_us is of_text.p90_us is None
    assert samples_of(read(DATA / "all_reduce.txt"))[0].per_iteration is None


def test_iterations_left_out_of_percentiles_are_not_counted(written: Any) -> None:
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
        # The values of others.
        (["-J", "-a3"], OverRanks.AVERAGE),
        (["--output_file", "-a", "3"], OverRanks.AVERAGE),
        (["--agg_iters", "3"], OverRanks.AVERAGE),
        (["-m", "3"], OverRanks.AVERAGE),
        (["--agg_iters=3", "-a", "3"], OverRanks.MAXIMUM),
        # What is none of its values is not known.
        (["-a", "7"], None),
        (["-a"], None),
        (["-a", 3.5], None),
        (["-a", ["3"], "-a", "3"], OverRanks.MAXIMUM),
    ],
)
def test_its_arguments_tell_what_is_made_of_the_ranks_times(
    args: list[object], kind: OverRanks | None, written: Any
) -> None:
    imported = written(text=document(args=["./build/all_reduce_perf", *args]))
    assert imported.over_ranks is kind
    assert imported.meta()["config"]["over_ranks"] == kind


def test_the_table_does_not_tell_what_is_made_of_the_ranks_times() -> None:
    assert [read(file).over_ranks for file in FILES] == [
        OverRanks.AVERAGE if file.suffix == ".json" else None for file in FILES
    ]


def test_of_the_environment_only_nccls_settings_are_kept(written: Any) -> None:
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
        ("sendrecv_perf", "send_recv", None, None, 256, 1),
    ],
)
def test_every_collective_is_ours_by_its_name(
    program: str, collective: str, redop: RedOp | None, root: int | None, count: int, placements: int, written: Any
) -> None:
    rows = [
        row(
            1024,
            count,
            redop="sum",
            root=-1 if root is None else root,
            halves=HALF + "    11.00    0.00    0.00     N/A",
        )
    ]
    cases = {line.case: line for line in samples_of(written(("all_reduce_perf", program), rows=rows))}
    assert {(case.collective, case.redop, case.root, case.count) for case in cases} == {
        (collective, redop, root, count)
    }
    assert len(cases) == placements
    assert {case.placement: line.samples_us for case, line in cases.items()}[Placement.OUT_OF_PLACE] == (10.0,)
    assert {case.placement: line.wrong for case, line in cases.items()}.get(Placement.IN_PLACE) is None


@pytest.mark.parametrize("program", ["gather_perf", "scatter_perf", "hypercube_perf", "./build/alltoallv_perf"])
def test_a_collective_that_we_do_not_have_is_refused_with_those_we_have(program: str, written: Any) -> None:
    with pytest.raises(RecordError, match=f'of "{program}", and nccl-bench has only all_reduce, .*, sendrecv'):
        written(("all_reduce_perf", program))
    with pytest.raises(RecordError, match=f'of "{program}", and nccl-bench has only all_reduce, .*, sendrecv'):
        written(text=document(args=[program]))


def test_every_dtype_redop_and_root_is_a_case_of_its_own(written: Any) -> None:
    rows = [
        row(1024, 256, "float", redop="sum", root=0),
        row(1024, 512, "half", redop="sum", root=0),
        row(1024, 512, "half", redop="max", root=0),
        row(1024, 512, "half", redop="max", root=1),
    ]
    cases = [line.case for line in samples_of(written(("all_reduce_perf", "reduce_perf"), rows=rows))]
    assert [(case.dtype, case.redop, case.root) for case in cases[::2]] == [
        ("float32", "sum", 0),
        ("float16", "sum", 0),
        ("float16", "max", 0),
        ("float16", "max", 1),
    ]


def test_types_that_we_do_not_have_are_left_out_by_name(written: Any) -> None:
    rows = [row(1024, 256, "uint32", "sum"), row(1024, 256, "float", "mulsum"), row(1024, 256, "float", "sum")]
    imported = written(rows=rows)
    assert len(imported.lines) == 2
    assert imported.left_out == (
        'made-up.txt: "uint32 sum", which nccl-bench does not have',
        'made-up.txt: "float mulsum", which nccl-bench does not have',
    )
    with pytest.raises(RecordError, match='no result that nccl-bench can read: "uint32 sum"'):
        written(rows=rows[:1])


def test_what_was_measured_again_is_another_round(written: Any) -> None:
    rows = [row(8, 2, redop="sum"), row(8, 2, redop="sum", halves=(HALF.replace("10.00", "12.00")) * 2)]
    (line, _) = samples_of(written(rows=rows))
    assert (line.rounds, line.samples_us) == ((0, 1), (10.0, 12.0))
    # Sendrecv reduces nothing, and yet `-o all` repeats it.
    rows = [row(8, 2, redop="sum"), row(8, 2, redop="max")]
    (line,) = samples_of(written(("all_reduce_perf", "sendrecv_perf"), rows=rows))
    assert line.rounds == (0, 1)


def test_percentiles_of_several_rounds_are_their_extremes(written: Any) -> None:
    again = deepcopy(DOCUMENT["results"][0])
    again["in_place_per_iter"] |= {"min_us": 1.5, "max_us": 99.5}
    (line, *_) = samples_of(written(text=document(results=[DOCUMENT["results"][0], again])))
    found = line.per_iteration
    assert found is not None
    assert (found.operations, found.min_us, found.max_us, found.p50_us, found.p99_us) == (100, 1.5, 99.5, None, None)


def test_an_empty_message_is_skipped_once_a_placement(written: Any) -> None:
    empty = row(0, 0, halves=HALF.replace("10.00", " 0.00") * 2)
    imported = written(("all_reduce_perf", "all_gather_perf"), rows=[empty, empty, row(64, 4)])
    skipped = [line for line in imported.lines if isinstance(line, Skipped)]
    assert [line.case.placement for line in skipped] == [Placement.IN_PLACE, Placement.OUT_OF_PLACE]
    assert [line.case.size_bytes for line in samples_of(imported)] == [64, 64]


def test_wrong_elements_are_wrong_and_unchecked_ones_unknown(written: Any) -> None:
    rows = [row(8, 2, redop="sum", halves=HALF[:-1] + "3" + HALF[:-3] + "N/A")]
    unchecked, wrong = samples_of(written(rows=rows))
    assert (wrong.wrong, wrong.status) == (3, Status.WRONG)
    assert (unchecked.wrong, unchecked.status) == (None, Status.OK)
    results = [DOCUMENT["results"][0] | {"in_place": {"time": 9.0, "nwrong": None}}]
    assert samples_of(written(text=document(results=results)))[0].wrong is None


@pytest.mark.parametrize(
    ("table", "config", "timing", "operations"),
    [
        (("graph: 0", "graph: 20"), {"graph": 20}, Timing.GRAPH, 1000),
        (("agg iters: 1", "agg iters: 3"), {"aggregated_iterations": 3}, Timing.EAGER, 150),
    ],
)
def test_settings_decide_timing_and_operations(
    table: tuple[str, str], config: dict[str, Any], timing: Timing, operations: int, written: Any
) -> None:
    for imported in (written(table), written(text=document(config=DOCUMENT["config"] | config))):
        assert {(line.timing, line.ops_per_batch) for line in samples_of(imported)} == {(timing, operations)}


def test_cpu_time_is_the_cost_of_a_call(written: Any) -> None:
    assert samples_of(written((" time", " cputime")))[0].timing is Timing.ENQUEUE
    text = document().replace('"time"', '"cpu_time"')
    assert samples_of(written(text=text))[0].timing is Timing.ENQUEUE
    with pytest.raises(RecordError, match="launching graphs"):
        written((" time", " cputime"), ("graph: 0", "graph: 2"))


def test_calls_that_were_waited_for_are_refused(written: Any) -> None:
    with pytest.raises(RecordError, match="without -z"):
        written(("#\n# Using", "# Blocking Enabled: wait and barrier after each inner iteration\n#\n# Using"))
    with pytest.raises(RecordError, match="without -z"):
        written(text=document(config=DOCUMENT["config"] | {"blocking_collectives": "true"}))


def test_one_of_several_groups_counts(written: Any) -> None:
    # NCCL_TESTS_SPLIT: two communicators of two ranks each.
    text = TABLE.replace("nThread 4", "nThread 1")
    for rank in (1, 3):
        text = text.replace(f"Rank  {rank} Group  0", f"Rank  {rank} Group  1")
    assert written(text=text).world_size == 2
    device = DOCUMENT["config"]["devices"][0]
    config = DOCUMENT["config"] | {"devices": [device, device | {"group": 1}]}
    assert written(text=document(config=config)).world_size == 4


def test_lines_of_other_programs_and_columns_of_other_versions_do_not_disturb(written: Any) -> None:
    noise = "vm:1625:1640 [0] NCCL INFO Connected all rings\n"
    stamped = [line + "  2026-11-22 09:16:22" for line in ROWS]
    replaced = [("#wrong \n", "#wrong           timestamp\n"), (ROWS[0], stamped[0]), (ROWS[1], noise + stamped[1])]
    assert written(*replaced, text="mpirun: warning\n" + TABLE).lines == read(DATA / "all_reduce.txt").lines
    assert written(("\n", "\r\n")).lines == read(DATA / "all_reduce.txt").lines


# -- what is not whole, and what is not nccl-tests' ----------------------------------------------------------------


def test_a_table_without_its_end_gives_its_whole_rows_and_says_so(written: Any) -> None:
    imported = written(text=TABLE[: TABLE.index("203.71") + 8])
    assert {line.case.size_bytes for line in samples_of(imported)} == {8}
    assert imported.left_out == (
        "made-up.txt: the table has no end, since nccl-tests did not finish or its output was cut; whole rows: 1",
    )


def test_a_row_that_was_interrupted_is_left_out_and_counted(written: Any) -> None:
    imported = written(("-1    62.48", "-1vm:1:2 [0] NCCL INFO\n    62.48"))
    assert {line.case.size_bytes for line in samples_of(imported)} == {8}
    assert imported.left_out == ("made-up.txt: rows of the table that are not whole: 1",)


def test_a_document_of_a_test_that_failed_gives_its_whole_rows_and_says_so(written: Any) -> None:
    partial = {key: value for key, value in DOCUMENT["results"][1].items() if key != "actual_iterations"}
    whole = {key: value for key, value in DOCUMENT.items() if key not in ("out_of_bounds", "end_time")}
    imported = written(text=json.dumps(whole | {"results": [DOCUMENT["results"][0], partial]}))
    assert {line.case.size_bytes for line in samples_of(imported)} == {8}
    assert imported.left_out == ("made-up.txt: nccl-tests did not finish; whole rows: 1",)
    assert imported.finished is None
    assert written(text=json.dumps(whole)).left_out == ("made-up.txt: nccl-tests did not finish; whole rows: 2",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no output of nccl-tests"),
        ("size_bytes,time_us\n8,9.5\n", "no output of nccl-tests"),
        ("{}", "no output of nccl-tests"),
        ('{"a": 1}', "no output of nccl-tests"),
        ('{"schema": 2, "tool": "nccl-bench", "version": "0.1.0", "config": {}}', "no output of nccl-tests"),
        (document(version=None), "version, null, is not a whole number"),
        ('{"version": 3', "not JSON"),
        (document(version=4), "version 4 of nccl-tests' JSON, and this nccl-bench reads up to 3"),
        (document(results=[]), "no whole row"),
        (document(start_time="today"), 'start_time is "today"'),
        (document(args=[]), "args[0] is null"),
        (document().replace('"size": 8,', '"size": "8",'), 'results[0].size, "8", is not a whole number from 0'),
        (document().replace('"count": 4,', '"count": 5,'), "8 B and a count of 5 bfloat16, which does not fit"),
        (document().replace("11.01281", "0"), "results[0].in_place.time, 0, is not a time in microseconds"),
        (document().replace("11.01281", '"nan"'), 'results[0].in_place.time, "nan", is not a time'),
        (document().replace("11.01281", "1e999"), "is not a time"),
        (document().replace("11.01281", "1e-300"), "is not a time"),
        (document().replace("11.01281", "1" * 400), "is not a time"),
        (document().replace('"size": 8,', f'"size": {2**60},'), "is not a whole number from 0"),
        (document(config=DOCUMENT["config"] | {"graph": 2**50}), "results[0].actual_iterations times"),
        (TABLE.replace("   time ", "   tyme "), "no whole row"),
        (TABLE.replace("# Collective test starting: all_reduce_perf\n", ""), "0 lines '# Collective test starting"),
        (TABLE + TABLE, "2 lines '# Collective test starting"),
        (TABLE.replace("#  Rank", "# rank"), "lists 0 ranks"),
        (TABLE.replace("#  Rank  3", "# ..."), "lists 3 ranks, and each of its processes has 4"),
        (TABLE.replace("all_reduce_perf", "reduce_perf"), "has the root -1"),
        (TABLE.split("           8")[0], "no whole row"),
        ("[" * 200_000, "no output of nccl-tests"),
        ('{"a":' * 200_000, "not JSON"),
    ],
)
def test_anything_else_is_refused_in_one_line(text: str, says: str, written: Any) -> None:
    with pytest.raises(RecordError) as caught:
        written(text=text)
    message = str(caught.value)
    assert says in message
    assert "made-up.txt: " in message
    assert "\n" not in message


@pytest.mark.parametrize("name", FILES_OF_A_RUN)
def test_a_file_of_a_run_is_refused_with_what_to_give(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"kind": "samples"}\n{}\n')
    with pytest.raises(RecordError, match="to report or compare a run, give its directory"):
        read(tmp_path / name)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, says in (("missing", "No such file"), (".", "directory"), ("binary", "not text")):
        with pytest.raises(RecordError, match=f"cannot be read: .*{says}"):
            read(tmp_path / name)


# -- whatever the file ---------------------------------------------------------------------------------------------

MANY = settings(max_examples=150, deadline=None)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([0, -1, 2**63])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@pytest.fixture(scope="module")
def anything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("anything") / "file"


def read_or_refused(path: Path, data: bytes) -> Imported | RecordError:
    path.write_bytes(data)
    try:
        return read(path)
    except RecordError as error:
        return error


def outcome(path: Path, data: bytes) -> Imported | None:
    """What ``data`` is as a file: a run that is written, read and shown like any other, or one line."""
    imported = read_or_refused(path, data)
    if isinstance(imported, RecordError):
        assert str(imported).startswith(str(path))
        assert "\n" not in str(imported)
        return None
    assert imported.lines
    assert tuple(parse(dump(line)) for line in imported.lines) == imported.lines
    run = run_of(imported)
    for report in (TerminalReport(width=80, styled=False), JsonReport(), CsvReport()):
        assert report.render(run)
    return imported


@MANY
@given(data=st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode(errors="replace")))
def test_any_bytes_are_one_line(anything: Path, data: bytes) -> None:
    assert outcome(anything, data) is None


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_any_truncation_is_whole_rows_or_one_line(anything: Path, file: Path) -> None:
    data = file.read_bytes()
    whole = read(file)
    end = data.find(b"# Out of bounds values :")
    kept = []
    for length in range(len(data)):
        imported = read_or_refused(anything, data[:length])
        if isinstance(imported, RecordError):
            assert "\n" not in str(imported)
            continue
        assert imported.lines == whole.lines[: len(imported.lines)]
        assert bool(imported.left_out) == (length < end + len("# Out of bounds values :"))
        kept.append(len(imported.lines))
    assert set(kept) == (set() if file.suffix == ".json" else {2, 4})


@MANY
@given(value=VALUES)
def test_any_json_is_one_line(anything: Path, value: object) -> None:
    assert outcome(anything, json.dumps(value).encode()) is None
    assert outcome(anything, json.dumps({"version": 3, "results": value, "config": value}).encode()) is None


def places(value: object) -> Iterator[tuple[Any, Any]]:
    """Every container below ``value`` with each of its keys."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_field_gone_or_of_another_type_is_a_run_or_one_line(anything: Path, data: st.DataObject) -> None:
    changed = deepcopy(DOCUMENT)
    for _ in range(data.draw(st.integers(1, 2))):
        container, key = data.draw(st.sampled_from(list(places(changed))))
        if data.draw(st.booleans()):
            del container[key]
        else:
            container[key] = data.draw(VALUES)
    outcome(anything, json.dumps(changed).encode())


@MANY
@given(data=st.data())
def test_any_damage_to_a_table_is_a_run_or_one_line(anything: Path, data: st.DataObject) -> None:
    text = (DATA / "all_reduce-per-iteration.txt").read_text(encoding="utf-8")
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, min(len(text), begin + 20)))
    inserted = data.draw(st.text(max_size=5) | st.integers().map(str) | st.sampled_from(["nan", "-1", "\n", "9" * 400]))
    outcome(anything, (text[:begin] + inserted + text[end:]).encode(errors="replace"))


# -- several files -------------------------------------------------------------------------------------------------


def test_files_of_different_collectives_are_one_run(written: Any) -> None:
    one = read(DATA / "all_reduce.json")
    other = written(("all_reduce_perf", "all_gather_perf"), rows=[row(64, 4)], name="all_gather.txt")
    both = merged([one, other])
    assert both.source == ("all_reduce.json", "all_gather.txt")
    assert both.lines == (*one.lines, *other.lines)
    assert (both.world_size, both.started, both.variables) == (4, one.started, one.variables)
    assert merged([one]) == one


def test_what_one_file_does_not_tell_another_may(written: Any) -> None:
    silent = written(("graph: 0", "graph: 20"), ("=22809\n", "\n"))
    assert silent.nccl_version is silent.variables is None
    for files in ([silent, read(DATA / "all_reduce.json")], [read(DATA / "all_reduce.json"), silent]):
        assert (merged(files).nccl_version, merged(files).variables) == ("2.28.9", {"NCCL_NVLS_ENABLE": "0"})


def test_files_that_do_not_all_tell_of_the_ranks_times_tell_nothing_together(written: Any) -> None:
    text = document(args=["all_gather_perf", "-a", "3"], results=[DOCUMENT["results"][0] | {"size": 32}])
    gathered = written(text=text, name="gathered.json")
    reduced = written(text=document(args=["all_reduce_perf", "-a3"]), name="reduced.json")
    silent = written(("graph: 0", "graph: 20"))
    assert merged([gathered, reduced]).over_ranks is OverRanks.MAXIMUM
    for files in ([gathered, silent], [silent, gathered], [gathered, reduced, silent]):
        assert merged(files).over_ranks is None


def test_files_of_other_times_over_ranks_are_refused(written: Any) -> None:
    slowest = written(text=document(args=["all_reduce_perf", "-a3"], config=DOCUMENT["config"] | {"graph": 20}))
    with pytest.raises(UsageError, match=r"times over ranks \(-a\): average in all_reduce.json and maximum in made-up"):
        merged([read(DATA / "all_reduce.json"), slowest])


def test_eager_and_graph_times_of_a_case_are_one_run(written: Any) -> None:
    assert len(merged([read(DATA / "all_reduce.txt"), written(("graph: 0", "graph: 20"))]).lines) == 8


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ((), "all_reduce.txt and made-up.txt both have all_reduce bfloat16 sum in-place 8 B (eager)"),
        (("=22809\n", "=22707\n"), "NCCL 2.28.9 in all_reduce.txt and 2.27.7 in made-up.txt"),
        (("NVIDIA H200", "NVIDIA B200"), "('NVIDIA B200',) in made-up.txt"),
    ],
)
def test_files_that_cannot_be_one_run_are_refused(change: tuple[str, str], says: str, written: Any) -> None:
    with pytest.raises(UsageError) as caught:
        merged([read(DATA / "all_reduce.txt"), written(*([change] if change else []))])
    assert says in str(caught.value)


def test_files_of_other_ranks_are_refused(written: Any) -> None:
    text = "\n".join(line for line in TABLE.split("\n") if "Rank  3" not in line).replace("nThread 4", "nThread 3")
    with pytest.raises(UsageError, match=r"ranks 4 in all_reduce.txt and 3 in made-up.txt"):
        merged([read(DATA / "all_reduce.txt"), written(text=text)])


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nccl-bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run_command


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_import_is_a_run_like_any_other(file: Path, command: Any, tmp_path: Path) -> None:
    code, printed, errors = command("import", file, "--out", "there", "--name", "mine")
    assert (code, printed, errors) == (0, f"recorded in {tmp_path / 'there'}\n", "")
    run = Run.load(tmp_path / "there")
    assert run.lines == read(file).lines
    assert (run.baseline, run.arms, run.world_size, run.device) == (ARM, (ARM,), 4, "cuda")
    assert (run.meta["name"], run.meta["status"], run.meta["config"]["source"]) == ("mine", "complete", [file.name])
    assert run.meta["started"] == ("start not recorded" if file.suffix == ".txt" else read(file).started)
    assert run.meta["worker"]["transport"]["version"] == "2.28.9"
    assert (tmp_path / "there" / "summary.csv").read_text(encoding="utf-8").count("\n") == 5

    code, tables, errors = command("report", "there", "--width", "80")
    assert (code, errors) == (0, "")
    assert "mine: 4 ranks on NVIDIA H200" in tables
    assert "averages over ranks" in tables
    assert "slowest" not in tables
    assert max(map(len, tables.splitlines())) <= 80
    assert ("single operations" in tables) == ("per-iteration" in file.name)
    _, as_json, _ = command("report", "there", "--json")
    for summary in json.loads(as_json)["summary"]:
        assert {"rank_spread_us", "slowest_rank", "tolerance_ulp", "p90_us"}.isdisjoint(summary)


def test_what_is_left_out_is_told_by_the_report(command: Any, tmp_path: Path) -> None:
    (tmp_path / "cut.txt").write_text(TABLE[:-150], encoding="utf-8")
    code, _, errors = command("import", "cut.txt", "--out", "there")
    # What is there is read, and nobody is left to believe that it is all.
    assert code == 0
    assert errors.startswith("nccl-bench: cut.txt: the table has no end")
    assert Run.load(tmp_path / "there").meta["status"] == "interrupted"
    _, tables, _ = command("report", "there", "--width", "80")
    assert "cut.txt: the table has no end" in tables


def test_wrong_results_are_imported_told_and_a_failure(command: Any, tmp_path: Path) -> None:
    document = json.loads((DATA / "all_reduce.json").read_text(encoding="utf-8"))
    document["results"][0]["in_place"]["nwrong"] = 3
    (tmp_path / "wrong.json").write_text(json.dumps(document), encoding="utf-8")
    code, printed, errors = command("import", "wrong.json", "--out", "there")
    assert (code, printed) == (4, f"recorded in {tmp_path / 'there'}\n")
    assert errors.startswith("nccl-bench: WRONG: wrong results in 1 cell of nccl-tests; first all_reduce")
    assert (tmp_path / "there" / "summary.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "FILE"),
        (("missing.txt",), 3, "missing.txt cannot be read: No such file"),
        (("foreign.txt",), 3, "foreign.txt: it is no output of nccl-tests"),
        ((DATA / "all_reduce.txt", DATA / "all_reduce.json"), 2, "both have all_reduce bfloat16 sum in-place 8 B"),
        ((DATA / "all_reduce.txt", "--name", "../out"), 2, "'../out'"),
        ((DATA / "all_reduce.txt", "--out", "foreign.txt"), 2, "foreign.txt cannot be written"),
    ],
)
def test_bad_input_gets_its_exit_code_and_leaves_nothing_behind(
    arguments: tuple[object, ...], code: int, says: str, command: Any, tmp_path: Path
) -> None:
    (tmp_path / "foreign.txt").write_text("hello\n", encoding="utf-8")
    found, printed, errors = command("import", *arguments)
    assert (found, printed) == (code, "")
    assert says in errors
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["foreign.txt"]
