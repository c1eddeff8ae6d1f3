"""A machine of which everything that ``nccl-bench doctor`` reads is planted: files, driver, variables and torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

from nccl_bench.doctor.diagnosis import Diagnosis, Severity
from nccl_bench.doctor.examination import examine
from nccl_bench.doctor.machine import Machine, Space
from nccl_bench.doctor.sockets import LookUp
from nccl_bench.doctor.torch_facts import TorchFacts
from nccl_bench.records.nvml import Nvml
from tests.support.fake_nvml import H200, FakeNvml

GIB = 1024**3
VERSION = b"NCCL version 2.28.9+cuda13.0\0"
# A GPU that nobody uses, in a healthy state, with 18 NVLinks.
IDLE_H200: dict[str, Any] = H200 | {
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=141 * GIB, free=140 * GIB),
    "nvmlDeviceGetComputeMode": 0,
    "nvmlDeviceGetEccMode": [1, 1],
    "nvmlDeviceGetTotalEccErrors": lambda _kind, _counter: 0,
    "nvmlDeviceGetRemappedRows": (0, 0, 0, 0),
    "nvmlDeviceGetPowerManagementDefaultLimit": 700_000,
    "nvmlDeviceGetNvLinkState": lambda link: int(link < 18),
    "nvmlDeviceGetP2PStatus": lambda _peer, _index: 0,
    "nvmlDeviceGetTopologyCommonAncestor": lambda _peer: 50,
    "nvmlDeviceGetCurrPcieLinkWidth": 16,
    "nvmlDeviceGetMaxPcieLinkWidth": 16,
}
FILES: Mapping[str, str] = {
    "/proc/self/limits": "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max processes             96365                96365                processes \n"
    "Max open files            20000                20000                files     \n"
    "Max locked memory         unlimited            unlimited            bytes     \n"
    "Max address space         unlimited            unlimited            bytes     \n",
    "/proc/self/cgroup": "0::/job\n",
    "/proc/meminfo": "MemTotal:       130000000 kB\nMemAvailable:   100000000 kB\n",
    "/proc/loadavg": "0.10 0.20 0.30 1/100 4242\n",
    "/proc/sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
    "/sys/fs/cgroup/job/cpu.max": "max 100000\n",
    "/sys/fs/cgroup/job/memory.max": "max\n",
    "/sys/class/net/lo/mtu": "65536\n",
    "/sys/class/net/eth0/mtu": "1500\n",
    "/etc/hosts": "127.0.0.1 localhost\n10.0.0.7 node7 # this one\n",
    "/dev/shm/other": "",
}


def good_torch(library: Path) -> TorchFacts:
    """Return what the process that imports torch sees if all is well."""
    path = str(library)
    return TorchFacts(
        torch="2.11.0",
        file="/torch/__init__.py",
        cuda="13.0",
        devices=2,
        multicast=(True, True),
        library=path,
        library_source="already loaded",
        torch_library=path,
        loaded=(path,),
    )


def planted(
    root: Path,
    *,
    gpus: tuple[dict[str, Any], ...] = (IDLE_H200, dict(IDLE_H200)),
    files: Mapping[str, str] = {},
    torch: Mapping[str, Any] | TorchFacts = MappingProxyType({}),
    library: bytes = VERSION + b"NCCL_ALGO\0NCCL_DEBUG\0NCCL_NVLS_ENABLE\0NCCL_SOCKET_IFNAME\0",
    **fields: Any,
) -> Machine:
    """Return a machine on which all is well, except for what the arguments plant."""
    for name, text in {**FILES, **files}.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    nccl = root / "lib" / "libnccl.so.2"
    nccl.parent.mkdir(exist_ok=True)
    nccl.write_bytes(library)
    facts = torch
    if not isinstance(torch, TorchFacts):
        good = good_torch(nccl)
        values = {name: getattr(good, name) for name in good.__slots__}
        facts = TorchFacts(**values | dict(torch))
    assert isinstance(facts, TorchFacts)
    given: dict[str, Any] = {
        "nvml": Nvml(library=FakeNvml(*gpus)),
        "ranks": len(gpus) or 2,
        "environ": {"PATH": "/nowhere"},
        "python_path": (),
        "host": "node7",
        "cpus": 32,
        "space": lambda _path: Space(total_bytes=64 * GIB, free_bytes=63 * GIB),
        "listen": lambda _port: None,
        "look_up": lambda _host: LookUp(addresses=("10.0.0.7",), seconds=0.001),
    }
    return Machine(root=root, torch=lambda: facts, **given | fields)


def harm(machine: Machine) -> list[Diagnosis]:
    """Return all that is wrong with a machine."""
    return [each for each in examine(machine).diagnoses if each.severity is not Severity.FINE]


def variables(**values: str) -> dict[str, Any]:
    """Plant variables of the environment."""
    return {"environ": {"PATH": "/nowhere", **values}}
