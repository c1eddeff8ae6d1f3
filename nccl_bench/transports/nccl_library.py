"""Finds the libnccl to use, and detects a second copy in the process.

Two copies of libnccl in one process are two separate NCCLs. One copy cannot use a communicator of the other copy. A
comparison of arms that use different copies would also compare the copies. A copy that is already loaded, usually
torch's, is chosen first.
"""

import ctypes
import hashlib
import importlib.util
import mmap
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

from nccl_bench.catalog.nccl_version import version_text
from nccl_bench.errors import SetupError

LIBRARY_VARIABLE = "NCCL_BENCH_NCCL_LIBRARY"
SONAME = "libnccl.so.2"
# The expression must not match NCCL's plug-ins, such as libnccl-net.so and libnccl-tuner.so.
_LIBRARY_NAME = re.compile(r"libnccl\.so[.\d]*")
_MAPS = Path("/proc/self/maps")


class LibrarySource(StrEnum):
    """The way in which a library was found. The ways are tried in this order."""

    ARM = "the key library of an arm"
    ARGUMENT = "--nccl-library"
    ENVIRONMENT = LIBRARY_VARIABLE
    LOADED = "already loaded"  # a copy in this process
    WHEEL = "wheel"  # an nvidia-nccl-cu* package
    SYSTEM = "system"  # a file that dlopen finds by its name


@dataclass(frozen=True, slots=True, kw_only=True)
class NcclLibrary:
    """A libnccl that can be loaded."""

    path: str  # the path of the file
    source: LibrarySource  # the way in which the library was found


def find_library(explicit: str | None = None, *, of_arm: str | None = None) -> NcclLibrary:
    """Load and return a libnccl: ``of_arm``, ``explicit``, ``NCCL_BENCH_NCCL_LIBRARY``, or the first one found.

    The first of these three that is given is the only library tried. If none is given, search this process, then the
    wheels, then the system. Raises ``SetupError`` if no library can be loaded.
    """
    if of_arm is not None:
        return _load_named(of_arm, LibrarySource.ARM)
    if explicit is not None:
        return _load_named(explicit, LibrarySource.ARGUMENT)
    # An empty variable counts as not set, as is usual in a shell.
    if from_environment := os.environ.get(LIBRARY_VARIABLE):
        return _load_named(from_environment, LibrarySource.ENVIRONMENT)
    tried = [f"{LibrarySource.ARGUMENT}: not given", f"{LibrarySource.ENVIRONMENT}: not set"]
    searches: tuple[tuple[LibrarySource, Callable[[], Iterator[str]]], ...] = (
        (LibrarySource.LOADED, lambda: iter(loaded_copies())),
        (LibrarySource.WHEEL, _wheel_files),
        (LibrarySource.SYSTEM, lambda: iter([SONAME])),
    )
    for source, candidates in searches:
        failures = []
        for candidate in candidates():
            failure = _load(candidate)
            if failure is None:
                # If `candidate` has no folder, dlopen has searched for the file, which is now mapped into the process.
                path = candidate if os.path.isabs(candidate) else next(iter(loaded_copies()), candidate)
                return NcclLibrary(path=path, source=source)
            failures.append(failure)
        tried.append(f"{source}: {'; '.join(failures) or 'none'}")
    raise SetupError(
        "no libnccl was found. Searched:\n  "
        + "\n  ".join(tried)
        + f"\nInstall one (pip install nvidia-nccl-cu13), or name its file with {LibrarySource.ARGUMENT} PATH"
        f" or {LIBRARY_VARIABLE}=PATH"
    )


def refuse_no_library(path: str, source: LibrarySource) -> None:
    """Raise ``SetupError`` if ``path`` is no file, or a file that cannot be a libnccl. The file is not loaded."""
    if not os.path.isfile(path):
        raise SetupError(f"{source} names {path!r}, which is not a file: give the path of a libnccl.so.2")
    if not _contains(path, ["ncclGetVersion"]):
        raise SetupError(f"{source} names {path!r}, which has no ncclGetVersion: give the path of a libnccl.so.2")


