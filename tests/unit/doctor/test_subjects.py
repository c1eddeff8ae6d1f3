"""Defects planted on a machine are seen, with their effect and a command that helps."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nccl_bench.doctor.diagnosis import Severity
from nccl_bench.doctor.machine import Space
from nccl_bench.doctor.sockets import LookUp
from nccl_bench.doctor.torch_facts import TorchFacts
from nccl_bench.records.nvml import Nvml
from tests.support.fake_nvml import FakeNvml, running
from tests.support.planted_machine import GIB, IDLE_H200, harm, planted, variables

STOPS, CHANGES = Severity.STOPS, Severity.CHANGES
MIB = 1024**2


def pair(**answers: Any) -> dict[str, Any]:
    """Plant a second GPU that differs from the first one in ``answers``."""
    return {"gpus": (IDLE_H200, IDLE_H200 | answers)}


def refused(number: int) -> dict[str, Any]:
    def listen(port: int) -> None:
        if port == number:
            raise OSError(errno.EADDRINUSE, "Address already in use")

    return {"listen": listen}


def limits(**values: int) -> dict[str, Any]:
    lines = [f"{name:<26}{value:<21}{value:<21}units" for name, value in values.items()]
    return {"files": {"/proc/self/limits": "\n".join(lines)}}


# What is planted, and the only diagnosis that it must lead to: severity, subject and texts in it.
PLANTED: list[tuple[str, dict[str, Any], tuple[Severity, str, tuple[str, ...]]]] = [
    ("mixed GPUs", pair(nvmlDeviceGetName="NVIDIA H100"), (CHANGES, "GPUs", ("different kinds",))),
    ("one GPU", {"gpus": (IDLE_H200,)}, (CHANGES, "GPUs", ("one GPU", "nothing is sent"))),
    ("hidden GPUs", variables(CUDA_VISIBLE_DEVICES=""), (CHANGES, "GPUs", ("hides every GPU", "unset"))),
    ("a wrong GPU", variables(CUDA_VISIBLE_DEVICES="0,7"), (CHANGES, "GPUs", ("'7' is none of 2 GPUs",))),
    ("exclusive mode", pair(nvmlDeviceGetComputeMode=3), (CHANGES, "GPUs", ("GPU 1:", "nvidia-smi -i 1 -c DEFAULT"))),
    ("prohibited mode", pair(nvmlDeviceGetComputeMode=2), (STOPS, "GPUs", ("Prohibited",))),
    ("another process", pair(**running(4242)), (CHANGES, "GPUs", ("used by others: GPU 1 by process 4242",))),
    (
        "memory in use",
        pair(nvmlDeviceGetMemoryInfo=SimpleNamespace(total=141 * GIB, free=100 * GIB)),
        (CHANGES, "GPUs", ("GPU 1: 41.0 of 141 GiB", "outside this container")),
    ),
    ("MIG", pair(nvmlDeviceGetMigMode=[1, 1]), (STOPS, "MIG", ("GPU 1: MIG is on", "nvidia-smi -i 1 -mig 0"))),
    ("ECC off", pair(nvmlDeviceGetEccMode=[0, 0]), (CHANGES, "ECC", ("GPU 1: ECC is off",))),
    (
        "memory errors",
        pair(nvmlDeviceGetTotalEccErrors=lambda kind, counter: 3 if (kind, counter) == (1, 0) else 0),
        (CHANGES, "ECC", ("GPU 1: memory errors",)),
    ),
    ("remapped rows", pair(nvmlDeviceGetRemappedRows=(0, 1, 1, 0)), (CHANGES, "ECC", ("GPU 1", "reset"))),
    (
        "throttled",
        pair(nvmlDeviceGetCurrentClocksEventReasons=0x40),
        (CHANGES, "clocks", ("hardware thermal slowdown", "Cool the GPU")),
    ),
    ("clocks differ", pair(nvmlDeviceGetMaxClockInfo={1: 1200, 2: 3201}), (CHANGES, "clocks", ("GPU 1 1200 MHz",))),
    ("power limit", pair(nvmlDeviceGetPowerManagementLimit=500_000), (CHANGES, "clocks", ("500 W", "-pl 700"))),
    ("persistence", pair(nvmlDeviceGetPersistenceMode=0), (CHANGES, "clocks", ("GPU 1: persistence", "-pm 1"))),
    ("a dead NVLink", pair(nvmlDeviceGetNvLinkState=lambda link: int(link < 17)), (CHANGES, "links", ("17 active",))),
    (
        "no peer access",
        {"gpus": (IDLE_H200 | {"nvmlDeviceGetP2PStatus": lambda _peer, index: 5 * (index == 0)}, dict(IDLE_H200))},
        (CHANGES, "links", ("cannot read each other's memory: 0-1",)),
    ),
    ("few lanes", pair(nvmlDeviceGetCurrPcieLinkWidth=8), (CHANGES, "links", ("GPU 1 8 of 16",))),
    ("NVLS off", variables(NCCL_NVLS_ENABLE="0"), (CHANGES, "NVLS", ("switches it off",))),
    (
        "a quota of version 2",
        {"files": {"/sys/fs/cgroup/job/cpu.max": "150000 100000"}},
        (CHANGES, "CPUs", ("32 CPUs, limited to the time of 1.5", "2 ranks")),
    ),
    (
        "a quota of a higher cgroup",
        {"files": {"/sys/fs/cgroup/cpu.max": "100000 100000"}},
        (CHANGES, "CPUs", ("limited to the time of 1,",)),
    ),
    (
        "a quota of version 1",
        {
            "files": {
                "/proc/self/cgroup": "4:cpu,cpuacct:/docker/77\n0::/\n",
                "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000",
                "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            }
        },
        (CHANGES, "CPUs", ("limited to the time of 1,",)),
    ),
    (
        "stopped by the quota",
        {"files": {"/sys/fs/cgroup/job/cpu.stat": "nr_periods 9\nnr_throttled 12\n"}},
        (CHANGES, "CPUs", ("stopped its processes 12 times",)),
    ),
    (
        "a governor",
        {"files": {"/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave"}},
        (CHANGES, "CPUs", ("powersave", "cpupower")),
    ),
    ("load", {"files": {"/proc/loadavg": "31.5 2 3 1/2 3"}}, (CHANGES, "CPUs", ("load of the last minute is 31.5",))),
    (
        "a limit of memory",
        {"files": {"/sys/fs/cgroup/job/memory.max": f"{4 * GIB}", "/sys/fs/cgroup/job/memory.current": f"{GIB}"}},
        (CHANGES, "memory", ("3.0 GiB of memory are free, the cgroup's limit is 4.0 GiB", "2 ranks")),
    ),
    (
        "a limit of memory of version 1",
        {
            "files": {
                "/proc/self/cgroup": "4:memory:/docker/77\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * GIB}",
                "/sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}",
            }
        },
        (CHANGES, "memory", ("the cgroup's limit is 4.0 GiB",)),
    ),
    ("few processes", {"files": {"/sys/fs/cgroup/job/pids.max": "100"}}, (CHANGES, "memory", ("100 processes",))),
    (
        "docker's /dev/shm",
        {"space": lambda _path: Space(total_bytes=64 * MIB, free_bytes=64 * MIB)},
        (CHANGES, "/dev/shm", ("64 MiB", "--shm-size")),
    ),
    (
        "a full /dev/shm",
        {"space": lambda _path: Space(total_bytes=64 * GIB, free_bytes=5 * MIB)},
        (STOPS, "/dev/shm", ("5 MiB are free",)),
    ),
    ("files of NCCL", {"files": {"/dev/shm/nccl-AbC": "x"}}, (CHANGES, "/dev/shm", ("nccl-AbC", "rm /dev/shm/nccl-*"))),
    ("open files", limits(**{"Max open files": 256}), (CHANGES, "ulimits", ("256 files", "ulimit -n"))),
    ("processes", limits(**{"Max processes": 200}), (CHANGES, "ulimits", ("200 processes", "ulimit -u"))),
    ("address space", limits(**{"Max address space": GIB}), (STOPS, "ulimits", ("1.0 GiB", "ulimit -v"))),
    (
        "locked memory with InfiniBand",
        {
            "files": {
                **limits(**{"Max locked memory": 8 * MIB})["files"],
                "/sys/class/infiniband/mlx5_0/node_type": "1",
            }
        },
        (CHANGES, "ulimits", ("8 MiB", "InfiniBand", "ulimit -l")),
    ),
    (
        "a name without an address",
        {"look_up": lambda _host: LookUp(problem="Name or service not known")},
        (CHANGES, "host name", ("node7, has no address (Name or service not known)", "/etc/hosts")),
    ),
    (
        "Debian's address of the own name",
        {"look_up": lambda _host: LookUp(addresses=("127.0.1.1",))},
        (CHANGES, "host name", ("127.0.1.1", "On several nodes", "--rdzv-endpoint")),
    ),
    (
        "a slow name server",
        {"look_up": lambda _host: LookUp(addresses=("10.0.0.7",), seconds=1.2)},
        (CHANGES, "host name", ("took 1.2 s",)),
    ),
    ("no loopback", refused(0), (STOPS, "ports", ("nothing can listen on 127.0.0.1", "ip link set lo up"))),
    ("the port of torchrun", refused(29500), (CHANGES, "ports", ("another program uses port 29500",))),
    (
        "few ports",
        {"files": {"/proc/sys/net/ipv4/ip_local_port_range": "40000 40099"}},
        (CHANGES, "ports", ("one of 100 ports",)),
    ),
    ("a shell of salloc", variables(SLURM_JOB_ID="42"), (CHANGES, "Slurm", ("job 42", "srun nccl-bench run"))),
    (
        "a torch that raises",
        {"torch": TorchFacts(problem="ImportError: libcudart.so.13: cannot open")},
        (STOPS, "torch", ("cannot be imported: ImportError: libcudart.so.13",)),
    ),
    (
        "no torch",
        {"torch": TorchFacts(problem="ModuleNotFoundError: No module named 'torch'")},
        (STOPS, "torch", ("torch is not installed", "pip install torch")),
    ),
    ("torch for CPUs", {"torch": {"cuda": None, "multicast": ()}}, (STOPS, "torch", ("is a CPU build",))),
    ("an old torch", {"torch": {"torch": "2.4.1"}}, (STOPS, "torch", ("2.4.1 is too old",))),
    (
        "a torch that is newer than the driver",
        {"torch": {"cuda": "14.0", "cuda_problem": "RuntimeError: driver too old", "multicast": ()}},
        (STOPS, "torch", ("driver too old", "supports CUDA up to 13.0", "whl/cu130")),
    ),
    (
        "a bad nccl4py",
        {"torch": {"nccl4py": "0.5", "nccl4py_problem": "nccl4py 0.5 is installed"}},
        (CHANGES, "nccl4py", ("0.5 is installed", "pip install nccl4py==")),
    ),
    (
        "no libnccl",
        {"torch": {"library": None, "torch_library": None, "loaded": (), "library_problem": "no libnccl was found"}},
        (STOPS, "libnccl", ("no libnccl was found", "pip install")),
    ),
    (
        "a variable that names no file",
        variables(VLLM_NCCL_SO_PATH="/nowhere/libnccl.so.2"),
        (CHANGES, "libnccl", ("VLLM_NCCL_SO_PATH is '/nowhere/libnccl.so.2', which is not a file",)),
    ),
    (
        "a misspelt variable",
        variables(NCCL_DEBGU="INFO"),
        (CHANGES, "settings", ("'NCCL_DEBGU' in the environment", "NCCL knows NCCL_DEBUG.", "unset NCCL_DEBGU")),
    ),
    (
        "a variable of another version of NCCL",
        variables(NCCL_RINGS="0 1"),
        (CHANGES, "settings", ("'NCCL_RINGS' in the environment", "Another version of NCCL reads it.")),
    ),
    (
        "a space in nccl.conf",
        {"files": {"/etc/nccl.conf": "NCCL_NVLS_ENABLE = 1\n"}},
        (
            CHANGES,
            "settings",
            ("'NCCL_NVLS_ENABLE '", "ends with a space", "s/^ *NCCL_NVLS_ENABLE *= */NCCL_NVLS_ENABLE=/"),
        ),
    ),
    (
        "a file that a variable overrides",
        {"files": {"/root/.nccl.conf": "NCCL_NVLS_ENABLE=1\n"}, **variables(NCCL_NVLS_ENABLE="2", HOME="/root")},
        (CHANGES, "settings", ("NCCL_NVLS_ENABLE is 1 in", "and 2 in the environment")),
    ),
    ("an algorithm", variables(NCCL_ALGO="Ring"), (CHANGES, "settings", ("NCCL_ALGO=Ring", "unset NCCL_ALGO"))),
    ("a log", variables(NCCL_DEBUG="INFO"), (CHANGES, "settings", ("NCCL_DEBUG=INFO",))),
    ("blocking", variables(CUDA_LAUNCH_BLOCKING="1"), (CHANGES, "settings", ("CUDA_LAUNCH_BLOCKING=1", "waits"))),
    (
        "an interface that is not there",
        variables(GLOO_SOCKET_IFNAME="ib0"),
        (STOPS, "settings", ("GLOO_SOCKET_IFNAME is 'ib0'", "eth0, lo")),
    ),
]


@pytest.mark.parametrize(("plant", "expected"), [row[1:] for row in PLANTED], ids=[row[0] for row in PLANTED])
def test_what_is_planted_is_the_only_thing_that_is_wrong(
    plant: dict[str, Any], expected: tuple[Severity, str, tuple[str, ...]], tmp_path: Path
) -> None:
    (diagnosis,) = harm(planted(tmp_path, **plant))
    severity, subject, texts = expected
    assert (diagnosis.severity, diagnosis.subject) == (severity, subject)
    text = f"{diagnosis.seen} {diagnosis.effect} {diagnosis.command}"
    assert all(each in text for each in texts), text
    assert diagnosis.effect.endswith(".")


def test_gpus_that_a_container_hides_stop_a_benchmark(tmp_path: Path) -> None:
    files = {"/proc/driver/nvidia/gpus/0000:01:00.0/information": ""}
    seen = harm(planted(tmp_path, gpus=(), files=files, torch={"multicast": ()}))
    assert [(each.severity, each.subject) for each in seen] == [(STOPS, "GPUs")]
    assert "--gpus all" in seen[0].command


def test_a_driver_that_cannot_be_used_stops_a_benchmark(tmp_path: Path) -> None:
    nvml = Nvml(library=None, problem="Driver/library version mismatch")
    seen = harm(planted(tmp_path, nvml=nvml, torch={"multicast": ()}))
    assert [(each.severity, each.subject) for each in seen] == [(STOPS, "GPUs")]
    assert "version mismatch" in seen[0].seen


def test_an_unready_fabric_stops_a_benchmark(tmp_path: Path) -> None:
    import ctypes

    class Fabric(ctypes.Structure):
        _fields_ = (("state", ctypes.c_uint),)

    def answer(pointer: Any) -> int:
        pointer._obj.state = 2
        return 0

    library = FakeNvml(*(dict(IDLE_H200, nvmlDeviceGetGpuFabricInfoV=answer) for _ in range(2)))
    library.c_nvmlGpuFabricInfoV_t = Fabric  # type: ignore[attr-defined]
    (seen,) = harm(planted(tmp_path, nvml=Nvml(library=library)))
    assert (seen.severity, seen.subject) == (STOPS, "NVLS")
    assert "fabricmanager" in seen.command
