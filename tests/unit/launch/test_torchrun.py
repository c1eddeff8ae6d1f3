"""torchrun's command line and environment. No processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nccl_bench.errors import UsageError
from nccl_bench.launch.torchrun import LaunchConfig, parse_endpoint, worker_environment


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_on_one_node_ranks_meet_on_any_free_port() -> None:
    launch = LaunchConfig(nproc=4)
    command = launch.command(Path("/s/spec.json"), Path("/s/logs"), 0)
    assert command[-3:] == ["-m", "nccl_bench.bench.worker", "/s/spec.json"]
    assert option(command, "--nproc-per-node") == "4"
    assert option(command, "--nnodes") == "1"
    assert option(command, "--rdzv-endpoint") == "127.0.0.1:0"
    assert option(command, "--max-restarts") == "0"
    assert option(command, "--log-dir") == "/s/logs"
    again = launch.command(Path("/s/spec.json"), Path("/s/logs"), 0)
    assert option(command, "--rdzv-id") != option(again, "--rdzv-id")


def test_several_nodes_meet_at_a_fixed_address_and_each_launch_has_its_own_port() -> None:
    nodes = [LaunchConfig(nproc=8, nnodes=2, node_rank=rank, rdzv_endpoint="node0:29500") for rank in (0, 1)]
    for attempt in (0, 3):
        commands = [node.command(Path("spec"), Path("logs"), attempt) for node in nodes]
        assert [option(command, "--node-rank") for command in commands] == ["0", "1"]
        for command in commands:
            assert option(command, "--rdzv-backend") == "static"
            assert option(command, "--master-addr") == "node0"
            assert option(command, "--master-port") == str(29500 + attempt)
        assert option(commands[0], "--rdzv-id") == option(commands[1], "--rdzv-id")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nproc": 0}, "--nproc is 0"),
        ({"nproc": 1, "nnodes": 0}, "--nnodes is 0"),
        ({"nproc": 1, "nnodes": 2}, "give each node --rdzv-endpoint"),
        ({"nproc": 1, "nnodes": 2, "node_rank": 2, "rdzv_endpoint": "a:1"}, "it is 0 to 1"),
        ({"nproc": 1, "node_rank": -1}, "--node-rank is -1"),
        ({"nproc": 1, "rdzv_endpoint": "a"}, "--rdzv-endpoint is 'a'"),
    ],
)
def test_values_that_do_not_go_together_are_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LaunchConfig(**values)


@pytest.mark.parametrize("text", ["", "host", "host:", ":1", "host:0", "host:65536", "host:-1", "host:x"])
def test_an_endpoint_without_host_or_port_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        parse_endpoint(text)


def test_an_endpoint_is_a_host_name_or_an_address_in_brackets_and_a_port() -> None:
    assert parse_endpoint("host:29500") == ("host", 29500)
    assert parse_endpoint("[fe80::1]:1") == ("fe80::1", 1)


def test_ranks_keep_the_environment_and_find_the_package() -> None:
    variables = worker_environment({"NCCL_DEBUG": "INFO", "PYTHONPATH": "/mine", "OMP_NUM_THREADS": "7"})
    assert variables["NCCL_DEBUG"] == "INFO"
    assert variables["OMP_NUM_THREADS"] == "7"
    root, mine = variables["PYTHONPATH"].split(os.pathsep)
    assert mine == "/mine"
    assert (Path(root) / "nccl_bench" / "launch" / "torchrun.py").is_file()
    assert worker_environment({})["OMP_NUM_THREADS"] == "1"
    assert os.pathsep not in worker_environment({})["PYTHONPATH"]


def test_torchrun_options_of_a_pod_do_not_reach_our_torchrun() -> None:
    assert not [
        name for name in worker_environment({"PET_RDZV_ENDPOINT": "job:1", "PET_NNODES": "2"}) if "PET_" in name
    ]
