"""What may make two runs differ besides what is compared."""

from __future__ import annotations

from typing import Any

import pytest

from nccl_bench.analysis.machine import differences, facts, over_ranks, versions
from nccl_bench.records.importers.nccl_tests import ARM
from tests.support.synthetic_runs import meta

# Two pairs on NVLink, and what nvidia-smi puts around them.
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
    """A run whose environment, worker, launch and configuration are as above but for ``changes``."""
    parts: dict[str, Any] = {
        "environment": ENVIRONMENT,
        "worker": WORKER,
        "launch": meta()["launch"],
        "config": meta()["config"] | {"caller_stream": "new", "same_buffer": False},
    }
    return meta() | {name: part | changes.get(name, {}) for name, part in parts.items()}


def told(*metas: dict[str, Any]) -> list[str]:
    return list(differences([(f"run{number}", one) for number, one in enumerate(metas, start=1)]))


def test_equal_runs_do_not_differ() -> None:
    assert told(recorded(), recorded(), recorded()) == []
    # When it was made, what it is called and what it costs to ask is no matter.
    other = recorded() | {"name": "another", "started": "2027-01-01T00:00:00+00:00"}
    assert told(recorded(), other, recorded(worker={"loop_cost_us": 0.05})) == []


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
            {"worker": {"transport": {"name": "nccl", "version": "2.29.1"}}},
            "transport: nccl 2.28.9 (run1); nccl 2.29.1 (run2)",
        ),
        (
            {"worker": {"transport": {"name": "gloo", "version": "2.28.9"}}},
            "transport: nccl 2.28.9 (run1); gloo 2.28.9 (run2)",
        ),
        ({"config": {"caller_stream": "default"}}, "caller's stream: new (run1); default (run2)"),
        ({"config": {"same_buffer": True}}, "buffers: rotating (run1); one for all calls (run2)"),
        # The first is from before there was a choice.
        ({"config": {"register": "window"}}, "registered memory: none (run1); window (run2)"),
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
        # Others that are recorded because they explain a difference.
        *(
            ({"environment": {"variables": {"NCCL_ALGO": "Ring", name: "1"}}}, f"{name}: 1 (run2); not set (run1)")
            for name in ("CUDA_LAUNCH_BLOCKING", "CUDA_DEVICE_MAX_CONNECTIONS", "TORCH_NCCL_BLOCKING_WAIT")
        ),
    ],
)
def test_each_fact_that_differs_is_a_line(changes: dict[str, Any], line: str) -> None:
    (found,) = told(recorded(), recorded(**changes))
    parts = set(line.partition(": ")[2].split("; "))
    assert found.partition(": ")[0] == line.partition(": ")[0]
    assert set(found.partition(": ")[2].split("; ")) == parts


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "NCCL_VERSION", "TORCH_NCCL_ASYNC_ERROR_HANDLING"])
def test_what_nobody_chose_or_reads_is_no_difference(name: str) -> None:
    """NVIDIA's images set NCCL_VERSION, and torchrun the other, for its workers."""
    assert told(recorded(), recorded(environment={"variables": {"NCCL_ALGO": "Ring", name: "8"}})) == []


def test_a_variable_counts_before_the_same_in_a_file() -> None:
    same = recorded(environment={"nccl_conf": {"/etc/nccl.conf": {"NCCL_ALGO": "Tree"}}})
    assert told(recorded(), same) == []


def test_a_transport_that_does_not_say_its_name_is_nccl() -> None:
    assert told(recorded(), recorded(worker={"transport": {"version": "2.28.9"}})) == []


def test_an_import_has_the_hosts_of_all_its_ranks() -> None:
    several = recorded(environment={"hostname": None, "hostnames": ["node1", "node2"]})
    assert told(recorded(), several) == ["host: node1 (run1); node1, node2 (run2)"]


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("power_limit_w", 300.0, "power limit (W): 700 (run1); 300 (run2)"),
        ("sm_clock_max_mhz", 1000, "highest SM clock (MHz): 1980 (run1); 1000 (run2)"),
        ("memory_clock_max_mhz", 2619, "highest memory clock (MHz): 3201 (run1); 2619 (run2)"),
    ],
)
def test_what_a_gpu_may_draw_and_how_fast_it_may_run_is_the_machine_s(key: str, value: float, line: str) -> None:
    slower = GPU | {key: value}
    assert told(recorded(), recorded(environment={"gpus": [slower, slower | {"index": 1}]})) == [line]
    # Of the GPUs that the ranks have, not of those beside them.
    beside = recorded(environment={"gpus": [GPU, GPU | {"index": 1}, slower | {"index": 2}]}, launch={"nproc": 2})
    assert told(recorded(launch={"nproc": 2}), beside) == []


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
        # By rank: the same GPUs in another order are another ring.
        ("0,2,1,7", 4, "SYS 0-1 0-3 1-2 2-3, NV18 0-2 1-3"),
        ("0", 1, None),
        ("0,MIG-123", 2, None),
        ("0,5", 2, None),
    ],
)
def test_the_links_are_those_between_the_gpus_of_the_ranks(visible: str | None, nproc: int, links: str | None) -> None:
    assert facts(on_gpus(visible, nproc)).get("GPU links") == links


