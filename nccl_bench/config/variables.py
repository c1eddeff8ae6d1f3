"""Environment variables that a run sets for its ranks. No torch."""

import re
from collections.abc import Iterable, Mapping

from nccl_bench.errors import UsageError
from nccl_bench.safety.secrets import remember

VARIABLE_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
# The variables through which torchrun's ranks find each other.
_LAUNCHER = re.compile(r"(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE|NAME)|MASTER_(ADDR|PORT)|(TORCHELASTIC|PET)_.*")

# The loader loads the libraries in this variable first. torch and nccl4py then use a libnccl that is among them.
PRELOAD = "LD_PRELOAD"

# Variables that are read when a process starts or a library is loaded.
_READ_AT_START = re.compile(r"(LD|DYLD|OMP|GOMP|KMP|MKL|OPENBLAS|MALLOC|GLIBC)_.*|PYTHON.*|TORCH(?!_NCCL_).*")


def read_at_start(variables: Iterable[str]) -> list[str]:
    """Return the ``variables`` that have no effect in a fork of a process that has loaded its libraries."""
    return [name for name in variables if _READ_AT_START.fullmatch(name)]


def preload(library: str | None, variables: Mapping[str, str], inherited: Mapping[str, str]) -> dict[str, str]:
    """Return ``variables`` for a process that loads the libnccl ``library`` before all others; ``None`` is no library.

    Other libraries of ``LD_PRELOAD`` come after it. They are those of ``variables`` or, if ``variables`` has no
    ``LD_PRELOAD``, those of the ``inherited`` environment.
    """
    if library is None:
        return dict(variables)
    preloaded = variables.get(PRELOAD, inherited.get(PRELOAD, ""))
    return {**variables, PRELOAD: f"{library}:{preloaded}" if preloaded else library}


def parse_variables(name: str, value: object, _device: object = None) -> dict[str, str]:
    """Return a table of environment variables; raise ``UsageError`` for a bad name or value."""
    if not isinstance(value, Mapping):
        raise UsageError(f"{name} is {value!r}: give a table of NAME = VALUE")
    for variable, text in value.items():
        if not isinstance(variable, str) or not VARIABLE_NAME.fullmatch(variable):
            raise UsageError(f"{name} has {variable!r}: the name of a variable has only capitals, digits and '_'")
        if _LAUNCHER.fullmatch(variable):
            raise UsageError(f"{name} has {variable}, which the ranks need to find each other: leave this variable out")
        if not isinstance(text, str) or "\0" in text:
            raise UsageError(f"{name} has {variable} = {text!r}: give a text")
    remember(value)
    return dict(value)
