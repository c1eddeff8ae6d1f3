"""Conditions in which compared runs can differ: machine, ranks, versions, settings, and how rank times are merged."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from nccl_bench.catalog.memory import Memory
from nccl_bench.records.importers import NCCL, RCCL, READERS, OverRanks
from nccl_bench.records.run import TOOL, is_import

# The name of a GPU in the output of `nvidia-smi topo -m`.
_GPU = re.compile(r"GPU(\d+)")
# The name and the `run.json` of each run.
NamedRuns = Sequence[tuple[str, Mapping[str, Any]]]
# The name of a transport that calls NCCL -> its binding in words.
_BINDINGS = {"nccl": "ctypes", "nccl4py": "nccl4py"}
# The name of a transport that has a library -> the library.
_LIBRARIES = {**dict.fromkeys(_BINDINGS, "NCCL"), RCCL: "RCCL"}
_BUFFERS = {"True": "one for all calls", "False": "rotating"}
_SETTING_PREFIXES = ("NCCL_", "TORCH_NCCL_", "CUDA_LAUNCH_BLOCKING", "CUDA_DEVICE_MAX_CONNECTIONS")
# These variables change nothing in NCCL. nccl-tests reads the first prefix, and nccl-bench the second. Container images
# set NCCL_VERSION, which has no effect. torchrun sets the last variable.
_NO_SETTINGS = ("NCCL_TESTS_", "NCCL_BENCH_", "NCCL_VERSION", "TORCH_NCCL_ASYNC_ERROR_HANDLING")


def facts(meta: Mapping[str, Any]) -> dict[str, str]:
    """Return the known facts about a run's machine and settings by name; ``meta`` is its ``run.json``."""
    environment = meta.get("environment") or {}
    worker = meta.get("worker") or {}
    recorded: dict[str, object] = {
        "ranks": meta["launch"].get("world_size"),
        "nodes": meta["launch"].get("nnodes"),
        "device": meta["config"].get("device"),
        # An import has a list of all hosts.
        "host": environment.get("hostname") or ", ".join(map(str, environment.get("hostnames") or ())),
        "CPU": environment.get("cpu"),
        "GPUs": _each(environment.get("gpus"), "name"),
        "driver": _each(environment.get("gpus"), "driver"),
        **_gpus_used(environment, meta["launch"].get("nproc")),
        "torch": worker.get("torch"),
        "transport": _transport(worker.get("transport") or {}),
        "binding": None if is_import(meta) else binding_of(worker),
        "caller's stream": meta["config"].get("caller_stream"),
        "buffers": _BUFFERS.get(str(meta["config"].get("same_buffer"))),
        "memory": memory_text(meta),
    }
    known = {name: str(value) for name, value in recorded.items() if value not in (None, "")}
    # The key "" means that the run recorded its variables. In such a run, a variable without a value was not set.
    return known | _settings(environment) | ({"": "recorded"} if "variables" in environment else {})


def memory_text(meta: Mapping[str, Any]) -> str | None:
    """Return the allocator of a run's buffers, and how they were registered; ``None`` for an import."""
    config = meta["config"]
    if "same_buffer" not in config:
        return None
    register = config.get("register", "none")
    # Before `memory` was an option, the buffers were NCCL's memory if they were registered.
    memory = config.get("memory") or (Memory.TORCH if register == "none" else Memory.NCCL)
    if memory == Memory.TORCH and (meta.get("worker") or {}).get("expandable_segments"):
        memory = Memory.EXPANDABLE
    return str(memory) if register == "none" else f"{memory}, registered ({register})"


def differences(runs: NamedRuns) -> Iterator[str]:
    """Yield a line for each fact in which ``runs`` differ; a run that did not record the fact is not compared."""
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


def versions(runs: NamedRuns) -> Iterator[str]:
    """Yield a line if ``runs`` were measured by different versions of nccl-bench, or have different schemas."""
    if any(len(_values(runs, key)) > 1 for key in ("version", "schema")):
        yield f"{TOOL} itself changed between the runs, so a small difference can come from it"


def tool_text(runs: NamedRuns) -> str:
    """Return the version of nccl-bench that measured ``runs``, and the schemas if only these differ.

    A value that not all ``runs`` have stands before the names of its runs. The text is empty if no version is recorded.
    """
    of_versions, of_schemas = _values(runs, "version"), _values(runs, "schema")
    text = f"{TOOL} {_with_names(of_versions, len(runs))}" if of_versions else ""
    if len(of_versions) == 1 < len(of_schemas):
        text += f", schema {_with_names(of_schemas, len(runs))}"
    return text


def _with_names(values: Mapping[str, Sequence[str]], of_all: int) -> str:
    return ", ".join(
        value if len(names) == of_all else f"{value} ({', '.join(names)})" for value, names in values.items()
    )


def _values(runs: NamedRuns, key: str) -> Mapping[str, Sequence[str]]:
    """Return each value of ``key`` in ``runs`` with the names of its runs, without imports and summaries."""
    names: dict[str, list[str]] = {}
    for name, meta in runs:
        if "version" in meta and not is_import(meta):
            names.setdefault(str(meta.get(key)), []).append(name)
    return names


