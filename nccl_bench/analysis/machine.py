"""Differences between runs besides what is compared: machine, ranks, versions, settings, and how ranks are merged."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from nccl_bench.records.importers import OverRanks
from nccl_bench.records.run import is_import

# A device in the matrix of `nvidia-smi topo -m`.
_GPU = re.compile(r"GPU(\d+)")

_BUFFERS = {"True": "one for all calls", "False": "rotating"}
_PREFIXES = ("NCCL_", "TORCH_NCCL_", "CUDA_LAUNCH_BLOCKING", "CUDA_DEVICE_MAX_CONNECTIONS")
# Container images set the first, which nothing reads; torchrun sets the second for all its workers.
_NO_SETTINGS = ("NCCL_VERSION", "TORCH_NCCL_ASYNC_ERROR_HANDLING")


def facts(meta: Mapping[str, Any]) -> dict[str, str]:
    """Return the known facts about a run's machine by name, from its ``run.json``; unknown facts are absent."""
    environment = meta.get("environment") or {}
    worker = meta.get("worker") or {}
    recorded: dict[str, object] = {
        "ranks": meta["launch"].get("world_size"),
        "nodes": meta["launch"].get("nnodes"),
        "device": meta["config"].get("device"),
        # An import of nccl-tests has the names of all hosts.
        "host": environment.get("hostname") or ", ".join(map(str, environment.get("hostnames") or ())),
        "CPU": environment.get("cpu"),
        "GPUs": _each(environment.get("gpus"), "name"),
        "driver": _each(environment.get("gpus"), "driver"),
        **_gpus_used(environment, meta["launch"].get("nproc")),
        "torch": worker.get("torch"),
        "transport": _transport(worker.get("transport") or {}),
        "caller's stream": meta["config"].get("caller_stream"),
        "buffers": _BUFFERS.get(str(meta["config"].get("same_buffer"))),
        # A run that records its buffers and not this is older than the option.
        "registered memory": meta["config"].get("register", "none" if "same_buffer" in meta["config"] else None),
    }
    known = {name: str(value) for name, value in recorded.items() if value not in (None, "")}
    # If a run recorded its variables, a variable that is absent was not set.
    return known | _settings(environment) | ({"": "recorded"} if "variables" in environment else {})


