"""The libnccl, or librccl, of each compared arm, and the notes if it is not the same one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.machine import NamedRuns, library_of
from nccl_bench.catalog.arms import TWIN_SUFFIX

# The keys in the configuration of a user arm that say what the arm calls, besides its libnccl.
_WAYS = ("target", "tree", "order", "adapter", "transport", "python", "variables")


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A libnccl or a librccl that an arm called."""

    name: str = "NCCL"  # NCCL or RCCL
    version: str  # its version, such as 2.28.9
    path: str | None = None  # the path of the file; None if it was not recorded
    sha256: str | None = None  # the SHA-256 hash of the file; None if it was not recorded

    @property
    def text(self) -> str:
        """The name, the version and, if it is known, the file."""
        return f"{self.name} {self.version}" + (f" at {self.path}" if self.path else "")

    def equals(self, other: Library) -> bool:
        """Return True if the records show no difference between the code of both libraries."""
        if self.sha256 is not None and other.sha256 is not None:
            return self.sha256 == other.sha256
        return (self.name, self.version) == (other.name, other.version)


def libraries_of(meta: Mapping[str, Any]) -> dict[str, Library]:
    """Return the libnccl of each arm, if it is known; ``meta`` is the content of ``run.json``."""
    worker = meta.get("worker") or {}
    recorded = worker.get("libraries")
    name = library_of(worker) or "NCCL"
    if recorded is None and library_of(worker) is not None:
        # Older records and imports have only the library of the transport.
        recorded = [{"arm": arm, **worker["transport"]} for arm in meta["config"].get("arms") or ()]
    return {
        str(each.get("arm")): Library(
            name=name, version=str(each.get("version")), path=each.get("path"), sha256=each.get("sha256")
        )
        for each in recorded or ()
    }


def notes_on_arms(meta: Mapping[str, Any], arms: Iterable[str], baseline: str) -> Iterator[str]:
    """Yield a note for each libnccl that is called by ``arms`` of one run and not by ``baseline``."""
    libraries = libraries_of(meta)
    of_baseline = libraries.get(baseline)
    callers: dict[Library, list[str]] = {}
    for arm in arms:
        library = libraries.get(arm)
        if library is not None and of_baseline is not None and library.path != of_baseline.path:
            callers.setdefault(library, []).append(arm)
    for library, names in callers.items():
        assert of_baseline is not None
        if library.equals(of_baseline):
            yield (
                f"{', '.join(names)} and {baseline} call copies of the same file, {library.name} {library.version}: "
                f"{library.path} and {of_baseline.path}."
            )
            continue
        text = f"{', '.join(names)}: {library.text}, against {of_baseline.text} in {baseline}."
        only = [name for name in names if _way(meta, name) == _way(meta, baseline)]
        yield text + (f" Only the libnccl differs between {', '.join(only)} and {baseline}." if only else "")


def notes_on_sides(
    before: NamedRuns, after: NamedRuns, comparisons: Iterable[Comparison], *, alone: bool
) -> Iterator[str]:
    """Yield a note for each difference between the libnccl before and the libnccl after in ``comparisons``.

    ``alone`` is true if the runs differ in nothing else.
    """
    pairs = dict.fromkeys((each.baseline, each.candidate) for each in comparisons)
    of_before, of_after = ([libraries_of(meta) for _, meta in side] for side in (before, after))
    arms: dict[tuple[str, str, str], list[str]] = {}
    for baseline, candidate in pairs:
        first = [libraries[baseline] for libraries in of_before if baseline in libraries]
        second = [libraries[candidate] for libraries in of_after if candidate in libraries]
        if not all(old.equals(new) for old in first for new in second):
            key = _kind([*first, *second]), _joined(first), _joined(second)
            arms.setdefault(key, []).append(baseline if baseline == candidate else f"{candidate} against {baseline}")
    for (kind, text_before, text_after), names in arms.items():
        where = "" if len(arms) == 1 and len(names) == len(pairs) else f" in {', '.join(names)}"
        nothing_else = " Nothing else that was recorded of the machine and the settings differs." if alone else ""
        yield f"The {kind} differs{where}: {text_after} after, against {text_before} before.{nothing_else}"


def mixed_libraries(side: NamedRuns) -> Iterator[str]:
    """Yield a line for each arm whose libnccl differs between the runs of a side."""
    by_arm: dict[str, dict[str, Library]] = {}
    for name, meta in side:
        for arm, library in libraries_of(meta).items():
            by_arm.setdefault(arm, {})[name] = library
    for arm, by_run in by_arm.items():
        first = next(iter(by_run.values()))
        if not all(library.equals(first) for library in by_run.values()):
            texts = "; ".join(f"{library.text} ({name})" for name, library in by_run.items())
            yield f"{_kind(by_run.values())} of {arm}: {texts}"


def callers_of(meta: Mapping[str, Any], arms: Iterable[str]) -> str:
    """Return a sentence about the libnccl files that ``arms`` call, in a process that has loaded two copies."""
    callers: dict[str, list[str]] = {}
    for arm in dict.fromkeys(arms):
        library = libraries_of(meta).get(arm)
        if library is not None and library.path is not None and not arm.endswith(TWIN_SUFFIX):
            callers.setdefault(library.path, []).append(arm)
    text = "; ".join(f"{path} is that of {', '.join(names)}" for path, names in callers.items())
    if len(callers) > 1:
        return f"{text}. So these arms differ in more than their streams."
    return f"{text}." if text else "It is not known which arm calls which copy."


def _kind(libraries: Iterable[Library]) -> str:
    """Return the word for all ``libraries``: libnccl, librccl, or library if there are both."""
    names = {library.name for library in libraries}
    return f"lib{names.pop().lower()}" if len(names) == 1 else "library"


def _joined(libraries: Iterable[Library]) -> str:
    return ", ".join(dict.fromkeys(library.text for library in libraries))


def _way(meta: Mapping[str, Any], arm: str) -> dict[str, object]:
    """Return what ``arm`` calls and how it makes its calls; omit the libnccl."""
    name = arm.removesuffix(TWIN_SUFFIX)
    user_arms = meta["config"].get("user_arms") or ()
    user_arm = next((each for each in user_arms if each.get("name") == name), {"target": name})
    return {key: user_arm[key] for key in _WAYS if user_arm.get(key)}
