"""Small files, each of which stands for a kind of file: read with the right values, or refused by name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.catalog.collectives import Placement
from nccl_bench.errors import RecordError
from nccl_bench.records.importers import read
from nccl_bench.records.schema import Status
from tests.support.damaged_logs import CASES
from tests.support.nccl_tests_files import TABLE, document, samples_of

MIB_1, MIB_128, GIB_2 = 1 << 20, 1 << 27, 1 << 31
OUT, IN = Placement.OUT_OF_PLACE, Placement.IN_PLACE


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The expected content of a file."""

    world_size: int
    library: str | None
    gpus: tuple[str, ...]
    times_us: dict[tuple[str, int, Placement], float]
    said: tuple[str, ...] = ()  # the beginnings of the sentences about what is missing or unusual
    collective: str | None = None  # the collective that the user has to name


SIX_OF_EIGHT = ": float sum: 6 of 8 sizes in the settings have no complete row: 2097152 B, 4194304 B, "
OF_H100 = {
    ("all_reduce", MIB_1, OUT): 31.26,
    ("all_reduce", MIB_1, IN): 30.77,
    ("all_reduce", MIB_128, OUT): 521.7,
    ("all_reduce", MIB_128, IN): 521.6,
}
OF_5090 = {
    ("all_reduce", MIB_1, OUT): 4366.46,
    ("all_reduce", MIB_1, IN): 4365.21,
    ("all_reduce", MIB_128, OUT): 58479.5,
    ("all_reduce", MIB_128, IN): 58055.4,
}
OF_MI300X = {
    ("all_reduce", 1024, OUT): 40.86,
    ("all_reduce", 1024, IN): 39.88,
    ("all_reduce", MIB_1, OUT): 70.21,
    ("all_reduce", MIB_1, IN): 136.2,
    ("all_reduce", GIB_2, OUT): 12816.0,
    ("all_reduce", GIB_2, IN): 12829.0,
}
OF_MI350X = {
    ("all_reduce", 1024, OUT): 9.71,
    ("all_reduce", 1024, IN): 9.51,
    ("all_reduce", 2048, OUT): 9.91,
    ("all_reduce", 2048, IN): 9.81,
}
TWO_5090 = Expected(
    world_size=2, library="NCCL 2.29.7", gpus=("NVIDIA GeForce RTX 5090",), times_us=OF_5090, said=(SIX_OF_EIGHT,)
)
H100, MI350X = ("NVIDIA H100 80GB HBM3",), ("AMD Instinct MI350X",)
READ = {
    "rccl-two-nodes.txt": Expected(
        world_size=16,
        library="RCCL 2.27.7",
        gpus=("AMD Instinct MI308X",),
        times_us=OF_MI300X,
        said=(": float sum: 19 of 22 sizes in the settings have no complete row: 2048 B, ",),
    ),
    "rccl-inplace-hipevt.txt": Expected(
        world_size=1,
        library="RCCL 2.30.4",
        gpus=("AMD Radeon Graphics",),
        times_us={("all_reduce", 1024, IN): 5.71},
        said=(": bfloat16 sum: 1 of 2 sizes in the settings have no complete row: 2048 B",),
    ),
    "rccl-hipevt-algo.txt": Expected(world_size=8, library="RCCL 2.30.4", gpus=MI350X, times_us=OF_MI350X),
    "rccl-other-version.txt": Expected(
        world_size=8, library="RCCL 2.27.7", gpus=MI350X, times_us=OF_MI350X | {("all_reduce", 1024, IN): 9.41}
    ),
    "rccl-oop-only.txt": Expected(
        world_size=8,
        library="RCCL 2.30.4",
        gpus=MI350X,
        times_us={("all_to_all", 1024, OUT): 9.71, ("all_to_all", 2048, OUT): 9.91},
    ),
    "rccl-old.txt": Expected(
        world_size=8,
        library=None,
        gpus=("AMD Instinct MI300X",),
        times_us=OF_MI300X,
        said=(
            ": float sum: 28 of 31 sizes in the settings have no complete row: 8 B, ",
            ": the busbw of line 18, line 19 does not fit all_reduce on 8 ranks, for example 28 GB/s of 1048576 B; it "
            "fits 16 ranks, so the list of ranks may be incomplete",
            ": it does not name the version of RCCL",
        ),
        collective="all_reduce",
    ),
    "nccl-2020.txt": Expected(
        world_size=2,
        library=None,
        gpus=("Tesla V100-SXM2-16GB",),
        times_us={("all_reduce", MIB_1, OUT): 52.01, ("all_reduce", MIB_1, IN): 50.09},
        said=(": float sum: 24 of 25 sizes", ": it does not name the version of NCCL"),
        collective="all_reduce_perf",
    ),
    "slurm-job-two-collectives.out": Expected(
        world_size=8,
        library="NCCL 2.29.7",
        gpus=H100,
        times_us=OF_H100 | {("all_gather", size, place): us for (_, size, place), us in OF_H100.items()},
        said=(
            f" (table from line 2){SIX_OF_EIGHT}",
            " (table from line 27): float none: 6 of 8 sizes",
            # The file repeats the busbw of its first table.
            " (table from line 27): the busbw of line 44, line 45 does not fit all_gather on 8 ranks",
        ),
    ),
    "mpirun-tag-output.txt": TWO_5090,
    "srun-label.txt": TWO_5090,
    "kubectl-timestamps.txt": TWO_5090,
    "latin1.txt": Expected(
        world_size=2,
        library="NCCL 2.29.7",
        gpus=TWO_5090.gpus,
        times_us=OF_5090,
        said=(SIX_OF_EIGHT, ": line 19 has bytes that are not UTF-8; they were replaced"),
    ),
    "eight-ranks.txt": Expected(world_size=8, library="NCCL 2.29.7", gpus=H100, times_us=OF_H100, said=(SIX_OF_EIGHT,)),
    "row-cut-after-size.txt": Expected(
        world_size=8,
        library="NCCL 2.29.7",
        gpus=H100,
        times_us={key: us for key, us in OF_H100.items() if key[1] == MIB_1},
        said=(
            ": line 19 holds a piece of a row",
            ": line 20 holds a piece of a row",
            ": float sum: 7 of 8 sizes in the settings have no complete row: 2097152 B, ",
        ),
    ),
}
REFUSED = {
    "rank-cut.txt": 'line 9, "#  Rank  3 Group  0 Pinode1:1009:1024 [1] NCCL INFO Chan..., holds a piece of the list',
    "ranks-abridged.txt": "it lists 4 ranks up to rank 15, and rank 1 is missing",
    "json-truncated.json": "not JSON: the text ends in the middle of the document",
}


