"""What may explain why two runs differ: versions, machine, GPUs, NCCL's settings. Torch-free, by allow-list.

Only what is named here is recorded: an environment holds tokens and passwords, and results are made to be shared.
"""

from __future__ import annotations

import csv
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

_PREFIXES = ("NCCL_", "TORCH_NCCL_")
_VARIABLES = (
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_MODULE_LOADING",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
)
_PACKAGES = ("torch", "numpy", "pandas")
_NCCL_PACKAGES = "nvidia-nccl"
# Our key, nvidia-smi's field, and whether it is a number.
_GPU_FIELDS = (
    ("index", "index", True),
    ("name", "name", False),
    ("uuid", "uuid", False),
    ("driver", "driver_version", False),
    ("memory_mib", "memory.total", True),
    ("sm_clock_mhz", "clocks.sm", True),
    ("sm_clock_max_mhz", "clocks.max.sm", True),
    ("memory_clock_mhz", "clocks.mem", True),
    ("memory_clock_max_mhz", "clocks.max.mem", True),
    ("power_limit_w", "power.limit", True),
    ("persistence", "persistence_mode", False),
)
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def _version(package: str) -> str | None:
    """The installed version of ``package``, or ``None`` where it is not installed. Imports nothing of it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def collect(
    environ: Mapping[str, str] = os.environ,
    *,
    cpuinfo: Path = Path("/proc/cpuinfo"),
    system_conf: Path = Path("/etc/nccl.conf"),
    timeout_s: float = 10.0,
) -> dict[str, object]:
    """Plain data for ``run.json``; a key is absent where there is nothing to say.

    ``nvidia-smi`` is taken from ``environ``'s ``PATH`` and given ``timeout_s`` per query. It never raises for a
    machine it cannot read: the reason is under ``gpu_query_error`` or ``nccl_conf_error``.
    """
    facts: dict[str, object] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "kernel": platform.release(),
        "hostname": platform.node(),
        "cpu_count": os.cpu_count(),
        "packages": _packages(),
        "variables": {name: value for name, value in sorted(environ.items()) if allowed(name)},
    }
    model = _cpu_model(cpuinfo)
    if model is not None:
        facts["cpu"] = model
    return facts | _gpus(environ, timeout_s) | _nccl_conf(environ, system_conf)


def allowed(name: str) -> bool:
    """Whether the environment variable ``name`` may be recorded."""
    return name.startswith(_PREFIXES) or name in _VARIABLES


def _packages() -> dict[str, str | None]:
    names = {found.name for found in metadata.distributions() if found.name}
    wanted = sorted(name for name in names if name in _PACKAGES or name.startswith(_NCCL_PACKAGES))
    return {name: _version(name) for name in wanted}


def _cpu_model(cpuinfo: Path) -> str | None:
    if not cpuinfo.is_file():
        return None
    match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return match[1].strip() if match else None


def _gpus(environ: Mapping[str, str], timeout_s: float) -> dict[str, object]:
    program = shutil.which("nvidia-smi", path=environ.get("PATH", os.defpath))
    if program is None:
        return {}

    def ask(*options: str) -> str:
        return subprocess.run(
            [program, *options], capture_output=True, encoding="utf-8", errors="replace", timeout=timeout_s, check=True
        ).stdout

    try:
        query = ",".join(field for _, field, _ in _GPU_FIELDS)
        table = ask(f"--query-gpu={query}", "--format=csv,noheader,nounits")
        topology = ask("topo", "-m")
    except subprocess.CalledProcessError as error:
        # nvidia-smi explains itself on stdout.
        return {"gpu_query_error": f"{error}: {(error.stdout + error.stderr).strip()[:500]}"}
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"gpu_query_error": str(error)}
    gpus = [_gpu(row) for row in csv.reader(table.splitlines(), skipinitialspace=True) if row]
    return {"gpus": gpus, "topology": _ANSI.sub("", topology).rstrip()}


def _gpu(row: list[str]) -> dict[str, object]:
    """One line of the query; a value that this GPU does not report, such as ``[N/A]``, is absent."""
    gpu: dict[str, object] = {}
    for (key, _, is_number), text in zip(_GPU_FIELDS, row, strict=False):
        if not is_number and not text.startswith("["):
            gpu[key] = text
        elif is_number and re.fullmatch(r"\d+(\.\d+)?", text):
            gpu[key] = float(text) if "." in text else int(text)
    return gpu


def _nccl_conf(environ: Mapping[str, str], system_conf: Path) -> dict[str, object]:
    """The settings in NCCL's own files, the user's and then the system's, read as NCCL does (src/misc/param.cc).

    NCCL strips nothing, so ``NCCL_DEBUG = INFO`` sets a variable that nobody reads; the space shows here too.
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
    return {name: value for name, value in pairs if allowed(name)}
