"""The copies of libnccl on this machine, and the one that is used."""

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from nccl_bench.doctor.diagnosis import Diagnosis, changes, fine, stops
from nccl_bench.doctor.machine import Machine
from nccl_bench.transports.nccl_library import LIBRARY_VARIABLE, SONAME, version_in

# Variables with the path of a libnccl -> who reads them.
_READERS = {
    LIBRARY_VARIABLE: "The arms of nccl-bench",
    "VLLM_NCCL_SO_PATH": "vLLM's pynccl",
    "SGLANG_NCCL_SO_PATH": "SGLang's pynccl",
}


def examine_libraries(machine: Machine) -> Iterator[Diagnosis]:
    """Yield every copy of libnccl with its version, and which one is used."""
    torch = machine.torch()
    copies = dict(find_copies(machine))
    for path in (torch.library, torch.torch_library, torch.nccl4py_library, *torch.loaded):
        if path is not None:
            copies.setdefault(path, "loaded by a process that imports torch")
    users = {
        "nccl-bench": torch.library,
        "torch": torch.torch_library,
        "nccl4py": torch.nccl4py_library,
    }
    for path, where in copies.items():
        callers = [user for user, used in users.items() if used is not None and os.path.realpath(used) == path]
        by = f", used by {', '.join(callers)}" if callers else ""
        yield fine(f"NCCL {_version(path)}: {path} ({where}{by})")
    yield from _missing_files(machine)
    if torch.library is None and machine.gpus and not torch.problem:
        yield stops(
            torch.library_problem or "no libnccl was found",
            "A run on GPUs fails: it has no NCCL to measure.",
            "pip install nvidia-nccl-cu13",
        )
    elif not copies:
        yield fine("no copy was found, and a run on the CPU needs none")
    if len(torch.loaded) > 1:
        yield changes(
            f"a process that imports torch has {len(torch.loaded)} copies of libnccl: "
            + ", ".join(f"{_version(path)} at {path}" for path in torch.loaded),
            "Arms that call different copies differ in more than their streams.",
            "nccl-bench run --arm NAME=ARM,library=PATH   # then the processes of the arm have only this copy",
        )
    for variable, reader in _READERS.items():
        named = machine.environ.get(variable)
        if named and os.path.isfile(named) and torch.torch_library not in (None, os.path.realpath(named)):
            yield changes(
                f"{variable} is {named} (NCCL {_version(named)}), and torch calls {torch.torch_library} "
                f"(NCCL {_version(str(torch.torch_library))})",
                f"{reader} and torch call different NCCLs, so a comparison also compares the two.",
                f"unset {variable}",
            )


def find_copies(machine: Machine) -> Iterator[tuple[str, str]]:
    """Yield the real path of each copy of libnccl on this machine, once, and where it was found."""
    seen: set[str] = set()
    for where, file in chain(_named(machine), _installed(machine), _of_the_loader(machine)):
        path = os.path.realpath(file)
        if path not in seen and os.path.isfile(path):
            seen.add(path)
            yield path, where


def _named(machine: Machine) -> Iterator[tuple[str, Path]]:
    for variable in _READERS:
        if machine.environ.get(variable):
            yield variable, Path(machine.environ[variable])
    for entry in machine.environ.get("LD_PRELOAD", "").replace(":", " ").split():
        if os.path.basename(entry).startswith("libnccl.so"):
            yield "LD_PRELOAD", Path(entry)
    for folder in machine.environ.get("LD_LIBRARY_PATH", "").split(":"):
        if folder:
            yield "LD_LIBRARY_PATH", Path(folder, SONAME)


def _installed(machine: Machine) -> Iterator[tuple[str, Path]]:
    for folder in filter(None, machine.python_path):
        yield "a wheel", Path(folder, "nvidia", "nccl", "lib", SONAME)
        yield "in torch", Path(folder, "torch", "lib", SONAME)
    if machine.environ.get("CONDA_PREFIX"):
        yield "conda", Path(machine.environ["CONDA_PREFIX"], "lib", SONAME)


def _of_the_loader(machine: Machine) -> Iterator[tuple[str, Path]]:
    for line in machine.output("ldconfig", "-p").splitlines():
        name, _, path = line.partition(" => ")
        if name.split()[:1] == [SONAME]:
            yield "system", Path(path.strip())


def _missing_files(machine: Machine) -> Iterator[Diagnosis]:
    for variable, reader in _READERS.items():
        named = machine.environ.get(variable)
        if named and not os.path.isfile(named):
            yield (stops if variable == LIBRARY_VARIABLE else changes)(
                f"{variable} is {named!r}, which is not a file",
                f"{reader} cannot be made.",
                f"unset {variable}",
            )
    for entry in machine.environ.get("LD_PRELOAD", "").replace(":", " ").split():
        if "/" in entry and not os.path.isfile(entry):
            yield changes(
                f"LD_PRELOAD names {entry!r}, which is not a file",
                "The loader ignores it, so another libnccl may be used than you think.",
                "unset LD_PRELOAD",
            )


def _version(path: str) -> str:
    return version_in(path) or "of an unknown version"
