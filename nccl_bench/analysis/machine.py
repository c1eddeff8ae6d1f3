"""What may make two runs differ besides what is compared: the machine, ranks, versions, settings, whose times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nccl_bench.records.nccl_tests import ARM, OverRanks

_BUFFERS = {"True": "one for all calls", "False": "rotating"}
_PREFIXES = ("NCCL_", "TORCH_NCCL_", "CUDA_LAUNCH_BLOCKING", "CUDA_DEVICE_MAX_CONNECTIONS")
# The one is set by images and read by nobody, the other by torchrun for its workers and so by no choice.
_NO_SETTINGS = ("NCCL_VERSION", "TORCH_NCCL_ASYNC_ERROR_HANDLING")


def facts(meta: Mapping[str, Any]) -> dict[str, str]:
    """What is known of a run's machine from its ``run.json``; what is not known is absent."""
    environment = meta.get("environment") or {}
    worker = meta.get("worker") or {}
    found: dict[str, object] = {
        "ranks": meta["launch"].get("world_size"),
        "nodes": meta["launch"].get("nnodes"),
        "device": meta["config"].get("device"),
        # An import of nccl-tests knows those of all ranks.
        "host": environment.get("hostname") or ", ".join(map(str, environment.get("hostnames") or ())),
        "CPU": environment.get("cpu"),
        "GPUs": _each(environment.get("gpus"), "name"),
        "driver": _each(environment.get("gpus"), "driver"),
        "torch": worker.get("torch"),
        "transport": _transport(worker.get("transport") or {}),
        "caller's stream": meta["config"].get("caller_stream"),
        "buffers": _BUFFERS.get(str(meta["config"].get("same_buffer"))),
    }
    known = {name: str(value) for name, value in found.items() if value not in (None, "")}
    # Of a run that recorded its variables, one that it does not name was not set.
    return known | _settings(environment) | ({"": "recorded"} if "variables" in environment else {})


def differences(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """A line for each fact in which ``runs``, by name, differ; what one of them does not tell is no difference."""
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


def over_ranks(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """A line where the times of ``runs``, by name, are not all the same of their ranks'."""
    names: dict[OverRanks | None, list[str]] = {}
    for name, meta in runs:
        names.setdefault(over_ranks_of(meta), []).append(name)
    # Most likely nccl-tests was not told otherwise.
    if len({kind or OverRanks.AVERAGE for kind in names}) > 1:
        yield (
            "nccl-tests' times are averages over ranks unless it was run with -a 3 (maximum), while nccl-bench's are "
            "each the slowest rank's, so nccl-tests may look faster than it is. Here: "
            + "; ".join(f"{kind or 'not recorded'} ({', '.join(of_kind)})" for kind, of_kind in names.items())
        )


def over_ranks_of(meta: Mapping[str, Any]) -> OverRanks | None:
    """What a run's times are of its ranks'; ``None`` where an import does not tell."""
    if meta["config"].get("baseline") != ARM:
        return OverRanks.MAXIMUM
    kind = meta["config"].get("over_ranks")
    return OverRanks(kind) if kind in list(OverRanks) else None


def _transport(transport: Mapping[str, Any]) -> str | None:
    """Its name and version; NCCL does not say its own name."""
    version = transport.get("version")
    return None if version is None else f"{transport.get('name') or 'nccl'} {version}"


def _is_setting(name: str) -> bool:
    return name.startswith(_PREFIXES) and name not in _NO_SETTINGS


def _settings(environment: Mapping[str, Any]) -> dict[str, str]:
    """What counts, as NCCL has it: a variable before the user's file, and that before the system's."""
    files = environment.get("nccl_conf")
    of_files = files.values() if isinstance(files, Mapping) else ()
    settings: dict[str, str] = {}
    for source in (environment.get("variables"), *of_files):
        for name, value in source.items() if isinstance(source, Mapping) else ():
            if _is_setting(name):
                settings.setdefault(name, str(value) or "empty")
    return settings


def _each(gpus: object, key: str) -> str:
    """The different values; how many GPUs there are, the ranks tell."""
    values = (
        (str(gpu[key]) for gpu in gpus if isinstance(gpu, Mapping) and key in gpu) if isinstance(gpus, list) else ()
    )
    return ", ".join(dict.fromkeys(values))