@pytest.mark.parametrize("name", READ)
def test_import_reads_what_the_file_says_of_itself(name: str) -> None:
    expected = READ[name]
    imported = read(CASES / name, expected.collective)
    lines = samples_of(imported)
    assert {
        (line.case.collective, line.case.size_bytes, line.case.placement): line.samples_us[0] for line in lines
    } == expected.times_us
    assert len(lines) == len(expected.times_us)
    assert all(line.status is Status.OK for line in lines)
    assert (imported.world_size, imported.library and str(imported.library), imported.gpus) == (
        expected.world_size,
        expected.library,
        expected.gpus,
    )
    assert len(imported.left_out) == len(expected.said)
    for sentence, beginning in zip(imported.left_out, expected.said, strict=True):
        assert sentence.startswith(name + beginning)


@pytest.mark.parametrize("name", REFUSED)
def test_import_refuses_a_file_whose_ranks_or_end_are_missing(name: str) -> None:
    with pytest.raises(RecordError) as caught:
        read(CASES / name)
    assert REFUSED[name] in str(caught.value)


def test_every_file_has_its_values() -> None:
    assert {path.name for path in CASES.iterdir()} == {*READ, *REFUSED, "wrong-root.txt"}


def test_wrong_elements_belong_to_their_root() -> None:
    lines = samples_of(read(CASES / "wrong-root.txt"))
    assert [line.case.label for line in lines if line.wrong] == ["broadcast float32 out-of-place root 5 1048576 B"]
    assert {line.case.root for line in lines} == set(range(8))


