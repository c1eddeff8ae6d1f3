"""The GPUs: their kinds, and everything that keeps a benchmark from using them alone."""

from collections.abc import Iterator, Sequence
from typing import Any

from nccl_bench.doctor.diagnosis import Diagnosis, changes, fine, stops
from nccl_bench.doctor.machine import Machine

_PROHIBITED, _EXCLUSIVE_PROCESS = 2, 3  # NVML_COMPUTEMODE_* in nvml.h
# An idle GPU has less than this share of its memory in use: the driver takes some hundred MiB.
_IDLE_SHARE = 0.02
_GIB = 1024**3


def examine_gpus(machine: Machine) -> Iterator[Diagnosis]:
    """Yield which GPUs there are, and what keeps a benchmark from using them."""
    gpus, ask = machine.gpus, machine.nvml.ask
    if machine.nvml.problem:
        yield _cannot_ask(machine)
    if not gpus:
        yield _no_gpu(machine)
        return
    names = [str(ask("nvmlDeviceGetName", gpu)) for gpu in gpus]
    yield fine(", ".join(f"{names.count(name)}x {name}" for name in dict.fromkeys(names)))
    if len(set(names)) > 1:
        yield changes(
            "the GPUs are of different kinds",
            "The slowest GPU decides the time of every collective.",
            "CUDA_VISIBLE_DEVICES=0,1 nccl-bench run   # the numbers of GPUs of one kind",
        )
    yield from _visible(machine.environ.get("CUDA_VISIBLE_DEVICES"), len(gpus))
    if len(gpus) == 1:
        yield changes(
            "there is one GPU",
            "A run has one rank, and nothing is sent. Only the cost of a call can be compared.",
        )
    modes = {number: ask("nvmlDeviceGetComputeMode", gpu) for number, gpu in enumerate(gpus)}
    yield from _compute_modes(modes)
    yield from _other_work(machine)


def numbers_text(numbers: Sequence[int]) -> str:
    """Return words for some of the GPUs, such as ``GPU 0`` or ``GPUs 0, 1``."""
    return f"GPU{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"


def _cannot_ask(machine: Machine) -> Diagnosis:
    problem = machine.nvml.problem
    if "nvidia-ml-py" in problem:
        return changes(
            problem,
            "nccl-bench does not see the GPUs, their clocks, and other processes that use them.",
            "pip install nvidia-ml-py",
        )
    return stops(
        f"NVIDIA's driver cannot be used: {problem}",
        "No process can use a GPU.",
        "nvidia-smi   # after an update of the driver, restart the machine or the container",
    )


def _no_gpu(machine: Machine) -> Diagnosis:
    if machine.names("/proc/driver/nvidia/gpus"):
        return stops(
            f"the machine has {len(machine.names('/proc/driver/nvidia/gpus'))} NVIDIA GPUs, and this process sees none",
            "A container without access to the GPUs measures on the CPU, or fails.",
            "docker run --gpus all ...",
        )
    return fine("no NVIDIA GPU: a run measures on the CPU, and its figures say nothing about GPUs")


def _visible(variable: str | None, count: int) -> Iterator[Diagnosis]:
    """Yield what ``CUDA_VISIBLE_DEVICES`` hides. CUDA reads the variable up to the first invalid entry."""
    if variable is None:
        return
    entries = [entry.strip() for entry in variable.split(",")]
    invalid = next((entry for entry in entries if not _is_device(entry, count)), None)
    if not variable.strip() or (invalid is not None and invalid == entries[0]):
        yield changes(
            f"CUDA_VISIBLE_DEVICES is {variable!r}, which hides every GPU",
            "A run measures on the CPU.",
            "unset CUDA_VISIBLE_DEVICES",
        )
    elif invalid is not None:
        yield changes(
            f"CUDA_VISIBLE_DEVICES is {variable!r}, and {invalid!r} is none of {count} GPUs",
            "CUDA ignores this entry and all that follow it, so a run has fewer ranks.",
            "unset CUDA_VISIBLE_DEVICES",
        )
    else:
        yield fine(f"CUDA_VISIBLE_DEVICES is {variable!r}: a run has {len(entries)} of {count} GPUs")


def _is_device(entry: str, count: int) -> bool:
    return int(entry) < count if entry.isdigit() else entry.startswith(("GPU-", "MIG-"))


def _compute_modes(modes: dict[int, Any]) -> Iterator[Diagnosis]:
    prohibited = [number for number, mode in modes.items() if mode == _PROHIBITED]
    exclusive = [number for number, mode in modes.items() if mode == _EXCLUSIVE_PROCESS]
    if prohibited:
        yield stops(
            f"{numbers_text(prohibited)}: the compute mode is Prohibited",
            "No process can use the GPU.",
            f"sudo nvidia-smi -i {','.join(map(str, prohibited))} -c DEFAULT",
        )
    if exclusive:
        yield changes(
            f"{numbers_text(exclusive)}: the compute mode is Exclusive Process",
            "Only one process can use a GPU. A run in which arms have processes of their own fails, and so does a "
            "verification whose ranks share a GPU.",
            f"sudo nvidia-smi -i {','.join(map(str, exclusive))} -c DEFAULT",
        )


def _other_work(machine: Machine) -> Iterator[Diagnosis]:
    # The process that imports torch does not use a GPU yet: its import takes longer than this examination.
    users: list[str] = []
    full: list[str] = []
    for number, gpu in enumerate(machine.gpus):
        processes = machine.nvml.ask("nvmlDeviceGetComputeRunningProcesses", gpu) or ()
        memory = machine.nvml.ask("nvmlDeviceGetMemoryInfo", gpu)
        used = 0 if memory is None else memory.total - memory.free
        if processes:
            users.append(f"GPU {number} by process {', '.join(str(process.pid) for process in processes)}")
        elif memory is not None and used > _IDLE_SHARE * memory.total:
            full.append(f"GPU {number}: {used / _GIB:.1f} of {memory.total / _GIB:.0f} GiB")
    if users:
        yield changes(
            f"used by others: {'; '.join(users)}",
            "While another process works on a GPU, figures are slower and less exact.",
            "nvidia-smi   # end these processes, or choose other GPUs with CUDA_VISIBLE_DEVICES",
        )
    if full:
        yield changes(
            f"memory is in use, and no process is visible: {'; '.join(full)}",
            "A process outside this container may work on the GPU. Then figures are slower and less exact.",
            "nvidia-smi   # on the host, not in the container",
        )
