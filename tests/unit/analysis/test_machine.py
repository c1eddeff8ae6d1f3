"""Differences between runs besides what is compared."""

from __future__ import annotations

from typing import Any

import pytest

from nccl_bench.analysis.machine import differences, facts, over_ranks, times_over_ranks, tool_text, versions
from nccl_bench.records.importers.nccl_tests import ARM
from tests.support.synthetic_runs import meta

# The matrix of nvidia-smi: two pairs of GPUs on NVLink.
TOPOLOGY = """\
\tGPU0\tGPU1\tGPU2\tGPU7\tNIC0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID
GPU0\t X \tNV18\tSYS\tSYS\tPIX\t0-31\t0\t\tN/A
GPU1\tNV18\t X \tSYS\tSYS\tSYS\t0-31\t0\t\tN/A
GPU2\tSYS\tSYS\t X \tNV18\tSYS\t0-31\t0\t\tN/A
GPU7\tSYS\tSYS\tNV18\t X \tSYS\t0-31\t0\t\tN/A
NIC0\tPIX\tSYS\tSYS\tSYS\t X

Legend:

  X    = Self
  SYS  = Connection traversing PCIe
"""
GPU = {
    "index": 0,
    "name": "NVIDIA H200",
    "driver": "580.95.05",
    "power_limit_w": 700.0,
    "sm_clock_max_mhz": 1980,
    "memory_clock_max_mhz": 3201,
}
ENVIRONMENT = {
    "hostname": "node1",
    "cpu": "a CPU",
    "gpus": [GPU, GPU | {"index": 1}],
    "variables": {"NCCL_ALGO": "Ring", "OMP_NUM_THREADS": "4"},
}
WORKER = {
    "torch": "2.13.0",
    "transport": {"name": "nccl", "version": "2.28.9", "path": "/usr/lib/libnccl.so.2"},
    "loop_cost_us": 0.04,
}


def recorded(**changes: Any) -> dict[str, Any]:
    """Return a ``run.json`` with the environment, worker, launch and configuration above, except for ``changes``."""
    parts: dict[str, Any] = {
        "environment": ENVIRONMENT,
        "worker": WORKER,
        "launch": meta()["launch"],
        "config": meta()["config"] | {"caller_stream": "new", "same_buffer": False},
    }
    return meta() | {name: part | changes.get(name, {}) for name, part in parts.items()}


def differences_of(*metas: dict[str, Any]) -> list[str]:
    return list(differences([(f"run{number}", meta) for number, meta in enumerate(metas, start=1)]))


