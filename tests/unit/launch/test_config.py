"""The options of a launch, and the command and environment of its processes."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from nccl_bench.errors import UsageError
from nccl_bench.launch.config import (
    LaunchConfig,
    agent_environment,
    describe_loopback,
    find_interface,
    module_command,
    parse_endpoint,
)
from tests.support.fake_nccl import build

ONE_NODE = LaunchConfig(nproc=2)


def test_one_node_meets_on_loopback_and_several_at_the_given_address() -> None:
    assert LaunchConfig(nproc=4).meeting_address == ("127.0.0.1", 0)
    assert LaunchConfig(nproc=4, nnodes=2, rdzv_endpoint="node0:29500").meeting_address == ("node0", 29500)


@pytest.mark.parametrize(("host", "interface"), [("127.0.0.1", "lo"), ("::1", "lo"), ("no.such.host.invalid", None)])
def test_the_interface_is_the_one_that_leads_to_the_host(host: str, interface: str | None) -> None:
    assert find_interface(host, 29500) == interface


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


def test_processes_keep_the_environment_of_the_command() -> None:
    variables = agent_environment({"NCCL_DEBUG": "INFO", "PYTHONPATH": "/mine", "OMP_NUM_THREADS": "7"}, ONE_NODE)
    assert [variables[name] for name in ("NCCL_DEBUG", "PYTHONPATH", "OMP_NUM_THREADS")] == ["INFO", "/mine", "7"]
    assert agent_environment({}, ONE_NODE)["OMP_NUM_THREADS"] == "1"


def test_on_one_node_the_ranks_use_loopback_unless_the_user_names_an_interface() -> None:
    chosen = agent_environment({"NCCL_SOCKET_IFNAME": "eth7"}, ONE_NODE)
    assert (chosen["NCCL_SOCKET_IFNAME"], chosen["GLOO_SOCKET_IFNAME"]) == ("eth7", "lo")


def test_torchrun_options_of_a_pod_do_not_reach_the_launch() -> None:
    given = {"PET_RDZV_ENDPOINT": "job:1", "PET_NNODES": "2"}
    assert not [name for name in agent_environment(given, ONE_NODE) if "PET_" in name]


@pytest.mark.parametrize(
    ("host", "address", "node_rank", "warns"),
    [
        ("node0", "127.0.1.1", 0, True),  # Debian's address for the own name
        ("127.0.0.1", "127.0.0.1", 0, True),
        ("node0", "::1", 0, True),
        ("node0", "10.0.0.5", 0, False),
        ("node0", "fe80::1%eth0", 0, False),
        ("node0", "127.0.1.1", 1, False),
    ],
)
def test_node_0_warns_of_an_address_that_other_machines_do_not_reach(
    monkeypatch: pytest.MonkeyPatch, host: str, address: str, node_rank: int, warns: bool
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_keywords: [(0, 0, 0, "", (address, 29500))])
    launch = LaunchConfig(nproc=1, nnodes=2, node_rank=node_rank, rdzv_endpoint=f"{host}:29500")
    warning = describe_loopback(launch)
    assert (warning is not None) == warns
    if warning is not None:
        assert f"is {host}:29500: node 0 listens on {address}, which no other machine reaches" in warning


# An extension module that needs a function of a newer NCCL. It is loaded, and then it is no valid module.
NEEDS_NEW_NCCL = (
    "int ncclAlltoAll(void); int call(void) { return ncclAlltoAll(); } void *PyInit_needy(void) { return 0; }"
)


@pytest.mark.parametrize(("lazy", "error"), [(False, "undefined symbol: ncclAlltoAll"), (True, "SystemError")])
def test_lazy_processes_can_import_a_module_beside_a_preloaded_library_that_lacks_a_function(
    tmp_path: Path, lazy: bool, error: str
) -> None:
    new, old = (tmp_path / name for name in ("new", "old"))
    new.mkdir()
    old.mkdir()
    build(new)
    older = build(old, "-DOLD")
    (tmp_path / "needy.c").write_text(NEEDS_NEW_NCCL)
    link = [f"-L{new}", "-l:libnccl.so.2", f"-Wl,-rpath,{new}"]
    needy = ["cc", "-shared", "-fPIC", str(tmp_path / "needy.c"), "-o", str(tmp_path / "needy.so"), *link]
    subprocess.run(needy, check=True)
    command = module_command("timeit", "-n1", "-r1", "import needy", lazy=lazy)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "LD_PRELOAD": str(older)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert error in ended.stderr
