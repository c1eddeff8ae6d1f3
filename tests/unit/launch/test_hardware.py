"""The number of GPUs and the free memory, read without torch and tested without GPUs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from nccl_bench.catalog.devices import DEVICES
from nccl_bench.launch import hardware
from nccl_bench.launch.hardware import free_memory_bytes, gpu_count
from tests.support.fake_nvml import H200, FakeNvml, install, no_driver


def gpu(uuid: str, free_mib: int) -> dict[str, object]:
    return {"nvmlDeviceGetUUID": uuid, "nvmlDeviceGetMemoryInfo": SimpleNamespace(free=free_mib * 1024**2)}


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
    monkeypatch: pytest.MonkeyPatch, visible: str, count: int
) -> None:
    install(monkeypatch, FakeNvml())
    assert gpu_count({"CUDA_VISIBLE_DEVICES": visible}) == count


def test_all_gpus_are_counted_if_all_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeNvml(H200, H200, H200))
    assert gpu_count({}) == 3


@pytest.mark.parametrize("broken", [no_driver(), FakeNvml(error=FakeNvml.NVMLError("Driver/library version mismatch"))])
def test_the_driver_counts_the_gpus_if_its_library_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broken: FakeNvml
) -> None:
    install(monkeypatch, broken)
    monkeypatch.setattr(hardware, "_DRIVER_GPUS", tmp_path)
    assert gpu_count({}) == 0
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:02:00.0").mkdir()
    assert gpu_count({}) == 2
    monkeypatch.setattr(hardware, "_DRIVER_GPUS", tmp_path / "no driver")
    assert gpu_count({}) == 0


def test_free_gpu_memory_is_that_of_the_fullest_visible_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    mig = gpu("MIG-a", 100)
    install(monkeypatch, FakeNvml(gpu("GPU-a", 900), gpu("GPU-b", 500), gpu("GPU-c", 700) | {"mig": [mig]}))
    free_mib = {
        visible: (free_memory_bytes(DEVICES["cuda"], 2, {"CUDA_VISIBLE_DEVICES": visible}) or 0) // 1024**2
        for visible in ("0,2", "GPU-a,1", "GPU-c", "MIG-a")
    }
    assert free_mib == {"0,2": 700, "GPU-a,1": 500, "GPU-c": 700, "MIG-a": 100}
    assert free_memory_bytes(DEVICES["cuda"], 2, {}) == 500 * 1024**2


@pytest.mark.parametrize("nvml", [no_driver(), FakeNvml(), FakeNvml(gpu("GPU-a", 900), {})])
def test_gpu_memory_is_none_if_the_driver_does_not_give_it(monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml) -> None:
    install(monkeypatch, nvml)
    assert free_memory_bytes(DEVICES["cuda"], 1, {}) is None
    assert free_memory_bytes(DEVICES["cuda"], 1, {"CUDA_VISIBLE_DEVICES": "7"}) is None


def test_cpu_memory_is_shared_equally_between_ranks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       9000 kB\nMemAvailable:   6000 kB\n", encoding="ascii")
    monkeypatch.setattr(hardware, "_MEMINFO", meminfo)
    assert free_memory_bytes(DEVICES["cpu"], 3, {}) == 2000 * 1024
    monkeypatch.setattr(hardware, "_MEMINFO", tmp_path / "absent")
    assert free_memory_bytes(DEVICES["cpu"], 3, {}) is None
