"""The GPUs and the free memory of this machine, read without torch so that ``--dry-run`` answers immediately."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nccl_bench.catalog.devices import DeviceSpec
from nccl_bench.records.environment import proc_fields
from nccl_bench.records.nvml import open_nvml

_DRIVER_GPUS = Path("/proc/driver/nvidia/gpus")
_MEMINFO = Path("/proc/meminfo")


def gpu_count(environ: Mapping[str, str]) -> int:
    """Return the number of NVIDIA GPUs, or MIG devices, that a process with ``environ`` may use.

    Like the CUDA runtime, it reads ``CUDA_VISIBLE_DEVICES`` up to the first invalid entry.
    """
    visible = _visible_devices(environ)
    if visible is not None:
        return len(visible)
    # A container can have the GPUs and lack the library.
    return len(open_nvml().gpus()) or (len(list(_DRIVER_GPUS.iterdir())) if _DRIVER_GPUS.is_dir() else 0)


def free_memory_bytes(device: DeviceSpec, nproc: int, environ: Mapping[str, str] = os.environ) -> int | None:
    """Return the free memory for one of ``nproc`` ranks on this node in bytes, or ``None`` if it is unknown.

    With GPUs: the least free memory of a visible GPU. Without GPUs: an equal share of the available memory.
    """
    if not device.has_gpus:
        available = proc_fields(_MEMINFO).get("MemAvailable")
        return None if available is None else int(available.split()[0]) * 1024 // nproc
    nvml, visible = open_nvml(), _visible_devices(environ)
    gpus = nvml.gpus() if visible is None else [nvml.gpu(name) for name in visible]
    memories: list[Any] = [None if gpu is None else nvml.ask("nvmlDeviceGetMemoryInfo", gpu) for gpu in gpus]
    return min(int(memory.free) for memory in memories) if memories and all(memories) else None


def _visible_devices(environ: Mapping[str, str]) -> list[str] | None:
    """Return the valid entries of ``CUDA_VISIBLE_DEVICES``; ``None`` if it is not set, so that all GPUs are visible."""
    text = environ.get("CUDA_VISIBLE_DEVICES")
    if text is None:
        return None
    devices: list[str] = []
    for entry in map(str.strip, text.split(",")):
        if not entry or entry.startswith("-"):
            break
        devices.append(entry)
    return devices
