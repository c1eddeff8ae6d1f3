"""Aliases for hosts, paths and GPUs in records that become public."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nccl_bench.records.anonymity import Aliases

UUID = "1b2cdef2-d965-c8f6-af94-5832135dbfbe"
META: dict[str, Any] = {
    "command": [
        *("nccl-bench", "run", "my.toml", "--out", "there", "--save-workload", "alice", "--arm"),
        "mine=eng/comm.py:C,tree=../old,A=1",
    ],
    "config": {
        "device": "cuda",
        "nccl_library": "/opt/nccl/libnccl.so.2",
        "workload": {"messages": [{"reason": "of /my/model"}], "source": ["run of bob/rank0.json", "node7.log"]},
        "user_arms": [{"name": "mine", "target": "eng/comm.py:C", "tree": "../old", "variables": {"A": "/my/a"}}],
    },
    "launch": {"mode": "torchrun", "rdzv_endpoint": "node7.lab.org:29500"},
    "environment": {
        "hostname": "node7",
        "kernel": "6.1-node7",
        "gpus": [{"name": "NVIDIA H200", "uuid": f"GPU-{UUID}"}],
        "variables": {"CUDA_VISIBLE_DEVICES": f"GPU-{UUID}"},
        "nccl_conf": {"/home/me/.nccl.conf": {"NCCL_DEBUG": "WARN"}, "/etc/nccl.conf": {}},
    },
    "worker": {
        "device": {"uuid": UUID, "type": "cuda"},
        "transport": {"path": "/opt/nccl/libnccl.so.2", "version": "2.28.9"},
        "process_sets": [{"python": "/envs/a b/bin/python", "reason": "/envs/a b/bin/python runs these processes"}],
    },
}


def test_a_record_has_one_alias_for_each_host_path_and_gpu() -> None:
    public = Aliases().meta(META)
    text = json.dumps(public)
    assert not [
        name
        for name in ("lab.org", "alice", "bob", "/my", "/home", "/opt", "eng/", "../old", "there", UUID)
        if name in text
    ]
    assert public["environment"]["hostname"] == "host-1"
    assert public["config"]["workload"]["source"][1] == "host-1"
    assert public["launch"] == {"mode": "torchrun", "rdzv_endpoint": "host-1:29500"}
    assert public["environment"]["variables"]["CUDA_VISIBLE_DEVICES"] == public["environment"]["gpus"][0]["uuid"]
    assert public["worker"]["device"] == {"uuid": public["environment"]["gpus"][0]["uuid"], "type": "cuda"}
    assert public["worker"]["transport"] == {"path": public["config"]["nccl_library"], "version": "2.28.9"}
    assert "/etc/nccl.conf" in public["environment"]["nccl_conf"]
    assert public["config"]["user_arms"][0]["target"].endswith(":C")


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("rank 1 on node7.lab.org: no", "rank 1 on host-1: no"),
        ("connect [10.2.3.4]:29500 and 127.0.0.1", "connect [host-2]:29500 and 127.0.0.1"),
        ("File '/my work/a.py', line 2", "File 'path-1', line 2"),
        ("at /home/me/a.py:12, twice /home/me/a.py", "at path-1:12, twice path-1"),
        ("12.3 GB/s, 1/2, https://a.org/b, /dev/shm", "12.3 GB/s, 1/2, https://a.org/b, /dev/shm"),
        ("GPU-1b2cdef2 of node77", "gpu-1 of node77"),
        ("fe80::1%eth0, [2001:db8::7]:29500", "host-2%eth0, [host-3]:29500"),
        ("2001:db8::7: refused, 2001:db8::/32", "host-2: refused, host-3/32"),
        ("::1, 12:34:56, 0000:1b:00.0, c10d::Store", "::1, 12:34:56, 0000:1b:00.0, c10d::Store"),
        (r"at C:\Users\bob\a b\c.py, 'C:\\Users\\bob', D:/bob/x", "at path-1, 'path-2', path-3"),
        ("run --rdzv-endpoint head2.lab.org:29500 reached head2", "run --rdzv-endpoint host-2:29500 reached host-2"),
        (r"'C:\\Program Files\\My Engine' and '" + "D:/my engine/a b.so'", "'path-1' and 'path-2'"),
        ("connect to ip-9.lab.org:29500, tcp://master:1", "connect to host-2:29500, tcp://host-3:1"),
        ("address of (worker, 29500). [gw.lab.org]:8", "address of (host-2, 29500). [host-3]:8"),
        ("resolve host gpu12: no; gpu12 is down", "resolve host host-2: no; host-2 is down"),
        ("vm9:1009:1024 [1] NCCL INFO Channel", "host-2:1009:1024 [1] NCCL INFO Channel"),
        (
            "host memory, a.cu:4012, pid:12345, 8:1K:x2, see https://a.org/b#c",
            "host memory, a.cu:4012, pid:12345, 8:1K:x2, see https://a.org/b#c",
        ),
        ("ProcessGroupNCCL.cpp:2314, localhost:29500, host 8", "ProcessGroupNCCL.cpp:2314, localhost:29500, host 8"),
        ("--rdzv-endpoint localhost:1 --env MASTER_ADDR=set", "--rdzv-endpoint localhost:1 --env MASTER_ADDR=set"),
    ],
)
def test_a_text_keeps_everything_but_names(text: str, public: str) -> None:
    aliases = Aliases()
    aliases.host("node7")
    assert aliases.text(text) == public


def test_every_host_that_a_setting_or_a_command_names_is_hidden() -> None:
    planted = {
        "command": ["nccl-bench", "run", "--rdzv-endpoint", "meet1:29500", "--arm", "mine=a:B,NCCL_COMM_ID=comm2:1"],
        "config": {"variables": {"MASTER_ADDR": "head3.lab.org"}, "user_arms": []},
        "launch": {"master_addr": "head3"},
        "environment": {
            "hostname": "node7.lab.org",
            "hostnames": ["node7.lab.org", "node8.lab.org"],
            "variables": {
                "NCCL_RAS_ADDR": "ras4:28028",
                "NCCL_COMM_ID": "[2001:db8::7]:9",
                "NCCL_IB_RAIL_PER_HOST": "1",
            },
        },
        "worker": {"reason": "rank 1 of node8: meet1, comm2, head3 and ras4 answer nothing"},
    }
    public = Aliases().meta(planted)
    text = json.dumps(public)
    named = ("meet1", "comm2", "head3", "ras4", "node7", "node8", "lab.org", "2001:db8")
    assert [name for name in named if name in text] == []
    assert public["launch"]["master_addr"] == public["config"]["variables"]["MASTER_ADDR"]
    assert public["worker"]["reason"].startswith("rank 1 of host-2: ")
    assert public["environment"]["variables"]["NCCL_IB_RAIL_PER_HOST"] == "1"


def test_hosts_whose_names_are_aliases_or_have_one_short_name_stay_apart() -> None:
    aliases = Aliases()
    assert [aliases.host(name) for name in ("host-2", "host-1", "a.x.org", "a.y.org")] == [
        f"host-{number}" for number in (1, 2, 3, 4)
    ]
    assert aliases.text("host-2 host-1 a.y.org a.x.org") == "host-1 host-2 host-4 host-3"
