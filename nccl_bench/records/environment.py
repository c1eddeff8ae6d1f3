"""Collects facts that may explain why two runs differ: versions, machine, GPUs, NCCL's settings.

The values of environment variables that ``catalog.variables`` does not name are not recorded.
"""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from nccl_bench.records.nvml import MEMORY_CLOCK, SM_CLOCK, Nvml, open_nvml
from nccl_bench.safety.secrets import recordable_settings

_PACKAGES = ("torch", "numpy", "pandas", "nccl4py")
_NCCL_PACKAGES = "nvidia-nccl"
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def collect(
    environ: Mapping[str, str] = os.environ,
    *,
    cpuinfo: Path = Path("/proc/cpuinfo"),
    system_conf: Path = Path("/etc/nccl.conf"),
    timeout_s: float = 10.0,
) -> dict[str, object]:
    """Return facts as plain data for ``run.json``; a fact that is not known is absent.

    NVML does not know the network cards, so the topology is the text of ``nvidia-smi topo -m``. The program is searched
    in the ``PATH`` of ``environ``, and has ``timeout_s`` to answer. A failure raises no error: its reason is recorded
    under ``gpu_query_error``, ``topology_error`` or ``nccl_conf_error``.
    """
    facts: dict[str, object] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "kernel": platform.release(),
        "hostname": platform.node(),
        "cpu_count": os.cpu_count(),
        "packages": _packages(),
        "variables": dict(sorted(recordable_settings(environ).items())),
    }
    if model := proc_fields(cpuinfo).get("model name"):
        facts["cpu"] = model
    nvml = open_nvml()
    if nvml.problem:
        facts["gpu_query_error"] = nvml.problem
    if gpus := [_gpu(nvml, gpu) for gpu in nvml.gpus()]:
        facts |= {"gpus": gpus} | _topology(environ, timeout_s)
    return facts | nccl_conf(environ, system_conf)


def proc_fields(path: Path) -> dict[str, str]:
    """Return the first value of each key in the ``key: value`` lines of a file; empty if the file does not exist."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = (line.partition(":") for line in reversed(lines))
    return {key.strip(): value.strip() for key, _, value in pairs}


def _packages() -> dict[str, str]:
    """Return the versions of installed packages, without importing them."""
    versions: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.name
        if name and (name in _PACKAGES or name.startswith(_NCCL_PACKAGES)):
            versions.setdefault(name, distribution.version)  # Python imports the first version on the path
    return dict(sorted(versions.items()))


def _gpu(nvml: Nvml, gpu: Any) -> dict[str, object]:
    """Return the known facts about one GPU by key."""
    memory = nvml.ask("nvmlDeviceGetMemoryInfo", gpu)
    power_limit_mw = nvml.ask("nvmlDeviceGetPowerManagementLimit", gpu)
    persistence = nvml.ask("nvmlDeviceGetPersistenceMode", gpu)
    facts = {
        "index": nvml.ask("nvmlDeviceGetIndex", gpu),
        "name": nvml.ask("nvmlDeviceGetName", gpu),
        "uuid": nvml.ask("nvmlDeviceGetUUID", gpu),
        "driver": nvml.ask("nvmlSystemGetDriverVersion"),
        "memory_mib": None if memory is None else memory.total // 1024**2,
        "sm_clock_mhz": nvml.ask("nvmlDeviceGetClockInfo", gpu, SM_CLOCK),
        "sm_clock_max_mhz": nvml.ask("nvmlDeviceGetMaxClockInfo", gpu, SM_CLOCK),
        "memory_clock_mhz": nvml.ask("nvmlDeviceGetClockInfo", gpu, MEMORY_CLOCK),
        "memory_clock_max_mhz": nvml.ask("nvmlDeviceGetMaxClockInfo", gpu, MEMORY_CLOCK),
        "power_limit_w": None if power_limit_mw is None else power_limit_mw / 1000,
        "persistence": None if persistence is None else ("Enabled" if persistence else "Disabled"),
    }
    return {key: value for key, value in facts.items() if value is not None}


def _topology(environ: Mapping[str, str], timeout_s: float) -> dict[str, object]:
    program = shutil.which("nvidia-smi", path=environ.get("PATH", os.defpath))
    if program is None:
        return {}
    try:
        answer = subprocess.run(
            [program, "topo", "-m"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        # nvidia-smi writes the reason of an error to stdout.
        return {"topology_error": f"{error}: {(error.stdout + error.stderr).strip()[:500]}"}
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"topology_error": str(error)}
    return {"topology": _ANSI.sub("", answer.stdout).rstrip()}


def nccl_conf(environ: Mapping[str, str], system_conf: Path) -> dict[str, object]:
    """Return the settings in NCCL's files, the user's file first, as NCCL reads them (src/misc/param.cc).

    NCCL strips no spaces: ``NCCL_DEBUG = INFO`` sets the variable ``"NCCL_DEBUG "``, which nothing reads. The spaces
    are recorded too.
    """
    user_conf = environ.get("NCCL_CONF_FILE") or Path(environ.get("HOME", "/")) / ".nccl.conf"
    settings: dict[str, dict[str, str]] = {}
    try:
        for file in (Path(user_conf), system_conf):
            if file.is_file():
                settings[str(file)] = _settings(file.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        return {"nccl_conf": settings, "nccl_conf_error": str(error)}
    return {"nccl_conf": settings} if settings else {}


def _settings(text: str) -> dict[str, str]:
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return recordable_settings({pair[0]: pair[1] for pair in pairs})
