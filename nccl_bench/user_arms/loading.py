"""From what a user names to the object: by path, by module or by entry point."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from nccl_bench.config.user_arms import GROUP
from nccl_bench.errors import SetupError
from nccl_bench.user_arms.source_trees import SourceTree, source_tree

_FORMS = f"path/to/file.py:NAME, package.module:NAME, or an entry point of the group {GROUP}"
_NCCL_BENCH = Path(__file__).parents[1]
_STDLIB = Path(os.__file__).parent
_INSTALLED = {"site-packages", "dist-packages"}
_ABSENT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a target names.

    ``where`` is "file:line" of its definition as far as ``inspect`` knows it, or else its file, or the target.
    ``roots`` are the user's files and directories, as ``user_line`` takes them.
    """

    value: Callable[..., Any]
    where: str
    roots: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a target names, before it is imported: ``attribute`` of ``module``, in the tree ``source`` if it is in one.

    ``label`` is what messages call it.
    """

    label: str
    module: str
    attribute: str
    source: SourceTree | None

    @property
    def roots(self) -> tuple[Path, ...]:
        """The user's files and directories, as ``user_line`` takes them."""
        return (self.source.root,) if self.source else _installed_at(self.module)


def locate(target: str, tree: str | None = None) -> Target:
    """What ``target`` names: ``path/to/file.py:NAME``, ``package.module:NAME``, or an entry point's name.

    ``NAME`` may have dots. ``tree`` is the directory that the target's modules come from, before anything installed; a
    relative path starts there. Without it a file's is the first directory above that has no ``__init__.py``, and a
    module's is the current directory, if that holds it; else it is imported as any installed one.

    Nothing is imported. Raises ``SetupError``, in one line, for a target that is malformed, or missing as far as that
    can be seen from outside.
    """
    label = target
    if ":" not in target and "/" not in target and not target.endswith(".py"):
        target = _entry_point(target)
        label += f" ({target})"
    place, _, attribute = target.rpartition(":")
    is_file = "/" in place or place.endswith(".py")
    names = attribute if is_file else f"{place}.{attribute}"
    if not place or not all(name.isidentifier() for name in names.split(".")):
        raise SetupError(f"{label!r} names nothing that can be loaded: give {_FORMS}")
    if tree is not None and not Path(tree).is_dir():
        raise SetupError(f"{label}: the tree {tree} is no directory: give the one that holds the top-level package")
    source, module = _of_file(label, place, tree) if is_file else (_of_module(label, place, tree), place)
    top = module.partition(".")[0]
    # What is loaded is there, with a spec or, as __main__, without one.
    if source is None and top not in sys.modules and find_spec(top) is None:
        raise SetupError(f"{label}: {_missing(module, ())}")
    return Target(label=label, module=module, attribute=attribute, source=source)


def load(target: str, tree: str | None = None) -> Found:
    """Import what ``target`` names, as ``locate`` has it; ``source_trees`` says what a tree's modules see.

    Raises ``SetupError``, in one line, for a target that is malformed, missing or not callable, and for whatever its
    import raises but ``KeyboardInterrupt``.
    """
    found = locate(target, tree)
    label, source, roots = found.label, found.source, found.roots
    with source.inside() if source else nullcontext():
        with _told(label, found.module, roots):
            module = importlib.import_module(found.module)
        value: Any = module
        for name in found.attribute.split("."):
            with _told(label, found.module, roots):
                owner, value = value, getattr(value, name, _ABSENT)
            if value is _ABSENT:
                near = get_close_matches(name, dir(owner)) or [each for each in dir(owner) if each[0] != "_"][:8]
                raise SetupError(f"{label}: it has no {name!r}, but {', '.join(near) or 'nothing at all'}")
        if not callable(value):
            raise SetupError(f"{label} is a {type(value).__name__}: name a class, a function or what can be called")
        return Found(value=value, where=where(value) or getattr(module, "__file__", None) or label, roots=roots)


def user_line(error: BaseException, roots: Sequence[Path]) -> str | None:
    """The "file:line" where ``error`` left the user's code: its innermost frame in the files and below ``roots``.

    Failing that, the innermost that is neither nccl-bench's nor the standard library's; ``None`` if all are.
    """
    places = _places(error, roots)
    return _shown(places[-1].file, places[-1].line) if places else None


def user_call(error: BaseException, roots: Sequence[Path]) -> str | None:
    """The name of the user's function that ``error`` came out of: that of the outermost such frame."""
    return next((place.name for place in _places(error, roots) if place.name), None)


class _Place(NamedTuple):
    file: Path
    line: int
    name: str