def test_equal_runs_do_not_differ() -> None:
    assert differences_of(recorded(), recorded(), recorded()) == []
    # Start, name and the cost of the loop do not matter.
    other = recorded() | {"name": "another", "started": "2027-01-01T00:00:00+00:00"}
    assert differences_of(recorded(), other, recorded(worker={"loop_cost_us": 0.05})) == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"launch": {"world_size": 8}}, "ranks: 4 (run1); 8 (run2)"),
        ({"launch": {"nnodes": 2}}, "nodes: 1 (run1); 2 (run2)"),
        ({"config": {"device": "cpu"}}, "device: cuda (run1); cpu (run2)"),
        ({"environment": {"hostname": "node2"}}, "host: node1 (run1); node2 (run2)"),
        ({"environment": {"cpu": "better"}}, "CPU: a CPU (run1); better (run2)"),
        (
            {"environment": {"gpus": [GPU | {"name": "NVIDIA B200"}]}},
            "GPUs: NVIDIA H200 (run1); NVIDIA B200 (run2)",
        ),
        (
            {"environment": {"gpus": [GPU, GPU | {"name": "NVIDIA B200"}]}},
            "GPUs: NVIDIA H200 (run1); NVIDIA H200, NVIDIA B200 (run2)",
        ),
        ({"environment": {"gpus": [GPU | {"driver": "590"}]}}, "driver: 580.95.05 (run1); 590 (run2)"),
        ({"worker": {"torch": "2.14"}}, "torch: 2.13.0 (run1); 2.14 (run2)"),
        (
            {"worker": {"transport": {"name": "gloo", "version": "2.28.9"}}},
            "transport: NCCL (run1); gloo 2.28.9 (run2)",
        ),
        ({"config": {"caller_stream": "default"}}, "caller's stream: new (run1); default (run2)"),
        ({"config": {"same_buffer": True}}, "buffers: rotating (run1); one for all calls (run2)"),
        # The first run is older than these options.
        ({"config": {"register": "window"}}, "memory: torch (run1); nccl, registered (window) (run2)"),
        ({"config": {"memory": "nccl"}}, "memory: torch (run1); nccl (run2)"),
        (
            {"config": {"memory": "torch"}, "worker": {"expandable_segments": True}},
            "memory: torch (run1); expandable (run2)",
        ),
        ({"environment": {"variables": {"NCCL_ALGO": "Tree"}}}, "NCCL_ALGO: Ring (run1); Tree (run2)"),
        ({"environment": {"variables": {}}}, "NCCL_ALGO: Ring (run1); not set (run2)"),
        ({"environment": {"variables": {"NCCL_ALGO": ""}}}, "NCCL_ALGO: Ring (run1); empty (run2)"),
        (
            {"environment": {"variables": {"NCCL_ALGO": "Ring", "NCCL_PROTO": "LL"}}},
            "NCCL_PROTO: LL (run2); not set (run1)",
        ),
        # NCCL reads its files too, the user's before the system's, which are in this order here.
        (
            {"environment": {"nccl_conf": {"~/.nccl.conf": {"NCCL_PROTO": "LL"}}}},
            "NCCL_PROTO: LL (run2); not set (run1)",
        ),
        (
            {"environment": {"nccl_conf": {"~/.nccl.conf": {"NCCL_PROTO": "LL"}, "/etc": {"NCCL_PROTO": "Simple"}}}},
            "NCCL_PROTO: LL (run2); not set (run1)",
        ),
        # Other variables that are recorded because they explain a difference.
        *(
            ({"environment": {"variables": {"NCCL_ALGO": "Ring", name: "1"}}}, f"{name}: 1 (run2); not set (run1)")
            for name in ("CUDA_LAUNCH_BLOCKING", "CUDA_DEVICE_MAX_CONNECTIONS", "TORCH_NCCL_BLOCKING_WAIT")
        ),
    ],
)
def test_each_fact_that_differs_is_a_line(changes: dict[str, Any], line: str) -> None:
    (difference,) = differences_of(recorded(), recorded(**changes))
    parts = set(line.partition(": ")[2].split("; "))
    assert difference.partition(": ")[0] == line.partition(": ")[0]
    assert set(difference.partition(": ")[2].split("; ")) == parts


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "NCCL_VERSION", "TORCH_NCCL_ASYNC_ERROR_HANDLING"])
def test_variables_that_images_and_torchrun_set_are_no_difference(name: str) -> None:
    """NVIDIA's images set NCCL_VERSION, and torchrun sets the other variable for its workers."""
    assert differences_of(recorded(), recorded(environment={"variables": {"NCCL_ALGO": "Ring", name: "8"}})) == []


def test_a_variable_goes_before_the_same_setting_in_a_file() -> None:
    same = recorded(environment={"nccl_conf": {"/etc/nccl.conf": {"NCCL_ALGO": "Tree"}}})
    assert differences_of(recorded(), same) == []


def test_the_binding_of_nccl_is_a_fact_of_its_own_which_an_import_does_not_have() -> None:
    bound = recorded(worker={"transport": {"name": "nccl4py", "version": "2.28.9"}})
    assert differences_of(recorded(), bound) == ["binding: ctypes (run1); nccl4py (run2)"]
    imported = recorded(config={"baseline": ARM})
    assert differences_of(imported, bound) == []


def test_a_transport_without_a_name_is_nccl() -> None:
    assert differences_of(recorded(), recorded(worker={"transport": {"version": "2.28.9"}})) == []


def test_an_import_has_the_hosts_of_all_its_ranks() -> None:
    several = recorded(environment={"hostname": None, "hostnames": ["node1", "node2"]})
    assert differences_of(recorded(), several) == ["host: node1 (run1); node1, node2 (run2)"]


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("power_limit_w", 300.0, "power limit (W): 700 (run1); 300 (run2)"),
        ("sm_clock_max_mhz", 1000, "highest SM clock (MHz): 1980 (run1); 1000 (run2)"),
        ("memory_clock_max_mhz", 2619, "highest memory clock (MHz): 3201 (run1); 2619 (run2)"),
    ],
)
def test_power_limits_and_highest_clocks_are_differences(key: str, value: float, line: str) -> None:
    slower = GPU | {key: value}
    assert differences_of(recorded(), recorded(environment={"gpus": [slower, slower | {"index": 1}]})) == [line]
    # Only the GPUs of the ranks count.
    beside = recorded(environment={"gpus": [GPU, GPU | {"index": 1}, slower | {"index": 2}]}, launch={"nproc": 2})
    assert differences_of(recorded(launch={"nproc": 2}), beside) == []