def test_links_that_differ_are_another_machine() -> None:
    assert told(on_gpus("0,1"), on_gpus("2,7")) == []
    assert told(on_gpus("0,1"), on_gpus("0,7")) == ["GPU links: NV18 (run1); SYS (run2)"]
    for topology in ("", "PCIe everywhere", "GPU0", TOPOLOGY[:60], None):
        assert told(on_gpus("0,1"), on_gpus("0,7", topology=topology)) == []


def test_versions_that_differ_are_told_and_no_reason_to_refuse() -> None:
    old, new = recorded(), recorded() | {"schema": 2}
    assert told(old, new, old | {"version": "9.9.9"}) == []
    assert list(versions([("before 1", old), ("before 2", old), ("after", new)])) == [
        "measured by different versions of nccl-bench, which may measure differently: 0.1.0 with schema 1 (before 1, "
        "before 2); 0.1.0 with schema 2 (after)"
    ]
    (line,) = versions([("a", old), ("b", old | {"version": "9.9.9"})])
    assert line.endswith("0.1.0 with schema 1 (a); 9.9.9 with schema 1 (b)")
    # What nccl-tests measured, whoever imported it, and a summary, which does not tell.
    other = imported() | {"version": "9.9.9"}
    assert list(versions([("a", old), ("b", other), ("c", {"launch": {}, "config": {}})])) == []


def test_of_several_runs_those_that_agree_stand_together() -> None:
    runs = [recorded(), recorded(worker={"torch": "2.14"}), recorded()]
    assert told(*runs) == ["torch: 2.13.0 (run1, run3); 2.14 (run2)"]


def test_what_a_run_does_not_tell_is_no_difference() -> None:
    """As an import of nccl-tests, and a summary, which know the number of ranks at the most."""
    assert told(recorded(), {"launch": {"world_size": 4}, "config": {}}) == []
    assert told(recorded(), recorded() | {"environment": {}, "worker": None}) == []
    assert told(recorded(), {"launch": {"world_size": 2}, "config": {}}) == ["ranks: 4 (run1); 2 (run2)"]


def test_a_run_from_before_memory_could_be_registered_did_without() -> None:
    assert told(recorded(), recorded(config={"register": "none"})) == []
    # An import of nccl-tests does not tell.
    assert told(recorded(config={"register": "window"}), {"launch": {"world_size": 4}, "config": {}}) == []


def test_without_its_variables_a_run_does_not_say_that_one_is_not_set() -> None:
    silent = recorded(environment={"gpus": []})
    del silent["environment"]["variables"]
    assert told(recorded(), silent) == []


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
def test_a_foreign_value_is_text_or_nothing(changes: dict[str, Any]) -> None:
    assert all(isinstance(value, str) for value in facts(recorded(**changes)).values())
    assert all("\n" not in line for line in told(recorded(), recorded(**changes)))


def imported(kind: object = None) -> dict[str, Any]:
    return meta(baseline=ARM, arms=[ARM], over_ranks=kind)


@pytest.mark.parametrize(
    ("metas", "here"),
    [
        ((imported(), meta()), "not recorded (run1); maximum (run2)"),
        ((meta(), meta(), imported("average")), "maximum (run1, run2); average (run3)"),
        ((imported("minimum"), meta()), "minimum (run1); maximum (run2)"),
        ((imported("rank 0"), imported("average")), "rank 0 (run1); average (run2)"),
        ((imported("maximum"), imported("average")), "maximum (run1); average (run2)"),
        ((imported("maximum"), imported()), "maximum (run1); not recorded (run2)"),
        # Recorded before there was such a field, or by somebody else.
        ((meta(baseline=ARM), meta()), "not recorded (run1); maximum (run2)"),
        ((imported(["average"]), meta()), "not recorded (run1); maximum (run2)"),
        ((meta(), meta()), None),
        ((imported("maximum"), meta()), None),
        ((imported("maximum"), imported("maximum")), None),
        ((imported("average"), imported("average")), None),
        ((imported(), imported()), None),
        # What nccl-tests does unless it is told otherwise.
        ((imported(), imported("average")), None),
    ],
)
def test_times_that_are_not_the_same_of_the_ranks_are_told(metas: tuple[dict[str, Any], ...], here: str | None) -> None:
    lines = list(over_ranks([(f"run{number}", one) for number, one in enumerate(metas, start=1)]))
    if here is None:
        assert lines == []
    else:
        (line,) = lines
        assert line.endswith(f"nccl-tests may look faster than it is. These runs: {here}")
        assert "averages over ranks unless it was run with -a 3" in line
    # It is no reason to refuse a comparison.
    assert told(*metas) == []
