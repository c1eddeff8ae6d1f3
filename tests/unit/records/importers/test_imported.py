from __future__ import annotations

from typing import Any

import pytest

from nccl_bench.errors import UsageError
from nccl_bench.records.importers import OverRanks, merge, read
from tests.support.nccl_tests_files import DATA, DOCUMENT, TABLE, document, table_row


def test_files_of_different_collectives_become_one_run(written: Any) -> None:
    reduced = read(DATA / "all_reduce.json")
    gathered = written(
        ("all_reduce_perf", "all_gather_perf"), rows=[table_row(64, 4, bus_factor=0.75)], name="all_gather.txt"
    )
    both = merge([reduced, gathered])
    assert both.source == ("all_reduce.json", "all_gather.txt")
    assert both.lines == (*reduced.lines, *gathered.lines)
    assert (both.world_size, both.started, both.variables) == (4, reduced.started, reduced.variables)
    assert merge([reduced]) == reduced


def test_merge_takes_a_value_from_the_file_that_has_it(written: Any) -> None:
    silent = written(("graph: 0", "graph: 20"), ("=22809\n", "\n"))
    assert silent.library is silent.variables is None
    for files in ([silent, read(DATA / "all_reduce.json")], [read(DATA / "all_reduce.json"), silent]):
        assert (str(merge(files).library), merge(files).variables) == ("NCCL 2.28.9", {"NCCL_NVLS_ENABLE": "0"})


def test_merge_drops_over_ranks_unless_all_files_have_it(written: Any) -> None:
    result = DOCUMENT["results"][0]
    # The bandwidths stay the same.
    longer = {key: result[key] | {"time": 4 * result[key]["time"]} for key in ("out_of_place", "in_place")}
    text = document(args=["all_gather_perf", "-a", "3"], results=[result | longer | {"size": 32}])
    gathered = written(text=text, name="gathered.json")
    reduced = written(text=document(args=["all_reduce_perf", "-a3"]), name="reduced.json")
    silent = written(("graph: 0", "graph: 20"))
    assert merge([gathered, reduced]).over_ranks is OverRanks.MAXIMUM
    for files in ([gathered, silent], [silent, gathered], [gathered, reduced, silent]):
        assert merge(files).over_ranks is None


def test_merge_refuses_different_times_over_ranks(written: Any) -> None:
    slowest = written(text=document(args=["all_reduce_perf", "-a3"], config=DOCUMENT["config"] | {"graph": 20}))
    with pytest.raises(UsageError, match=r"time over ranks differs: average in all_reduce.json and maximum in made-up"):
        merge([read(DATA / "all_reduce.json"), slowest])


def test_eager_and_graph_times_of_a_case_become_one_run(written: Any) -> None:
    assert len(merge([read(DATA / "all_reduce.txt"), written(("graph: 0", "graph: 20"))]).lines) == 8


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ((), "all_reduce.txt and made-up.txt both have all_reduce bfloat16 sum 8 B (eager)"),
        (("=22809\n", "=22707\n"), "the library differs: NCCL 2.28.9 in all_reduce.txt and NCCL 2.27.7 in made-up.txt"),
        (("NVIDIA H200", "NVIDIA B200"), "('NVIDIA B200',) in made-up.txt"),
    ],
)
def test_merge_refuses_contradicting_files(change: tuple[str, str], says: str, written: Any) -> None:
    with pytest.raises(UsageError) as caught:
        merge([read(DATA / "all_reduce.txt"), written(*([change] if change else []))])
    assert says in str(caught.value)


def test_merge_refuses_different_numbers_of_ranks(written: Any) -> None:
    text = "\n".join(line for line in TABLE.split("\n") if "Rank  3" not in line).replace("nThread 4", "nThread 3")
    with pytest.raises(UsageError, match=r"number of ranks differs: 4 in all_reduce.txt and 3 in made-up.txt"):
        merge([read(DATA / "all_reduce.txt"), written(text=text)])
