"""Aliases for hosts, paths and GPUs in records that become public."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nccl_bench.records.anonymity import Aliases

UUID = "1b2cdef2-d965-c8f6-af94-5832135dbfbe"
META: dict[str, Any] = {
    "command": ["nccl-bench", "run", "my.toml", "--out", "there", "--arm", "mine=eng/comm.py:C,tree=../old,A=1"],
    "config": {
        "device": "cuda",
        "nccl_library": "/opt/nccl/libnccl.so.2",
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
    assert not [name for name in ("lab.org", "/my", "/home", "/opt", "eng/", "../old", "there", UUID) if name in text]
    assert public["environment"]["hostname"] == "host-1"
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
    ],
)
def test_a_text_keeps_everything_but_names(text: str, public: str) -> None:
    aliases = Aliases()
    aliases.host("node7")
    assert aliases.text(text) == public