def _shown(file: Path, line: int) -> str:
    """From the current directory where it lies in that: records are shared, and disks differ."""
    here = Path.cwd()
    return f"{file.relative_to(here) if file.is_relative_to(here) else file}:{line}"


def _places(error: BaseException, roots: Sequence[Path]) -> list[_Place]:
    places = [
        _Place(Path(frame.f_code.co_filename), line, frame.f_code.co_qualname)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    if isinstance(error, SyntaxError) and error.filename:
        places.append(_Place(Path(error.filename), error.lineno or 1, ""))
    others = [place for place in places if not _is_known(place.file)]
    resolved = [root.resolve() for root in roots]
    users = [place for place in others if any(_is_in(place.file, root) for root in resolved)]
    return users or others


def _is_known(file: Path) -> bool:
    in_stdlib = file.is_relative_to(_STDLIB) and _INSTALLED.isdisjoint(file.parts)
    return file.name.startswith("<") or file.is_relative_to(_NCCL_BENCH) or in_stdlib


def _is_in(file: Path, root: Path) -> bool:
    # A virtual environment within the tree is not the user's code.
    return file.is_relative_to(root) and _INSTALLED.isdisjoint(file.relative_to(root).parts)


def _entry_point(name: str) -> str:
    points = metadata.entry_points(group=GROUP)
    values = sorted({f"{point.module}:{point.attr or ''}" for point in points if point.name == name})
    if len(values) != 1:
        found = f"is given by {len(values)} packages ({', '.join(values)})" if values else "is unknown"
        known = ", ".join(sorted({point.name for point in points})) or "none"
        raise SetupError(f"the entry point {name!r} {found}: known are {known}; or give {_FORMS}")
    return values[0]


def _of_file(label: str, path: str, tree: str | None) -> tuple[SourceTree, str]:
    candidates = [Path(path).resolve()]
    if tree is not None:
        root = Path(tree).resolve()
        # What the shell completed from here comes second.
        candidates.insert(0, Path(os.path.normpath(root / path)))
        candidates = [file for file in candidates if file.is_relative_to(root)]
    file = next((file for file in candidates if file.is_file() and file.suffix == ".py"), None)
    if file is None:
        place = f" in the tree {tree}" if tree is not None else "" if os.path.isabs(path) else f" in {Path.cwd()}"
        raise SetupError(f"{label}: there is no Python file {path}{place}: give {_FORMS}")
    if tree is None:
        root = next(root for root in file.parents if not (root / "__init__.py").exists())
    source = source_tree(root)
    return source, source.claim_file(file)


def _of_module(label: str, module: str, tree: str | None) -> SourceTree | None:
    source = source_tree(Path(tree or ""))
    if tree is None:
        return source if source.owns(module) else None
    if not source.claim(module):
        raise SetupError(f"{label}: {_missing(module, (source.root,))}")
    return source


def _installed_at(module: str) -> tuple[Path, ...]:
    try:
        spec = find_spec(module.partition(".")[0])
    except ValueError:  # a module without a spec, such as __main__
        return ()
    places = (spec.submodule_search_locations or (spec.origin,)) if spec else ()
    return tuple(Path(place) for place in places if place)


def where(value: Callable[..., Any]) -> str | None:
    """ "file:line" of what defines ``value``, as far as ``inspect`` knows it."""
    while isinstance(value, functools.partial):
        value = value.func
    for subject in (value, type(value)):
        try:
            unwrapped = inspect.unwrap(subject)
            return _shown(Path(inspect.getsourcefile(unwrapped) or "?"), inspect.getsourcelines(unwrapped)[1])
        except (OSError, TypeError, ValueError):  # built-in, made without source, or wrapped in a circle
            continue
    return None


@contextmanager
def _told(label: str, module: str, roots: Sequence[Path]) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        line = user_line(error, roots)
        if isinstance(error, ModuleNotFoundError) and error.name:
            raise SetupError(f"{label}: {_missing(error.name, roots, line)}") from error
        text = (str(error).strip().splitlines() or [""])[0]
        at = f" at {line}" if line else ""
        raise SetupError(f"{label}: importing {module} raised {type(error).__name__}{at}: {text}") from error


def _missing(module: str, roots: Sequence[Path], line: str | None = None) -> str:
    looked = f"in {', '.join(map(str, roots))}" if roots else f"in {Path.cwd()}, nor is it installed"
    told = f"there is no module {module}" + (f", which {line} imports" if line else f" {looked}")
    top = module.partition(".")[0]
    places = [place.parent for root in roots for place in root.glob(f"*/{top}")]
    places += [place for root in roots for place in root.parents]
    holder = next((place for place in places if (place / top / "__init__.py").exists()), None)
    return told if holder is None else f"{told}; {holder} holds {top}: give that as the tree"