def test_a_deviation_is_no_count_of_wrong_elements() -> None:
    assert {line.wrong for line in samples_of(read(CASES / "nccl-2020.txt", "all_reduce"))} == {None}


def test_a_deviation_above_the_threshold_is_left_out(written: Any) -> None:
    text = (CASES / "nccl-2020.txt").read_text(encoding="utf-8").replace("20.93  1e-07", "20.93  3e+01*")
    with pytest.raises(RecordError, match=r'the row on line 10: its error is "3e\+01\*", above the threshold'):
        written(text=text, collective="all_reduce")


@pytest.mark.parametrize(
    ("prefix", "suffix"),
    [
        ("[prterun-node0-1234@1,0]<stdout>: ", ""),
        ("Sun Nov 29 08:12:44 2026<stdout>:", ""),
        ("[1,0]<stdout>:", ""),
        (" 0: ", ""),
        ("[0] ", ""),
        ("worker-0  | ", ""),
        ("2026-11-29 08:12:44,123 INFO ", ""),
        ("Nov 29 08:12:44 node0 launch[77]: ", ""),
        ("[pod/bench-0/main] 2026-04-19T03:08:18.5+01:00 ", ""),
        ("2026-04-19T08:12:44Z ", ""),
        ("    ", ""),
        ("\t", ""),
        ("> ", ""),
        ('"', '"'),
        ("'", "',"),
        ("\x1b[32m", "\x1b[0m"),
    ],
)
def test_the_prefix_of_all_lines_is_removed(prefix: str, suffix: str, written: Any, tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text(TABLE, encoding="utf-8")
    text = "".join(f"{prefix}{line}{suffix}\n" for line in TABLE.splitlines())
    # The time of a line differs from line to line.
    for number in range(text.count("08:12:44")):
        text = text.replace("08:12:44", f"08:{number // 60 + 13:02d}:{number % 60:02d}", 1)
    imported = written(text=f"{text}[1,1]<stderr>:\n")
    assert (imported.lines, imported.left_out) == (read(tmp_path / "plain.txt").lines, ())


def test_a_prefix_with_seconds_is_removed_from_empty_lines_too(written: Any) -> None:
    text = "".join(f"{number * 0.013:.6f} {line}\n" for number, line in enumerate([*TABLE.splitlines(), "", ""]))
    assert written(text=text).left_out == ()


def test_a_prefix_that_only_one_line_has_is_named(written: Any) -> None:
    with pytest.raises(RecordError, match=r'the text "node0: " stands before .* and before no other line'):
        written(("# nThread", "node0: # nThread"))


def test_a_table_that_several_processes_print_is_refused(written: Any) -> None:
    tables = "".join(f"{rank}: {line}\n" for rank in (0, 1) for line in TABLE.splitlines())
    with pytest.raises(RecordError, match=r'2 different texts before .* such as "0: " and "1: "'):
        written(text=tables)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (("graph: 0 unalign: 0", "graph: 2\n0 unalign: 0"), "may be the end of the settings on line 3"),
        ((" graph: 0 unalign: 0", ""), "is not a whole line of settings"),
        (("unalign: 0\n", "unalign: 0vm:1:2 [0] NCCL INFO\n"), "is not a whole line of settings"),
        (("iters: 50", "iters: 5\n0"), "is not a whole line of settings"),
        (("maxBytes 8388608 step: 1048576(factor)", "maxBytes 8388608 step: 1(bytes)"), "more than 20000 sizes"),
        (("#  Rank  1", "#  Rank  2"), "up to rank 3, and rank 1 is missing"),
        (("reduce_perf\n", "reduce_p\n"), 'its program is "all_reduce_p"'),
    ],
)
def test_damaged_settings_do_not_change_a_timing_without_a_word(
    damage: tuple[str, str], says: str, written: Any
) -> None:
    with pytest.raises(RecordError) as caught:
        written(damage)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (("134.27", "143.27"), "out-of-place has an algbw of 143.27 GB/s, and 8388608 B in 62.48 us are 134.3 GB/s"),
        (("62.48", "26.48"), "out-of-place has an algbw of 134.27 GB/s, and 8388608 B in 26.48 us are 316.8 GB/s"),
        (("4194304", "4194303"), "a count of 4194303 bfloat16, which does not fit all_reduce on 4 ranks"),
    ],
)
def test_a_row_whose_numbers_contradict_each_other_is_left_out(
    damage: tuple[str, str], says: str, written: Any
) -> None:
    imported = written(damage)
    assert says in imported.left_out[0]
    assert {line.case.size_bytes for line in samples_of(imported)} == {8}
    assert not imported.whole


