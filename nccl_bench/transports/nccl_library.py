"""Which libnccl to use, and whether the process holds a second one.

Two copies of libnccl in one process are two NCCLs: a communicator of one means nothing to the other, and a comparison
across them measures versions. So a copy that is already loaded (torch's, as a rule) is preferred to any on disk.
"""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nccl_bench.errors import SetupError

LIBRARY_VARIABLE = "NCCL_BENCH_NCCL_LIBRARY"
SONAME = "libnccl.so.2"
# Plug-ins (libnccl-net.so, libnccl-tuner.so) share the prefix and are not the library.
_LIBRARY_NAME = re.compile(r"libnccl\.so[.\d]*")
_MAPS = Path("/proc/self/maps")


class LibrarySource(StrEnum):
    """Where a library was found, in the order of the search."""

    ARGUMENT = "--nccl-library"
    ENVIRONMENT = LIBRARY_VARIABLE
    LOADED = "already loaded"
    WHEEL = "wheel"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class NcclLibrary:
    """One libnccl that loads: the ``path`` of its file, and what led there."""

    path: str
    source: LibrarySource


def find_library(explicit: str | None = None) -> NcclLibrary:
    """The first libnccl of: ``explicit``, ``NCCL_BENCH_NCCL_LIBRARY``, the process, the wheel, the system.

    The library is loaded to prove that it loads. Raises ``SetupError`` for a path that was asked for and does not
    load (nothing else is tried then), and when nothing is found.
    """
    if explicit is not None:
        return _asked_for(explicit, LibrarySource.ARGUMENT)
    # An empty variable counts as unset, the shell's usual way to switch one off.
    if from_environment := os.environ.get(LIBRARY_VARIABLE):
        return _asked_for(from_environment, LibrarySource.ENVIRONMENT)
    tried = [f"{LibrarySource.ARGUMENT}: not given", f"{LibrarySource.ENVIRONMENT}: not set"]
    searches: tuple[tuple[LibrarySource, Callable[[], Iterator[str]]], ...] = (
        (LibrarySource.LOADED, lambda: iter(_mapped_copies())),
        (LibrarySource.WHEEL, _wheel_files),
        (LibrarySource.SYSTEM, lambda: iter([SONAME])),
    )
    for source, candidates in searches:
        failures = []
        for candidate in candidates():
            failure = _load(candidate)
            if failure is None:
                return NcclLibrary(path=_file_of(candidate), source=source)
            failures.append(failure)
        tried.append(f"{source}: {'; '.join(failures) or 'none'}")
    raise SetupError(
        "no libnccl was found. Looked at:\n  "
        + "\n  ".join(tried)
        + f"\nInstall one (pip install nvidia-nccl-cu13), or name its file with {LibrarySource.ARGUMENT} PATH"
        f" or {LIBRARY_VARIABLE}=PATH"
    )


def other_copies(path: str) -> list[str]:
    """The libnccl files mapped into this process other than ``path``, links resolved; empty where all is well."""
    return [copy for copy in _mapped_copies() if os.path.realpath(copy) != os.path.realpath(path)]


def unread_variables(path: str, names: Iterable[str]) -> list[str]:
    """Those of ``names``, ``NCCL_`` variables, that the libnccl at ``path`` does not know: it has the others' names.

    NCCL ignores in silence what it does not know, be it misspelt or of a newer version.
    """
    asked = [name for name in names if name.startswith("NCCL_")]
    if not asked:
        return []
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return [name for name in asked if text.find(b"%s\0" % name.encode()) < 0]


def _asked_for(path: str, source: LibrarySource) -> NcclLibrary:
    # Absolute, because dlopen looks for a name without a slash in the system's folders and not in the current one.
    absolute = os.path.abspath(path)
    if not os.path.isfile(absolute):
        raise SetupError(f"{source} names {path!r}, and {absolute} is no file: give the path of a libnccl.so.2")
    failure = _load(absolute)
    if failure is not None:
        raise SetupError(f"{source} names {path!r}, which does not load ({failure}): give the path of a libnccl.so.2")
    return NcclLibrary(path=absolute, source=source)


def _load(name: str) -> str | None:
    """Why the library does not load, or ``None`` when it does."""
    try:
        ctypes.CDLL(name)
    except OSError as error:
        return str(error)
    return None


def _mapped_copies() -> list[str]:
    """Every libnccl file this process has mapped, each once, in the order of addresses."""
    if not _MAPS.exists():  # not Linux, so there is no libnccl either
        return []
    lines = (line.split(maxsplit=5) for line in _MAPS.read_text().splitlines())
    paths = (fields[5] for fields in lines if len(fields) == 6)
    return list(dict.fromkeys(path for path in paths if _LIBRARY_NAME.fullmatch(os.path.basename(path))))


def _wheel_files() -> Iterator[str]:
    """The library of the nvidia-nccl-cu* wheels, found without importing anything."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder, "nccl", "lib", SONAME)
        if file.is_file():
            yield str(file)


def _file_of(name: str) -> str:
    """The file behind a library that was just loaded: itself, or where the system found the bare name."""
    return name if os.path.isabs(name) else next(iter(_mapped_copies()), name)