def on_gpus(visible: str | None, nproc: int = 2, **environment: Any) -> dict[str, Any]:
    gpus = [GPU | {"index": index, "uuid": f"GPU-{index}abc"} for index in (0, 1, 2, 7)]
    variables = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    known = {"gpus": gpus, "topology": TOPOLOGY, "variables": {"NCCL_ALGO": "Ring"} | variables}
    return recorded(environment=known | environment, launch={"nproc": nproc})


@pytest.mark.parametrize(
    ("visible", "nproc", "links"),
    [
        (None, 2, "NV18"),
        ("0,1", 2, "NV18"),
        ("2,7", 2, "NV18"),
        ("0,7", 2, "SYS"),
        ("0,7,1", 2, "SYS"),
        ("GPU-0abc, GPU-7abc", 2, "SYS"),
        (None, 4, "NV18 0-1 2-3, SYS 0-2 0-3 1-2 1-3"),
        # Links go by rank: the same GPUs in another order are another ring.
        ("0,2,1,7", 4, "SYS 0-1 0-3 1-2 2-3, NV18 0-2 1-3"),
        ("0", 1, None),
        ("0,MIG-123", 2, None),
        ("0,5", 2, None),
    ],
)
def test_the_links_are_those_between_the_gpus_of_the_ranks(visible: str | None, nproc: int, links: str | None) -> None:
    assert facts(on_gpus(visible, nproc)).get("GPU links") == links


def test_different_links_between_ranks_are_a_difference() -> None:
    assert differences_of(on_gpus("0,1"), on_gpus("2,7")) == []
    assert differences_of(on_gpus("0,1"), on_gpus("0,7")) == ["GPU links: NV18 (run1); SYS (run2)"]
    for topology in ("", "PCIe everywhere", "GPU0", TOPOLOGY[:60], None):
        assert differences_of(on_gpus("0,1"), on_gpus("0,7", topology=topology)) == []


def test_different_versions_are_reported_and_no_reason_to_refuse() -> None:
    old, new = recorded(), recorded() | {"schema": 2}
    assert differences_of(old, new, old | {"version": "9.9.9"}) == []
    assert list(versions([("before 1", old), ("before 2", old), ("after", new)])) == [
        "nccl-bench itself changed between the runs, so a small difference can come from it"
    ]
    assert any(versions([("a", old), ("b", old | {"version": "9.9.9"})]))
    # An import was measured by nccl-tests, whichever version imported it, and a summary has no version.
    other = imported() | {"version": "9.9.9"}
    assert list(versions([("a", old), ("b", other), ("c", {"launch": {}, "config": {}})])) == []


def test_the_machine_has_one_version_of_the_tool_unless_runs_differ() -> None:
    def text(**runs: dict[str, Any]) -> str:
        return tool_text(list(runs.items()))

    old = recorded()
    assert text(before=old, after=old) == "nccl-bench 0.1.0"
    assert text(before=old, after=old | {"schema": 2}) == "nccl-bench 0.1.0, schema 1 (before), 2 (after)"
    newer = old | {"schema": 2, "version": "9.9.9"}
    assert text(a=old, b=old, after=newer) == "nccl-bench 0.1.0 (a, b), 9.9.9 (after)"
    assert text(before=imported(), after=old) == "nccl-bench 0.1.0 (after)"
    assert text(before=imported(), after={"launch": {}, "config": {}}) == ""


def test_runs_that_agree_are_listed_together() -> None:
    runs = [recorded(), recorded(worker={"torch": "2.14"}), recorded()]
    assert differences_of(*runs) == ["torch: 2.13.0 (run1, run3); 2.14 (run2)"]


def test_a_fact_that_a_run_lacks_is_no_difference() -> None:
    """An import of nccl-tests and a summary may have no fact but the number of ranks."""
    assert differences_of(recorded(), {"launch": {"world_size": 4}, "config": {}}) == []
    assert differences_of(recorded(), recorded() | {"environment": {}, "worker": None}) == []
    assert differences_of(recorded(), {"launch": {"world_size": 2}, "config": {}}) == ["ranks: 4 (run1); 2 (run2)"]


def test_a_run_older_than_memory_registration_counts_as_none() -> None:
    assert differences_of(recorded(), recorded(config={"register": "none"})) == []
    # An import of nccl-tests does not record it.
    assert differences_of(recorded(config={"register": "window"}), {"launch": {"world_size": 4}, "config": {}}) == []