def test_a_busbw_of_other_ranks_is_named_and_the_row_kept(written: Any) -> None:
    last = next(line for line in TABLE.splitlines() if "Rank  3" in line)
    imported = written((f"{last}\n", ""), ("nThread 4", "nThread 1"))
    assert imported.left_out == (
        "made-up.txt: the busbw of line 14 does not fit all_reduce on 3 ranks, for example 201.4 GB/s of 8388608 B; it "
        "fits 4 ranks, so the list of ranks may be incomplete. nccl-bench computes bus bandwidths for 3 ranks",
    )
    assert (len(imported.lines), imported.whole) == (4, False)


@pytest.mark.parametrize("path", ["C:\\\\nccl-tests\\\\build\\\\all_reduce_perf.exe", "D:/build/all_reduce_perf.exe"])
def test_json_of_a_windows_program_is_read(path: str, written: Any) -> None:
    text = document().replace("./build/all_reduce_perf", path)
    assert len(written(text=text).lines) == 4
    with pytest.raises(RecordError, match="a Windows path, has a single backslash"):
        written(text=document().replace("./build/all_reduce_perf", r"C:\all_reduce_perf.exe"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("text", [TABLE, document(), f"srun: job 7\n{document()}\nsrun: done\n"])
def test_encodings_with_a_mark_and_json_in_a_log_are_read(encoding: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(text, encoding=encoding)
    imported = read(tmp_path / "file")
    assert (len(imported.lines), imported.left_out) == (4, ())


def test_a_table_beside_json_is_not_lost(written: Any) -> None:
    with pytest.raises(RecordError, match=r"\(document 1\) and .*\(table from line 3\) both have all_reduce"):
        written(text=f"{document()}\n\n{TABLE}")
    other = TABLE.replace("graph: 0", "graph: 20")
    assert len(written(text=f"{other}{document()}\n").lines) == 8


@pytest.mark.parametrize("prefix", ["0: ", "[1,0]<stdout>:"])
def test_json_on_lines_with_a_prefix_is_refused_by_name(prefix: str, written: Any) -> None:
    lines = json.dumps(json.loads(document()), indent=1).splitlines()
    with pytest.raises(RecordError, match="JSON of nccl-tests whose lines have a prefix"):
        written(text="".join(f"{prefix}{line}\n" for line in lines))


def test_a_table_without_settings_beside_a_whole_one_is_reported(written: Any) -> None:
    other = TABLE.replace("# nThread", "#").replace("all_reduce_perf", "all_gather_perf")
    (sentence,) = written(text=TABLE + other).left_out
    assert sentence == "made-up.txt: line 22 belongs to a table without settings, so its results are missing"
