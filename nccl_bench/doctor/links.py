"""The links between GPUs: NVLink, access to each other's memory, PCIe, and NVLink multicast (NVLS)."""

import ctypes
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import Any

from nccl_bench.doctor.diagnosis import Diagnosis, changes, fine, stops
from nccl_bench.doctor.gpus import numbers_text
from nccl_bench.doctor.machine import Machine

_READ, _NVLINK = 0, 2  # NVML_P2P_CAPS_INDEX_* in nvml.h
_MOST_LINKS = 36  # NVML_NVLINK_MAX_LINKS
_NOT_STARTED, _IN_PROGRESS = 1, 2  # NVML_GPU_FABRIC_STATE_*
# NVML_TOPOLOGY_* -> the farthest part of the machine that the path between two GPUs goes through.
_ANCESTORS = {
    0: "one board",
    10: "one PCIe switch",
    20: "several PCIe switches",
    30: "the host bridge",
    40: "one NUMA node",
    50: "both sockets",
}


def examine_links(machine: Machine) -> Iterator[Diagnosis]:
    """Yield how the GPUs are connected."""
    gpus, ask = machine.gpus, machine.nvml.ask
    active = {number: _active_links(machine, gpu) for number, gpu in enumerate(gpus)}
    most = max(active.values(), default=0)
    if most:
        fewer = [number for number, count in active.items() if count < most]
        if fewer:
            yield changes(
                f"{numbers_text(fewer)}: "
                + ", ".join(str(active[number]) for number in fewer)
                + f" active NVLinks, and {most} on other GPUs",
                "The GPU with the fewest links decides the bandwidth of every collective.",
                "nvidia-smi nvlink --status",
            )
        else:
            yield fine(f"each GPU has {most} active NVLinks")
    pairs = list(combinations(range(len(gpus)), 2))
    paths: Counter[str] = Counter()
    unreachable = []
    for first, second in pairs:
        if ask("nvmlDeviceGetP2PStatus", gpus[first], gpus[second], _NVLINK) == 0:
            paths["NVLink"] += 1
        else:
            ancestor = ask("nvmlDeviceGetTopologyCommonAncestor", gpus[first], gpus[second])
            paths[f"PCIe over {_ANCESTORS.get(ancestor, 'an unknown path')}"] += 1
        if ask("nvmlDeviceGetP2PStatus", gpus[first], gpus[second], _READ) not in (0, None):
            unreachable.append(f"{first}-{second}")
    if paths:
        yield fine("pairs of GPUs: " + ", ".join(f"{count} by {path}" for path, count in paths.items()))
    if unreachable:
        yield changes(
            f"pairs of GPUs that cannot read each other's memory: {', '.join(unreachable)}",
            "NCCL copies through the memory of the host, which is several times slower.",
            "nvidia-smi topo -p2p r   # in a virtual machine, ask who runs the host",
        )
    lanes = [
        (number, ask("nvmlDeviceGetCurrPcieLinkWidth", gpu), ask("nvmlDeviceGetMaxPcieLinkWidth", gpu))
        for number, gpu in enumerate(gpus)
    ]
    narrow = [f"GPU {number} {width} of {widest}" for number, width, widest in lanes if width and width < (widest or 0)]
    if narrow:
        yield changes(
            f"PCIe has fewer lanes than the GPU allows: {', '.join(narrow)}",
            "Copies to the host and between GPUs over PCIe are slower.",
            "nvidia-smi -q   # the section PCI; then reseat the GPU, or use another slot",
        )


def examine_nvls(machine: Machine) -> Iterator[Diagnosis]:
    """Yield whether NCCL can use NVLink multicast (NVLS)."""
    states = [_fabric_state(machine, gpu) for gpu in machine.gpus]
    unready = [number for number, state in enumerate(states) if state in (_NOT_STARTED, _IN_PROGRESS)]
    if unready:
        yield stops(
            f"{numbers_text(unready)}: the NVSwitch fabric is not ready",
            "CUDA does not start (error 802, system not yet initialized).",
            "sudo systemctl restart nvidia-fabricmanager && systemctl status nvidia-fabricmanager",
        )
    if not machine.gpus:
        return
    multicast = machine.torch().multicast
    wanted = machine.environ.get("NCCL_NVLS_ENABLE")
    if not multicast:
        yield fine("support of NVLS is not known, because torch could not use a GPU")
    elif not all(multicast):
        yield fine("no NVLS: the driver offers no NVLink multicast for these GPUs")
    elif wanted == "0":
        yield changes(
            "the GPUs support NVLS, and NCCL_NVLS_ENABLE=0 switches it off",
            "Large reductions are slower than they could be. Compare only with runs that have the same setting.",
            "unset NCCL_NVLS_ENABLE",
        )
    else:
        setting = "NCCL decides by itself" if wanted is None else f"NCCL_NVLS_ENABLE={wanted}"
        yield fine(f"NVLS is supported, and {setting}. If NCCL fails in nvls.cc, set NCCL_NVLS_ENABLE=0")


def _active_links(machine: Machine, gpu: Any) -> int:
    return sum(machine.nvml.ask("nvmlDeviceGetNvLinkState", gpu, link) == 1 for link in range(_MOST_LINKS))


def _fabric_state(machine: Machine, gpu: Any) -> int | None:
    """Return the state of the NVSwitch fabric; ``None`` for a GPU or a driver without a fabric."""
    structure = getattr(machine.nvml.library, "c_nvmlGpuFabricInfoV_t", None)
    if structure is None:
        return None
    info = structure()
    answer = machine.nvml.ask("nvmlDeviceGetGpuFabricInfoV", gpu, ctypes.byref(info))
    return None if answer is None else int(info.state)