def loaded_copies() -> list[str]:
    """Return every libnccl file that this process has mapped into memory, each once, sorted by address."""
    if not _MAPS.exists():  # not Linux, so there is no libnccl
        return []
    lines = (line.split(maxsplit=5) for line in _MAPS.read_text().splitlines())
    paths = (fields[5] for fields in lines if len(fields) == 6)
    return list(dict.fromkeys(path for path in paths if _LIBRARY_NAME.fullmatch(os.path.basename(path))))


@contextmanager
def loads_by_path() -> Iterator[list[str]]:
    """Record each libnccl that Python code loads through ctypes by its path, in a ``with`` block."""
    loads: list[str] = []
    load = ctypes.CDLL.__init__

    def recorded(self: ctypes.CDLL, name: str | None, *args: Any, **options: Any) -> None:
        if isinstance(name, str) and "/" in name and _LIBRARY_NAME.fullmatch(os.path.basename(name)):
            loads.append(name)
        load(self, name, *args, **options)

    ctypes.CDLL.__init__ = recorded  # type: ignore[method-assign]
    try:
        yield loads
    finally:
        ctypes.CDLL.__init__ = load  # type: ignore[method-assign]


def describe_library(path: str) -> dict[str, object]:
    """Return the version and the SHA-256 hash of the libnccl at ``path``, which this process has loaded."""
    version = ctypes.c_int()
    ctypes.CDLL(path).ncclGetVersion(ctypes.byref(version))
    with Path(path).open("rb") as file:
        return {"version": version_text(version.value), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def unread_variables(path: str, names: Iterable[str]) -> list[str]:
    """Return the ``NCCL_`` variables among ``names`` that the libnccl at ``path`` does not know.

    NCCL ignores an unknown variable silently. Either the variable is misspelt, or only a newer NCCL reads it. The file
    of the library contains the names of all variables that the library knows.
    """
    variables = [name for name in names if name.startswith("NCCL_")]
    known = _contains(path, variables)
    return [name for name in variables if name not in known]


def version_in(path: str) -> str | None:
    """Return the version of NCCL and CUDA in the file at ``path``, without loading it; ``None`` if it has none."""
    texts = _matches(path, rb"NCCL version (\d+\.\d+\.\d+\+cuda[\d.]+)", most=1)
    return texts[0] if texts else None


def known_variables(path: str) -> list[str]:
    """Return the names of the variables that the libnccl at ``path`` knows, sorted, without loading it."""
    return sorted(set(_matches(path, rb"(NCCL_[A-Z0-9_]+)\0")))


def _matches(path: str, expression: bytes, most: int | None = None) -> list[str]:
    """Return the first group of each match in the file at ``path``. Return at most ``most``; ``None`` is no limit."""
    if not os.path.getsize(path):  # an empty file cannot be mapped
        return []
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return [match[1].decode() for match in islice(re.finditer(expression, content), most)]


def _contains(path: str, names: Sequence[str]) -> list[str]:
    """Return the ``names`` that are C strings in the file at ``path``."""
    if not names or not os.path.getsize(path):  # an empty file cannot be mapped
        return []
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return [name for name in names if content.find(b"%s\0" % name.encode()) >= 0]


def _load_named(path: str, source: LibrarySource) -> NcclLibrary:
    # dlopen does not search the current folder for a name without a slash, so the path is made absolute.
    absolute = os.path.abspath(path)
    if not os.path.isfile(absolute):
        raise SetupError(f"{source} names {path!r}, and {absolute} is not a file: give the path of a libnccl.so.2")
    failure = _load(absolute)
    if failure is not None:
        raise SetupError(f"{source} names {path!r}, which does not load ({failure}): give the path of a libnccl.so.2")
    return NcclLibrary(path=absolute, source=source)


def _load(name: str) -> str | None:
    """Load the library and return ``None``, or return the reason why it cannot be loaded."""
    try:
        ctypes.CDLL(name)
    except OSError as error:
        return str(error)
    return None


def _wheel_files() -> Iterator[str]:
    """Yield the libraries of the nvidia-nccl-cu* wheels, without importing them."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder, "nccl", "lib", SONAME)
        if file.is_file():
            yield str(file)