def test_a_run_without_recorded_variables_does_not_count_as_unset() -> None:
    silent = recorded(environment={"gpus": []})
    del silent["environment"]["variables"]
    assert differences_of(recorded(), silent) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": {"gpus": "none"}},
        {"environment": {"gpus": [{"name": "NVIDIA H200"}, "odd", 3]}},
        {"environment": {"variables": {"NCCL_ALGO": ["Ring"]}}},
        {"environment": {"variables": {"CUDA_VISIBLE_DEVICES": [0]}, "topology": [1]}},
        {"environment": {"gpus": [GPU | {"index": [0], "power_limit_w": "much"}, {}]}, "launch": {"nproc": "two"}},
        {"config": {"same_buffer": [1]}},
        {"config": {"register": ["window"]}},
        {"launch": {"nnodes": {}}},
        {"worker": {"transport": None}},
        {"environment": {"nccl_conf": ["NCCL_ALGO"]}},
        {"environment": {"nccl_conf": {"/etc/nccl.conf": "NCCL_ALGO=Ring"}}},
    ],
)
def test_a_value_of_an_unexpected_type_is_text_or_absent(changes: dict[str, Any]) -> None:
    assert all(isinstance(value, str) for value in facts(recorded(**changes)).values())
    assert all("\n" not in line for line in differences_of(recorded(), recorded(**changes)))


def imported(kind: object = None) -> dict[str, Any]:
    return meta(baseline=ARM, arms=[ARM], over_ranks=kind)


@pytest.mark.parametrize(
    ("metas", "groups"),
    [
        ((imported(), meta()), "not recorded (run1); maximum (run2)"),
        ((meta(), meta(), imported("average")), "maximum (run1, run2); average (run3)"),
        ((imported("minimum"), meta()), "minimum (run1); maximum (run2)"),
        ((imported("rank 0"), imported("average")), "rank 0 (run1); average (run2)"),
        ((imported("maximum"), imported("average")), "maximum (run1); average (run2)"),
        ((imported("maximum"), imported()), "maximum (run1); not recorded (run2)"),
        # Older than the field, or from another tool.
        ((meta(baseline=ARM), meta()), "not recorded (run1); maximum (run2)"),
        ((imported(["average"]), meta()), "not recorded (run1); maximum (run2)"),
        ((meta(), meta()), None),
        ((imported("maximum"), meta()), None),
        ((imported("maximum"), imported("maximum")), None),
        ((imported("average"), imported("average")), None),
        ((imported(), imported()), None),
        # The default of nccl-tests.
        ((imported(), imported("average")), None),
    ],
)
def test_runs_that_merge_their_ranks_differently_are_reported(
    metas: tuple[dict[str, Any], ...], groups: str | None
) -> None:
    lines = list(over_ranks([(f"run{number}", meta) for number, meta in enumerate(metas, start=1)]))
    if groups is None:
        assert lines == []
    else:
        (line,) = lines
        assert line.endswith(f"give -a 3 to nccl-tests, as nccl-bench measures. These runs: {groups}")
    # That is no reason to refuse a comparison.
    assert differences_of(*metas) == []


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ([meta()], [meta()], "Each time is the slowest rank's, before and after."),
        (
            [imported("average")],
            [meta(), meta()],
            "Before, each time is the average over ranks (-a 1). After, each time is the slowest rank's.",
        ),
        (
            [imported("maximum"), imported()],
            [meta()],
            "Before, each time is the slowest rank's (-a 3) or the average over ranks, unless nccl-tests ran with "
            "-a 0, 2 or 3. After, each time is the slowest rank's.",
        ),
    ],
)
def test_each_side_says_how_times_were_made_from_the_times_of_ranks(
    before: list[dict[str, Any]], after: list[dict[str, Any]], text: str
) -> None:
    assert list(times_over_ranks([("", each) for each in before], [("", each) for each in after])) == [text]


def test_variables_that_only_other_programs_read_are_no_mismatch() -> None:
    variables = {"NCCL_TESTS_DEVICE": "0", "NCCL_BENCH_NCCL_LIBRARY": "/a/libnccl.so.2", "NCCL_VERSION": "2.28"}
    assert differences_of(recorded(), recorded(environment={"variables": {"NCCL_ALGO": "Ring", **variables}})) == []
    # A variable that only begins like those of nccl-tests is a setting of NCCL.
    assert differences_of(recorded(), recorded(environment={"variables": {"NCCL_ALGO": "Ring", "NCCL_TEST": "1"}}))
