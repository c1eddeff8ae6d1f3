"""The limits of this process: CPUs, memory, shared memory, locked memory, open files and processes."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from nccl_bench.doctor.diagnosis import Diagnosis, changes, fine, stops
from nccl_bench.doctor.machine import Machine
from nccl_bench.records.environment import proc_fields

_MIB, _GIB = 1024**2, 1024**3
# docker gives 64 MiB, which is too little for several GPUs. NVIDIA's guide asks for 1 GiB.
_ENOUGH_SHM_BYTES = _GIB
_LEAST_SHM_BYTES = 32 * _MIB
# A rank with torch, CUDA and NCCL takes about this much of the memory of the host; without a GPU, far less.
_RANK_BYTES, _CPU_RANK_BYTES = 3 * _GIB, _GIB // 2
# A rank opens a few hundred files and sockets.
_ENOUGH_FILES = 1024
_ENOUGH_PROCESSES = 1024
# In cgroup v1, a limit as high as this one means that there is no limit.
_NO_LIMIT = 1 << 60
_CPU_FOLDERS, _MEMORY_FOLDERS, _PROCESS_FOLDERS = ("cpu,cpuacct", "cpu"), ("memory",), ("pids",)


def examine_shared_memory(machine: Machine) -> Iterator[Diagnosis]:
    """Yield the size of /dev/shm, and files that NCCL left there."""
    folder = "/dev/shm"
    try:
        space = machine.space(machine.path(folder))
    except OSError as error:
        yield stops(f"{folder} cannot be used: {error.strerror}", "NCCL fails when a communicator is made.")
        return
    seen = f"{folder} has {_size(space.total_bytes)}, of which {_size(space.free_bytes)} are free"
    command = "docker run --shm-size 8g ...   # or: sudo mount -o remount,size=8g /dev/shm"
    if space.free_bytes < _LEAST_SHM_BYTES:
        yield stops(seen, "NCCL puts shared memory there, and fails when a communicator is made.", command)
    elif space.free_bytes < _ENOUGH_SHM_BYTES:
        yield changes(seen, "A run of several GPUs can fail with `No space left on device`.", command)
    else:
        yield fine(seen)
    left = [name for name in machine.names(folder) if name.startswith("nccl-")]
    if left:
        yield changes(
            f"{folder} has {len(left)} files of NCCL, such as {left[0]}",
            "Another program uses NCCL now, which makes figures less exact. Or a killed program left them, and they "
            "take memory.",
            "rm /dev/shm/nccl-*   # only if no program uses NCCL",
        )


def examine_ulimits(machine: Machine) -> Iterator[Diagnosis]:
    """Yield the limits of this process."""
    # A line is a name, the soft limit and the hard limit, with two or more spaces between them.
    lines = (re.split(r"  +", line) for line in (machine.text("/proc/self/limits") or "").splitlines())
    soft = {fields[0]: _number(fields[1]) for fields in lines if len(fields) >= 3}
    locked = soft.get("Max locked memory")
    if locked is not None and machine.names("/sys/class/infiniband"):
        yield changes(
            f"locked memory is limited to {_size(locked)}, and there is InfiniBand or RoCE",
            "NCCL cannot register memory with the network card, so a run on several nodes fails.",
            "ulimit -l unlimited   # or: docker run --ulimit memlock=-1 ...",
        )
    files = soft.get("Max open files")
    if files is not None and files < _ENOUGH_FILES:
        yield changes(
            f"a process may open {files} files",
            "A run of many ranks can fail with `Too many open files`.",
            "ulimit -n 65536",
        )
    processes = soft.get("Max processes")
    if processes is not None and processes < _ENOUGH_PROCESSES:
        yield changes(
            f"this user may have {processes} processes and threads",
            "A rank has dozens of threads. A run can fail with `Resource temporarily unavailable`.",
            "ulimit -u 65536",
        )
    space = soft.get("Max address space")
    if space is not None:
        seen, command = f"the address space is limited to {_size(space)}", "ulimit -v unlimited"
        effect = "CUDA reserves far more addresses than it uses, so a rank fails with `out of memory`."
        yield (stops if machine.gpus else changes)(seen, effect, command)
    if soft:
        yield fine(
            f"locked memory {_limit_text(locked)}, open files {files or 'unlimited'}, processes "
            f"{processes or 'unlimited'}"
        )


def examine_cpus(machine: Machine) -> Iterator[Diagnosis]:
    """Yield the CPUs that a benchmark has, and what makes their speed uneven."""
    quota = _cpu_quota(machine)
    usable = machine.cpus if quota is None else min(machine.cpus, quota)
    text = f"{machine.cpus} CPUs" + (f", limited to the time of {quota:g}" if quota is not None else "")
    if usable < machine.ranks:
        yield changes(
            f"{text}, and {machine.ranks} ranks by default",
            "Ranks wait for a CPU, so eager and enqueue measure that wait.",
            f"docker run --cpus {machine.ranks} ...   # or in Slurm: --cpus-per-task {machine.ranks} for one task",
        )
    else:
        yield fine(text)
    throttled = _throttled(machine)
    if throttled:
        yield changes(
            f"the cgroup has stopped its processes {throttled} times, because they had used their CPU time",
            "Such a stop takes up to 0.1 s. It falls on single batches, so figures are less exact.",
            f"docker run --cpus {2 * machine.ranks} ...   # or no limit",
        )
    governors = {
        machine.text(f"/sys/devices/system/cpu/{name}/cpufreq/scaling_governor")
        for name in machine.names("/sys/devices/system/cpu")
    } - {None, "performance"}
    if governors:
        yield changes(
            f"the governor of the CPU clocks is {', '.join(sorted(map(str, governors)))}",
            "The CPU changes its speed, so eager and enqueue have two speeds. Within one run, ratios stand: they "
            "compare times of the same round.",
            "sudo cpupower frequency-set -g performance",
        )
    load = (machine.text("/proc/loadavg") or "").split()[:1]
    if load and float(load[0]) > machine.cpus / 2:
        yield changes(
            f"the load of the last minute is {load[0]} on {machine.cpus} CPUs",
            "Other work takes CPU time, so eager and enqueue are slower and less exact.",
            "top   # end other work, or wait",
        )


def examine_memory(machine: Machine) -> Iterator[Diagnosis]:
    """Yield the memory and the number of processes that a benchmark can have."""
    available = proc_fields(machine.path("/proc/meminfo")).get("MemAvailable")
    free = [] if available is None else [int(available.split()[0]) * 1024]
    limit = _smallest(machine, _MEMORY_FOLDERS, "memory.max", "memory.limit_in_bytes")
    if limit is not None:
        used = _smallest(machine, _MEMORY_FOLDERS, "memory.current", "memory.usage_in_bytes") or 0
        free.append(max(0, limit - used))
    if free:
        needed = machine.ranks * (_RANK_BYTES if machine.gpus else _CPU_RANK_BYTES)
        seen = f"{_size(min(free))} of memory are free" + (f", the cgroup's limit is {_size(limit)}" if limit else "")
        if min(free) < needed:
            yield changes(
                f"{seen}, and {machine.ranks} ranks take about {_size(needed)}",
                "The kernel ends a rank when the memory runs out.",
                f"docker run --memory {needed // _GIB + 1}g ...   # or in Slurm: --mem {needed // _GIB + 1}G",
            )
        else:
            yield fine(seen)
    processes = _smallest(machine, _PROCESS_FOLDERS, "pids.max", "pids.max")
    if processes is not None and processes < _ENOUGH_PROCESSES:
        yield changes(
            f"the cgroup allows {processes} processes and threads",
            "A rank has dozens of threads. A run can fail with `Resource temporarily unavailable`.",
            "docker run --pids-limit -1 ...",
        )


def _cgroup_folders(machine: Machine, controllers: tuple[str, ...]) -> Iterator[str]:
    """Yield the folders of this process's cgroup and of all cgroups above it: of version 2, then of version 1.

    A container often shows its own cgroup as the highest one.
    """
    for line in (machine.text("/proc/self/cgroup") or "").splitlines():
        _, names, path = line.split(":", 2)
        if not names:
            base = "/sys/fs/cgroup"
        elif set(names.split(",")) & set(controllers):
            base = next(
                (f"/sys/fs/cgroup/{name}" for name in controllers if machine.names(f"/sys/fs/cgroup/{name}")), ""
            )
        else:
            continue
        for folder in (PurePosixPath(path), *PurePosixPath(path).parents):
            yield f"{base}{folder}".rstrip("/")


def _smallest(machine: Machine, controllers: tuple[str, ...], *files: str) -> int | None:
    """Return the smallest number in one of ``files`` of all cgroups; ``None`` if there is no limit."""
    texts = [machine.text(f"{folder}/{file}") for folder in _cgroup_folders(machine, controllers) for file in files]
    numbers = [int(text) for text in texts if text and text.isdigit()]
    return min((number for number in numbers if number < _NO_LIMIT), default=None)


def _cpu_quota(machine: Machine) -> float | None:
    """Return how many CPUs the cgroups allow; ``None`` if they set no limit."""
    quotas = []
    for folder in _cgroup_folders(machine, _CPU_FOLDERS):
        # Version 2 has both numbers in one file.
        fields = (machine.text(f"{folder}/cpu.max") or "").split()
        if not fields:
            fields = [machine.text(f"{folder}/cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
        if all(map(str.isdigit, fields)) and len(fields) == 2 and int(fields[1]):
            quotas.append(int(fields[0]) / int(fields[1]))
    return min(quotas, default=None)


def _throttled(machine: Machine) -> int:
    """Return how often the cgroup has stopped its processes because of the limit of CPU time."""
    for folder in _cgroup_folders(machine, _CPU_FOLDERS):
        for line in (machine.text(f"{folder}/cpu.stat") or "").splitlines():
            name, _, count = line.partition(" ")
            if name == "nr_throttled":
                return int(count)
    return 0


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _limit_text(limit: int | None) -> str:
    return "unlimited" if limit is None else _size(limit)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.1f} GiB" if size_bytes >= _GIB else f"{size_bytes / _MIB:.0f} MiB"
