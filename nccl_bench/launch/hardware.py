"""The GPUs and the free memory of this machine, read without torch so that ``--dry-run`` answers immediately."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from nccl_bench.catalog.devices import DeviceSpec
from nccl_bench.records.environment import proc_fields

# Without a persistence daemon, nvidia-smi may have to load the driver, which takes seconds for each GPU.
_NVIDIA_SMI_TIMEOUT_S = 30
_DRIVER_GPUS = Path("/proc/driver/nvidia/gpus")
_MEMINFO = Path("/proc/meminfo")


def gpu_count(environ: Mapping[str, str]) -> int:
    """Return the number of NVIDIA GPUs, or MIG devices, that a process with ``environ`` may use.

    Like the CUDA runtime, it reads ``CUDA_VISIBLE_DEVICES`` up to the first invalid entry.
    """
    visible = _visible_devices(environ)
    if visible is not None:
        return len(visible)
    answer = _nvidia_smi("index")
    if answer is not None:
        return len(answer)
    return len(list(_DRIVER_GPUS.iterdir())) if _DRIVER_GPUS.is_dir() else 0


def free_memory_bytes(device: DeviceSpec, nproc: int, environ: Mapping[str, str] = os.environ) -> int | None:
    """Return the free memory for one of ``nproc`` ranks on this node in bytes, or ``None`` if it is unknown.

    With GPUs: the least free memory of a visible GPU. Without GPUs: an equal share of the available memory.
    """
    if not device.has_gpus:
        available = proc_fields(_MEMINFO).get("MemAvailable")
        return None if available is None else int(available.split()[0]) * 1024 // nproc
    free_mib = _nvidia_smi("memory.free", _visible_devices(environ))
    if not free_mib or not all(text.isdigit() for text in free_mib):
        return None
    return min(int(text) for text in free_mib) * 1024**2


def _visible_devices(environ: Mapping[str, str]) -> list[str] | None:
    """Return the valid entries of ``CUDA_VISIBLE_DEVICES``. ``None``: the variable is not set, so all are visible."""
    text = environ.get("CUDA_VISIBLE_DEVICES")
    if text is None:
        return None
    devices: list[str] = []
    for entry in map(str.strip, text.split(",")):
        if not entry or entry.startswith("-"):
            break
        devices.append(entry)
    return devices


def _nvidia_smi(field: str, devices: list[str] | None = None) -> list[str] | None:
    """Return ``field`` of each GPU, or of ``devices``; ``None`` if nvidia-smi is absent, fails or takes too long."""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    if devices is not None:
        command += ["-i", ",".join(devices)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_NVIDIA_SMI_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.split()
