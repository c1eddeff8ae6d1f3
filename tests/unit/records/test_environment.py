"""Facts about a machine that are recorded, and secrets that never are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.records.environment import collect
from tests.support.fake_nvml import H200, UUID, FakeNvml, install, no_driver

TOPOLOGY = "printf '\\033[4mGPU0\\033[0m X NV18\\n'"


def fake_smi(folder: Path, topology: str = TOPOLOGY) -> dict[str, str]:
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\n[ "$*" = "topo -m" ] || exit 9\n{topology}\n')
    program.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


@pytest.fixture(autouse=True)
def gpus(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Install two GPUs. The second does not know its power limit."""
    second = {key: value for key, value in H200.items() if key != "nvmlDeviceGetPowerManagementLimit"}
    return install(monkeypatch, FakeNvml(H200, second))


def gather(folder: Path, environ: dict[str, str] | None = None, timeout_s: float = 10.0) -> dict[str, Any]:
    home = {"HOME": str(folder), "PATH": str(folder)}
    return collect(
        home | (environ or {}), cpuinfo=folder / "cpuinfo", system_conf=folder / "system.conf", timeout_s=timeout_s
    )


def test_only_allowed_variables_are_recorded(tmp_path: Path) -> None:
    kept = {"NCCL_ALGO": "Ring", "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1", "CUDA_VISIBLE_DEVICES": "0,1"}
    secret = {"API_TOKEN": "hunter2", "MY_NCCL_PASSWORD": "hunter2", "CUDA_SECRET": "hunter2"}
    (tmp_path / ".nccl.conf").write_text("PASSWORD=hunter2\n")
    facts = gather(tmp_path, kept | secret)
    assert facts["variables"] == kept
    assert "hunter2" not in json.dumps(facts)


def test_versions_of_packages_are_recorded_without_importing_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, version in (("nvidia_nccl_cu13", "2.28.9"), ("torch", "9.9"), ("secret_project", "1.0")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path)
    packages = gather(tmp_path)["packages"]
    assert packages["nvidia-nccl-cu13"] == "2.28.9"
    assert packages["torch"] == "9.9"
    assert "secret-project" not in packages


def test_the_cpu_model_is_absent_if_unknown(tmp_path: Path) -> None:
    assert "cpu" not in gather(tmp_path)
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\nmodel name\t: other\n")
    assert gather(tmp_path)["cpu"] == "Fast CPU @ 3 GHz"


@pytest.mark.parametrize("program", [True, False])
def test_without_a_driver_facts_about_gpus_are_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: bool
) -> None:
    install(monkeypatch, no_driver())
    facts = gather(tmp_path, fake_smi(tmp_path) if program else None)
    assert not {"gpus", "topology", "gpu_query_error", "topology_error"} & facts.keys()


def test_gpus_and_topology_are_recorded(tmp_path: Path) -> None:
    facts = gather(tmp_path, fake_smi(tmp_path))
    assert facts["gpus"][0] == {
        "index": 0,
        "name": "NVIDIA H200",
        "uuid": f"GPU-{UUID}",
        "driver": "580.65",
        "memory_mib": 143771,
        "sm_clock_mhz": 1980,
        "sm_clock_max_mhz": 1980,
        "memory_clock_mhz": 3201,
        "memory_clock_max_mhz": 3201,
        "power_limit_w": 700.0,
        "persistence": "Enabled",
    }
    assert facts["gpus"][1]["index"] == 1
    assert "power_limit_w" not in facts["gpus"][1]
    assert facts["topology"] == "GPU0 X NV18"


@pytest.mark.parametrize(
    ("topology", "says"),
    [("echo 'NVIDIA-SMI has failed'; exit 9", "NVIDIA-SMI has failed"), ("exec sleep 30", "timed out")],
)
def test_a_failure_of_nvidia_smi_is_recorded_and_not_raised(tmp_path: Path, topology: str, says: str) -> None:
    facts = gather(tmp_path, fake_smi(tmp_path, topology), timeout_s=0.3 if "sleep" in topology else 10.0)
    assert says in facts["topology_error"]
    assert len(facts["gpus"]) == 2


def test_a_driver_that_cannot_be_used_is_recorded_and_not_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeNvml(error=FakeNvml.NVMLError("Driver/library version mismatch")))
    facts = gather(tmp_path)
    assert facts["gpu_query_error"] == "Driver/library version mismatch"
    assert "gpus" not in facts


def test_nccl_conf_is_read_as_nccl_reads_it(tmp_path: Path) -> None:
    own, system = tmp_path / ".nccl.conf", tmp_path / "system.conf"
    own.write_text("# NCCL_ALGO=Tree\nNCCL_ALGO=Ring\nNCCL_SOCKET_IFNAME==ens1f0\nnonsense\nNCCL_DEBUG = INFO\n")
    system.write_text("NCCL_P2P_LEVEL=NVL\n")
    assert gather(tmp_path)["nccl_conf"] == {
        str(own): {"NCCL_ALGO": "Ring", "NCCL_SOCKET_IFNAME": "=ens1f0", "NCCL_DEBUG ": " INFO"},
        str(system): {"NCCL_P2P_LEVEL": "NVL"},
    }


def test_nccl_conf_file_is_read_instead_of_the_file_at_home(tmp_path: Path) -> None:
    (tmp_path / ".nccl.conf").write_text("NCCL_ALGO=Ring\n")
    other = tmp_path / "other.conf"
    other.write_text("NCCL_ALGO=Tree\n")
    assert gather(tmp_path, {"NCCL_CONF_FILE": str(other)})["nccl_conf"] == {str(other): {"NCCL_ALGO": "Tree"}}


def test_the_facts_are_plain_json(tmp_path: Path) -> None:
    facts = gather(tmp_path, fake_smi(tmp_path))
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert {"python", "platform", "kernel", "hostname", "cpu_count", "packages"} <= facts.keys()
