"""What may make two runs differ besides what is compared: the machine, ranks, versions, settings, whose times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nccl_bench.records.nccl_tests import ARM, OverRanks

_BUFFERS = {"True": "one for all calls", "False": "rotating"}


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
        "NCCL": (worker.get("transport") or {}).get("version"),
        "caller's stream": meta["config"].get("caller_stream"),
        "buffers": _BUFFERS.get(str(meta["config"].get("same_buffer"))),
    }
    settings = {
        name: str(value) or "empty"
        for name, value in (environment.get("variables") or {}).items()
        if name.startswith("NCCL_")
    }
    known = {name: str(value) for name, value in found.items() if value not in (None, "")}
    # Of a run that recorded its variables, one that it does not name was not set.
    return known | settings | ({"": "recorded"} if "variables" in environment else {})


def differences(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """A line for each fact in which ``runs``, by name, differ; what one of them does not tell is no difference."""
    known = [(name, facts(meta)) for name, meta in runs]
    for fact in dict.fromkeys(fact for _, of_run in known for fact in of_run if fact):
        values: dict[str, list[str]] = {}
        for name, of_run in known:
            if fact in of_run:
                values.setdefault(of_run[fact], []).append(name)
            elif fact.startswith("NCCL_") and "" in of_run:
                values.setdefault("not set", []).append(name)
        if len(values) > 1:
            yield f"{fact}: " + "; ".join(f"{value} ({', '.join(names)})" for value, names in values.items())


def over_ranks(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """A line where the times of ``runs``, by name, are not all the same of their ranks'."""
    names: dict[OverRanks | None, list[str]] = {}
    for name, meta in runs:
        names.setdefault(_over_ranks(meta), []).append(name)
    # Most likely nccl-tests was not told otherwise.
    if len({kind or OverRanks.AVERAGE for kind in names}) > 1:
        yield (
            "nccl-tests' times are averages over ranks unless it was run with -a 3 (maximum), while nccl-bench's are "
            "each the slowest rank's, so nccl-tests may look faster than it is. Here: "
            + "; ".join(f"{kind or 'not recorded'} ({', '.join(of_kind)})" for kind, of_kind in names.items())
        )


def _over_ranks(meta: Mapping[str, Any]) -> OverRanks | None:
    """``None`` where an import does not tell."""
    if meta["config"].get("baseline") != ARM:
        return OverRanks.MAXIMUM
    kind = meta["config"].get("over_ranks")
    return OverRanks(kind) if kind in list(OverRanks) else None


def _each(gpus: object, key: str) -> str:
    """The different values; how many GPUs there are, the ranks tell."""
    values = (
        (str(gpu[key]) for gpu in gpus if isinstance(gpu, Mapping) and key in gpu) if isinstance(gpus, list) else ()
    )
    return ", ".join(dict.fromkeys(values))
