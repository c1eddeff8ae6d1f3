"""The number of GPUs and the free memory, read without torch and tested without GPUs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from nccl_bench.catalog.devices import DEVICES
from nccl_bench.launch import hardware
from nccl_bench.launch.hardware import free_memory_bytes, gpu_count


class NvidiaSmi:
    """Stands in for ``subprocess.run``: answers ``text``, or raises ``error``."""

    def __init__(self, text: str = "", error: Exception | None = None) -> None:
        self.text, self.error = text, error
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert options["timeout"]
        self.commands.append(command)
        if self.error is not None:
            raise self.error
        return subprocess.CompletedProcess(command, 0, stdout=self.text)


def install(monkeypatch: pytest.MonkeyPatch, smi: NvidiaSmi, driver: Path) -> NvidiaSmi:
    monkeypatch.setattr(hardware.subprocess, "run", smi)
    monkeypatch.setattr(hardware, "_DRIVER_GPUS", driver)
    return smi


@pytest.mark.parametrize(
    ("visible", "count"),
    [
        ("", 0),
        ("-1", 0),
        ("0", 1),
        ("0,1,2,3", 4),
        ("2, 3", 2),
        ("0,1,-1,2", 2),
        ("GPU-8932f937,GPU-1", 2),
        ("MIG-a,MIG-b,MIG-c", 3),
    ],
)
def test_visible_devices_are_counted_up_to_the_first_invalid_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible: str, count: int
) -> None:
    install(monkeypatch, NvidiaSmi(error=AssertionError("nvidia-smi is not needed")), tmp_path)
    assert gpu_count({"CUDA_VISIBLE_DEVICES": visible}) == count


def test_nvidia_smi_counts_the_gpus_if_all_are_visible(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, NvidiaSmi("0\n1\n2\n"), tmp_path)
    assert gpu_count({}) == 3


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("nvidia-smi"),
        subprocess.TimeoutExpired("nvidia-smi", 1),
        subprocess.CalledProcessError(9, "x"),
    ],
)
def test_the_driver_counts_the_gpus_if_nvidia_smi_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    install(monkeypatch, NvidiaSmi(error=error), tmp_path)
    assert gpu_count({}) == 0
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:02:00.0").mkdir()
    assert gpu_count({}) == 2
    install(monkeypatch, NvidiaSmi(error=error), tmp_path / "no driver")
    assert gpu_count({}) == 0


def test_free_gpu_memory_is_that_of_the_fullest_visible_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    smi = install(monkeypatch, NvidiaSmi("81000\n500\n"), tmp_path)
    assert free_memory_bytes(DEVICES["cuda"], 2, {"CUDA_VISIBLE_DEVICES": "4,6"}) == 500 * 1024**2
    assert smi.commands[0][-2:] == ["-i", "4,6"]
    assert free_memory_bytes(DEVICES["cuda"], 2, {}) == 500 * 1024**2
    assert "-i" not in smi.commands[1]


@pytest.mark.parametrize("smi", [NvidiaSmi("[N/A]\n"), NvidiaSmi(""), NvidiaSmi(error=FileNotFoundError("nvidia-smi"))])
def test_gpu_memory_is_none_if_nvidia_smi_does_not_give_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, smi: NvidiaSmi
) -> None:
    install(monkeypatch, smi, tmp_path)
    assert free_memory_bytes(DEVICES["cuda"], 1, {}) is None


def test_cpu_memory_is_shared_equally_between_ranks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       9000 kB\nMemAvailable:   6000 kB\n", encoding="ascii")
    monkeypatch.setattr(hardware, "_MEMINFO", meminfo)
    assert free_memory_bytes(DEVICES["cpu"], 3, {}) == 2000 * 1024
    monkeypatch.setattr(hardware, "_MEMINFO", tmp_path / "absent")
    assert free_memory_bytes(DEVICES["cpu"], 3, {}) is None
