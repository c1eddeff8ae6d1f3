"""What may make two runs differ besides what is compared."""

from __future__ import annotations

from typing import Any

import pytest
from synthetic_runs import meta

from nccl_bench.analysis.machine import differences, facts, over_ranks
from nccl_bench.records.nccl_tests import ARM

GPU = {"index": 0, "name": "NVIDIA H200", "driver": "580.95.05"}
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


def test_of_several_runs_those_that_agree_stand_together() -> None:
    runs = [recorded(), recorded(worker={"torch": "2.14"}), recorded()]
    assert told(*runs) == ["torch: 2.13.0 (run1, run3); 2.14 (run2)"]


def test_what_a_run_does_not_tell_is_no_difference() -> None:
    """As an import of nccl-tests, and a summary, which know the number of ranks at the most."""
    assert told(recorded(), {"launch": {"world_size": 4}, "config": {}}) == []
    assert told(recorded(), recorded() | {"environment": {}, "worker": None}) == []
    assert told(recorded(), {"launch": {"world_size": 2}, "config": {}}) == ["ranks: 4 (run1); 2 (run2)"]


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
        {"config": {"same_buffer": [1]}},
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
        assert line.endswith(f"nccl-tests may look faster than it is. Here: {here}")
        assert "averages over ranks unless it was run with -a 3" in line
    # It is no reason to refuse a comparison.
    assert told(*metas) == []
