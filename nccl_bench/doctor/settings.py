"""Settings of NCCL, CUDA and torch: those that NCCL does not know, and those that change figures."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nccl_bench.catalog.variables import KNOWN_VARIABLES, NCCL_VARIABLES
from nccl_bench.doctor.diagnosis import Diagnosis, changes, fine, stops
from nccl_bench.doctor.libraries import find_copies
from nccl_bench.doctor.machine import Machine
from nccl_bench.records.environment import nccl_conf
from nccl_bench.safety.secrets import recordable
from nccl_bench.transports.nccl_library import known_variables

# Other programs read variables with these beginnings, and NCCL does not.
_OF_OTHERS = ("NCCL_BENCH_", "NCCL_TESTS_")
_PATHS = "NCCL decides no longer by itself, so figures are those of this setting alone."
_OFF = ("", "0")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    names: tuple[str, ...]  # the variables
    values: tuple[str, ...] = ()  # the values that matter, in lower case; empty if all values but 0 matter
    effect: str  # the effect of the setting on a benchmark


_SETTINGS = (
    _Setting(
        names=("CUDA_LAUNCH_BLOCKING",),
        effect="The CPU waits for the end of every kernel, which an engine does not do.",
    ),
    _Setting(
        names=("NCCL_DEBUG",),
        values=("info", "trace"),
        effect="NCCL writes a log. With NCCL_DEBUG_SUBSYS=COLL or ALL it writes for every call, which takes longer "
        "than the call.",
    ),
    _Setting(
        names=("NCCL_P2P_DISABLE", "NCCL_SHM_DISABLE"),
        effect="NCCL does not use the fastest path between the GPUs of a machine.",
    ),
    _Setting(
        names=(
            *("NCCL_ALGO", "NCCL_PROTO", "NCCL_P2P_LEVEL", "NCCL_MIN_NCHANNELS", "NCCL_MAX_NCHANNELS"),
            *("NCCL_MIN_CTAS", "NCCL_MAX_CTAS", "NCCL_NTHREADS", "NCCL_BUFFSIZE", "NCCL_CTA_POLICY"),
        ),
        values=("*",),
        effect=_PATHS,
    ),
    _Setting(
        names=("TORCH_NCCL_BLOCKING_WAIT", "NCCL_BLOCKING_WAIT", "TORCH_NCCL_ENABLE_TIMING", "TORCH_NCCL_DESYNC_DEBUG"),
        effect="The arms of torch do more work for each call.",
    ),
    _Setting(
        names=("TORCH_DISTRIBUTED_DEBUG",),
        values=("detail", "info"),
        effect="torch checks every collective on all ranks, so the arms of torch are far slower.",
    ),
    _Setting(
        names=("CUDA_DEVICE_MAX_CONNECTIONS",),
        values=("1",),
        effect="All streams share one queue to the device, so a private stream cannot overlap with the caller's.",
    ),
    _Setting(
        names=("PYTORCH_NO_CUDA_MEMORY_CACHING",),
        effect="torch asks CUDA for every tensor, which makes calls that allocate far slower.",
    ),
)


def examine_settings(machine: Machine) -> Iterator[Diagnosis]:
    """Yield the settings in files and variables that change figures or have no effect."""
    environ = {**machine.environ, "HOME": str(machine.path(machine.environ.get("HOME", "/root")))}
    recorded = nccl_conf(environ, machine.path("/etc/nccl.conf"))
    if "nccl_conf_error" in recorded:
        yield changes(f"NCCL's file of settings cannot be read: {recorded['nccl_conf_error']}", "NCCL ignores it.")
    files: Mapping[str, Mapping[str, str]] = recorded.get("nccl_conf", {})  # type: ignore[assignment]
    sources = {"the environment": recordable(machine.environ), **files}
    given = [(source, name, value) for source, values in sources.items() for name, value in values.items()]
    yield from _overridden(sources)
    yield from _unknown(machine, [(source, name) for source, name, _ in given])
    names = sorted({name for _, name, _ in given if _is_for_nccl(name)})
    yield fine(f"set for NCCL: {', '.join(names) or 'nothing'}")
    for source, name, value in given:
        for setting in _SETTINGS:
            if name in setting.names and _matters(value.strip(), setting.values):
                yield changes(f"{name}={value} in {source}", setting.effect, _mend(source, name))
    yield from _interfaces(machine)


def _is_for_nccl(name: str) -> bool:
    """Return True if ``name`` looks like a variable of NCCL, and no other program reads it."""
    of_others = name.startswith(_OF_OTHERS) or name in KNOWN_VARIABLES - NCCL_VARIABLES
    return name.startswith("NCCL_") and not of_others


def _matters(value: str, values: tuple[str, ...]) -> bool:
    return (value not in _OFF) if not values else (values == ("*",) or value.lower() in values)


def _mend(source: str, name: str) -> str:
    if source == "the environment":
        return f"unset {name}"
    stripped = name.strip()
    # Somebody wants a setting whose name has a space, so mend its line and do not delete it.
    change = f"/^{name}=/d" if name == stripped else f"s/^ *{stripped} *= */{stripped}=/"
    return f"sed -i '{change}' {source}"


def _overridden(sources: Mapping[str, Mapping[str, str]]) -> Iterator[Diagnosis]:
    """Yield the settings of files that another source sets to another value. The first source applies."""
    seen: dict[str, tuple[str, str]] = {}
    for source, settings in sources.items():
        for name, value in settings.items():
            first, applies = seen.setdefault(name, (source, value))
            if applies != value:
                yield changes(
                    f"{name} is {value} in {source}, and {applies} in {first}",
                    f"NCCL uses the value in {first}.",
                    _mend(source, name),
                )


def _unknown(machine: Machine, given: list[tuple[str, str]]) -> Iterator[Diagnosis]:
    """Yield the variables that the libnccl in use does not know. NCCL ignores them silently.

    Without a libnccl, the variables of all versions count as known.
    """
    names = [(source, name) for source, name in given if _is_for_nccl(name)]
    library = machine.torch().library or next((path for path, _ in find_copies(machine)), None)
    if not names:
        return
    known = known_variables(library) if library is not None else sorted(NCCL_VARIABLES)
    if not known:
        return
    reader = "NCCL that nccl-bench knows" if library is None else f"the libnccl in use ({library})"
    for source, name in names:
        if name in known:
            continue
        near = difflib.get_close_matches(name.strip(), known, n=1, cutoff=0.8)
        if name != name.strip() and name.strip() in known:
            reason = "The name ends with a space, which NCCL does not remove."
        elif name in NCCL_VARIABLES:
            reason = "Another version of NCCL reads it."
        elif near:
            reason = f"NCCL knows {near[0]}."
        else:
            reason = "It is misspelt, or belongs to another program."
        yield changes(
            f"{name!r} in {source} is no setting of {reader}",
            f"It has no effect. {reason}",
            _mend(source, name),
        )


def _interfaces(machine: Machine) -> Iterator[Diagnosis]:
    """Yield the network interfaces that a variable names and this machine does not have."""
    existing = machine.names("/sys/class/net")
    if not existing:
        return
    for variable in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
        value = machine.environ.get(variable, "").strip()
        # For NCCL, ^ excludes names and = asks for whole names. Else the texts are beginnings of names.
        if not value or value.startswith("^"):
            continue
        whole = value.startswith("=") or variable.startswith("GLOO")
        wanted = [name for name in value.lstrip("=").split(",") if name]
        if not any(name == each or (not whole and each.startswith(name)) for name in wanted for each in existing):
            yield stops(
                f"{variable} is {value!r}, and this machine has {', '.join(existing)}",
                "The ranks find no network interface, so they cannot meet.",
                f"unset {variable}",
            )