def over_ranks(runs: NamedRuns) -> Iterator[str]:
    """Yield a line if ``runs`` merge the times of their ranks in different ways, such as average and maximum."""
    names: dict[OverRanks | None, list[str]] = {}
    for name, meta in runs:
        names.setdefault(over_ranks_of(meta), []).append(name)
    # If a run does not record how ranks are merged, its tool probably used its default.
    if len({over_ranks_of(meta) or READERS[meta["config"]["baseline"]].default_rule for _, meta in runs}) > 1:
        tools = dict.fromkeys(meta["config"]["baseline"] for _, meta in runs if is_import(meta))
        advice = " and ".join(f"{READERS[tool].slowest_option} to {tool}" for tool in tools)
        yield (
            f"ranks are merged differently, and an average looks faster than a maximum: give {advice}, as nccl-bench "
            "measures. These runs: "
            + "; ".join(f"{kind or 'not recorded'} ({', '.join(of_kind)})" for kind, of_kind in names.items())
        )


def times_over_ranks(before: NamedRuns, after: NamedRuns) -> Iterator[str]:
    """Yield how the times of each side were made from the times of its ranks."""
    first, second = (" or ".join(dict.fromkeys(_rule_in_words(meta) for _, meta in side)) for side in (before, after))
    if first == second:
        yield f"Each time is {first}, before and after."
    else:
        yield f"Before, each time is {first}. After, each time is {second}."


def _rule_in_words(meta: Mapping[str, Any]) -> str:
    if not is_import(meta):
        return "the slowest rank's"
    return READERS[meta["config"]["baseline"]].rules[over_ranks_of(meta)]


def over_ranks_of(meta: Mapping[str, Any]) -> OverRanks | None:
    """Return how a run merges the times of its ranks; ``None`` for an import that does not record this."""
    if not is_import(meta):
        return OverRanks.MAXIMUM
    kind = meta["config"].get("over_ranks")
    return OverRanks(kind) if kind in list(OverRanks) else None


def binding_of(worker: Mapping[str, Any]) -> str | None:
    """Return the binding through which a run called NCCL: ctypes or nccl4py; ``None`` for a run without NCCL."""
    transport = worker.get("transport") or {}
    return _BINDINGS.get(_name(transport)) if "version" in transport else None


def library_of(worker: Mapping[str, Any]) -> str | None:
    """Return the library of a run, NCCL or RCCL; ``None`` for a run without such a library."""
    transport = worker.get("transport") or {}
    return _LIBRARIES.get(_name(transport)) if "version" in transport else None


def library_text(worker: Mapping[str, Any], *, by_binding: bool = True) -> str:
    """Return the library, its version and the binding that calls it; empty for a run without NCCL or RCCL."""
    library, binding = library_of(worker), binding_of(worker)
    if library is None:
        return ""
    return f"{library} {worker['transport']['version']}{f' by {binding}' if by_binding and binding else ''}"


def _transport(transport: Mapping[str, Any]) -> str | None:
    name, version = _name(transport), transport.get("version")
    # `analysis.libraries` compares the versions and files of libraries.
    return None if version is None else _LIBRARIES.get(name, f"{name} {version}")


def _name(transport: Mapping[str, Any]) -> str:
    # A transport that records a version and no name is NCCL by ctypes.
    return str(transport.get("name") or NCCL)


def _is_setting(name: str) -> bool:
    return name.startswith(_SETTING_PREFIXES) and not name.startswith(_NO_SETTINGS)


def _settings(environment: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of NCCL; variables override the user's file, which overrides the system's file."""
    files = environment.get("nccl_conf")
    of_files = files.values() if isinstance(files, Mapping) else ()
    settings: dict[str, str] = {}
    for source in (environment.get("variables"), *of_files):
        for name, value in source.items() if isinstance(source, Mapping) else ():
            if _is_setting(name):
                settings.setdefault(name, str(value) or "empty")
    return settings


def settings_text(meta: Mapping[str, Any]) -> str:
    """Return the settings of NCCL as NAME=VALUE; empty if no variables were recorded."""
    environment = meta.get("environment") or {}
    settings = ", ".join(f"{name}={value}" for name, value in _settings(environment).items())
    return settings or ("no NCCL variables set" if "variables" in environment else "")


def _each(gpus: object, key: str) -> str:
    """Return the different values of ``key`` among ``gpus`` as one text."""
    values = [gpu[key] for gpu in gpus if isinstance(gpu, Mapping) and key in gpu] if isinstance(gpus, list) else []
    return ", ".join(dict.fromkeys(f"{value:g}" if isinstance(value, float) else str(value) for value in values))


def _gpus_used(environment: Mapping[str, Any], nproc: object) -> dict[str, str]:
    """Return links, power limits and highest clocks of the GPUs in use; of all GPUs if the GPUs in use are unknown."""
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
    """Return the kinds of links between ranks; if there are several kinds, each with its pairs of ranks.

    ``topology`` is the output of ``nvidia-smi topo -m``. Returns an empty text if a link is unknown, as with MIG.
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