def differences(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """Yield a line for each fact in which ``runs``, by name, differ; a fact that a run lacks is no difference."""
    known = [(name, facts(meta)) for name, meta in runs]
    for fact in dict.fromkeys(fact for _, of_run in known for fact in of_run if fact):
        values: dict[str, list[str]] = {}
        for name, of_run in known:
            if fact in of_run:
                values.setdefault(of_run[fact], []).append(name)
            elif _is_setting(fact) and "" in of_run:
                values.setdefault("not set", []).append(name)
        if len(values) > 1:
            yield f"{fact}: " + "; ".join(f"{value} ({', '.join(names)})" for value, names in values.items())


def versions(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """Yield a line if different versions of this program or of its records measured ``runs``, by name."""
    names: dict[str, list[str]] = {}
    for name, meta in runs:
        if "version" in meta and not is_import(meta):
            names.setdefault(f"{meta['version']} with schema {meta.get('schema')}", []).append(name)
    if len(names) > 1:
        yield "measured by different versions of nccl-bench, which may measure differently: " + "; ".join(
            f"{version} ({', '.join(of_version)})" for version, of_version in names.items()
        )


def over_ranks(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """Yield a line if the times of ``runs``, by name, do not all have their ranks merged alike."""
    names: dict[OverRanks | None, list[str]] = {}
    for name, meta in runs:
        names.setdefault(over_ranks_of(meta), []).append(name)
    # If it is not recorded, nccl-tests most likely used its default.
    if len({kind or OverRanks.AVERAGE for kind in names}) > 1:
        yield (
            "times do not merge the ranks alike: nccl-bench reports the slowest rank's time, and nccl-tests the "
            "average over ranks unless it was run with -a 3 (maximum). An average looks faster. These runs: "
            + "; ".join(f"{kind or 'not recorded'} ({', '.join(of_kind)})" for kind, of_kind in names.items())
        )


def over_ranks_of(meta: Mapping[str, Any]) -> OverRanks | None:
    """Return how a run's times merge its ranks; ``None`` if an import does not record it."""
    if not is_import(meta):
        return OverRanks.MAXIMUM
    kind = meta["config"].get("over_ranks")
    return OverRanks(kind) if kind in list(OverRanks) else None


def _transport(transport: Mapping[str, Any]) -> str | None:
    # The name is absent where a transport records only a version; then it is NCCL.
    version = transport.get("version")
    return None if version is None else f"{transport.get('name') or 'nccl'} {version}"


def _is_setting(name: str) -> bool:
    return name.startswith(_PREFIXES) and name not in _NO_SETTINGS


def _settings(environment: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that NCCL uses: a variable goes before the user's file, and that before the system's."""
    files = environment.get("nccl_conf")
    of_files = files.values() if isinstance(files, Mapping) else ()
    settings: dict[str, str] = {}
    for source in (environment.get("variables"), *of_files):
        for name, value in source.items() if isinstance(source, Mapping) else ():
            if _is_setting(name):
                settings.setdefault(name, str(value) or "empty")
    return settings


def _each(gpus: object, key: str) -> str:
    """Return the different values of ``key`` over all GPUs."""
    values = (
        (_text(gpu[key]) for gpu in gpus if isinstance(gpu, Mapping) and key in gpu) if isinstance(gpus, list) else ()
    )
    return ", ".join(dict.fromkeys(values))


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _gpus_used(environment: Mapping[str, Any], nproc: object) -> dict[str, str]:
    """Return the links, power limits and highest clocks of the GPUs of one node's ranks; of all GPUs if unknown."""
    recorded = environment.get("gpus")
    every = [gpu for gpu in recorded if isinstance(gpu, Mapping)] if isinstance(recorded, list) else []
    gpus = {str(gpu["index"]): gpu for gpu in every if "index" in gpu}
    by_uuid = {str(gpu.get("uuid")): index for index, gpu in gpus.items()}
    variables = environment.get("variables")
    visible = variables.get("CUDA_VISIBLE_DEVICES") if isinstance(variables, Mapping) else None
    names = list(gpus) if visible is None else [name.strip() for name in str(visible).split(",")]
    used = [by_uuid.get(name, name) for name in names][: nproc if isinstance(nproc, int) else None]
    chosen = [gpus[index] for index in used if index in gpus] or every
    return {
        "GPU links": _links(str(environment.get("topology") or ""), used),
        "power limit (W)": _each(chosen, "power_limit_w"),
        "highest SM clock (MHz)": _each(chosen, "sm_clock_max_mhz"),
        "highest memory clock (MHz)": _each(chosen, "memory_clock_max_mhz"),
    }


def _links(topology: str, used: Sequence[str]) -> str:
    """Return each kind of link with the pairs of ranks that it connects, by the matrix of ``nvidia-smi topo -m``.

    Returns an empty text if a link is missing, as for an instance of MIG.
    """
    header, *rows = [line.split() for line in topology.splitlines() if line.strip()] or [[]]
    columns = [match[1] for match in map(_GPU.fullmatch, header) if match]
    links = {
        (match[1], column): link
        for name, *cells in rows
        if (match := _GPU.fullmatch(name))
        for column, link in zip(columns, cells, strict=False)
    }
    pairs: dict[str, list[str]] = {}
    for (first, gpu), (second, peer) in combinations(enumerate(used), 2):
        if (gpu, peer) not in links:
            return ""
        pairs.setdefault(links[gpu, peer], []).append(f"{first}-{second}")
    if len(pairs) == 1:
        return next(iter(pairs))
    return ", ".join(f"{link} {' '.join(of_link)}" for link, of_link in pairs.items())
