"""Finds and imports the target of a user arm: a name in a file or in a module, or an entry point."""

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nccl_bench.catalog.arms import ARMS
from nccl_bench.config.nearest import nearest
from nccl_bench.config.user_arms import GROUP
from nccl_bench.errors import SetupError
from nccl_bench.safety.secrets import masked
from nccl_bench.user_arms.current_directory import current_directory
from nccl_bench.user_arms.source_trees import SourceTree, source_tree
from nccl_bench.user_arms.tracebacks import definition_line, user_line

_FORMS = f"path/to/file.py:NAME, package.module:NAME, or an entry point of the group {GROUP}"
_ABSENT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A target that was located but not imported."""

    label: str  # the target's name in messages
    module: str  # the module's full name
    attribute: str  # the name to take from the module; the name can have dots
    source: SourceTree | None  # the tree that holds the module; None for an installed module

    @property
    def roots(self) -> tuple[Path, ...]:
        """The user's files and directories, in the form that ``user_line`` expects."""
        return (self.source.root,) if self.source else _installed_at(self.module)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTarget:
    """A target that was imported."""

    value: Callable[..., Any]  # a class, a function or an object that can be called
    where: str  # "file:line" of the definition, or less if unknown; also the tree, if the file is outside the tree
    roots: tuple[Path, ...]  # the user's files and directories, in the form that `user_line` expects


def locate(target: str, tree: str | None = None) -> Target:
    """Find ``target``: ``path/to/file.py:NAME``, ``package.module:NAME``, or the name of an entry point.

    ``NAME`` can have dots. ``tree`` is a directory: its modules come before installed modules. A relative path starts
    in it, or else in the current directory. Without ``tree``, the tree of a file is the nearest directory above the
    file that has no ``__init__.py``. Without ``tree``, a module is in the current directory or installed. The module
    of an entry point is always installed.

    Nothing is imported, so a name that is missing in the module is not noticed. Raises ``SetupError`` for a malformed
    target, and for a missing file or top-level module.
    """
    label = target
    is_entry_point = ":" not in target and "/" not in target and not target.endswith(".py")
    if is_entry_point:
        target = _entry_point(target)
        label += f" ({target})"
    place, _, attribute = target.rpartition(":")
    is_file = "/" in place or place.endswith(".py")
    names = attribute if is_file else f"{place}.{attribute}"
    if not place or not all(name.isidentifier() for name in names.split(".")):
        raise SetupError(f"{label!r} is no target: give {_FORMS}")
    if tree is not None and not Path(tree).is_dir():
        raise SetupError(f"{label}: the tree {tree} is no directory: give the root directory of the sources")
    source: SourceTree | None
    if is_file:
        source, module = _of_file(label, place, tree)
    elif tree is not None:
        source, module = _of_tree(label, place, tree), place
    else:
        source, module = None if is_entry_point else _of_current_directory(place), place
    top = module.partition(".")[0]
    # A module that is already loaded, such as __main__, can have no spec.
    if source is None and top not in sys.modules and find_spec(top) is None:
        directory = "" if is_entry_point else f"in {Path.cwd()} or "
        raise SetupError(f"{label}: there is no module {module} {directory}among the installed modules")
    return Target(label=label, module=module, attribute=attribute, source=source)


def load_target(target: str, tree: str | None = None) -> LoadedTarget:
    """Import the target that ``locate`` finds. The docstring of ``source_trees`` says which modules a tree sees.

    Raises ``SetupError`` for a target that is malformed, missing or not callable, and for every error of the import
    except ``KeyboardInterrupt``.
    """
    located = locate(target, tree)
    label, source, roots = located.label, located.source, located.roots
    with source.inside() if source else nullcontext():
        with _import_errors_as_setup_errors(located):
            module = importlib.import_module(located.module)
        value: Any = module
        for name in located.attribute.split("."):
            with _import_errors_as_setup_errors(located):
                owner, value = value, getattr(value, name, _ABSENT)
            if value is _ABSENT:
                public = [attribute for attribute in dir(owner) if attribute[0] != "_"]
                there_is = nearest(name, public) or ", ".join(public[:8]) or "nothing"
                file = getattr(module, "__file__", None)
                place = f" in {file}" if file and owner is module else ""
                raise SetupError(
                    f"{label}: there is no {name!r}{place}; there is {there_is}{_hidden(source, located.module)}"
                )
        if not callable(value):
            raise SetupError(f"{label} is a {type(value).__name__}: name a class, a function or a callable object")
        where = definition_line(value) or getattr(module, "__file__", None) or label
        if tree is not None and source and not Path(module.__file__ or "").is_relative_to(source.root):
            # One file can make the communicators of several trees.
            where += f" with the modules of {tree}"
        return LoadedTarget(value=value, where=where, roots=roots)


def _entry_point(name: str) -> str:
    points = metadata.entry_points(group=GROUP)
    values = sorted({f"{point.module}:{point.attr or ''}" for point in points if point.name == name})
    if len(values) != 1:
        problem = f"is given by {len(values)} packages ({', '.join(values)})" if values else "is unknown"
        known = sorted({point.name for point in points})
        near = nearest(name, [*known, *ARMS])
        meant = f"did you mean {near!r}? Else " if near and not values else ""
        raise SetupError(
            f"the entry point {name!r} {problem} (known: {', '.join(known) or 'none'}): {meant}give {_FORMS}"
        )
    return values[0]


def _of_file(label: str, path: str, tree: str | None) -> tuple[SourceTree, str]:
    candidates = [Path(path).resolve()]
    if tree is not None:
        root = Path(tree).resolve()
        # The tree's own file comes first. A file outside the tree can make a communicator from the tree's modules.
        own = Path(os.path.normpath(root / path))
        candidates = [own, *candidates] if own.is_relative_to(root) else candidates
    file = next((file for file in candidates if file.is_file() and file.suffix == ".py"), None)
    if file is None:
        places = [*([f"in the tree {tree}"] if tree is not None else []), f"in {Path.cwd()}"]
        place = "" if os.path.isabs(path) else f" {' or '.join(places)}"
        raise SetupError(f"{label}: there is no Python file {path}{place}: give {_FORMS}")
    if tree is None:
        root = next(root for root in file.parents if not (root / "__init__.py").exists())
    source = source_tree(root)
    return source, source.claim_file(file)


def _of_tree(label: str, module: str, tree: str) -> SourceTree:
    source = source_tree(Path(tree))
    if not source.claim(module):
        raise SetupError(f"{label}: {_missing(module, (source.root,))}")
    return source


def _of_current_directory(module: str) -> SourceTree | None:
    source = current_directory()
    return source if source.claim(module) else None


def _installed_at(module: str) -> tuple[Path, ...]:
    try:
        spec = find_spec(module.partition(".")[0])
    except ValueError:  # a module without a spec, such as __main__
        return ()
    places = (spec.submodule_search_locations or (spec.origin,)) if spec else ()
    return tuple(Path(place) for place in places if place)


@contextmanager
def _import_errors_as_setup_errors(target: Target) -> Iterator[None]:
    label, roots = target.label, target.roots
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        line = user_line(error, roots)
        if isinstance(error, ModuleNotFoundError) and error.name:
            text = f"{_missing(error.name, roots, line)}{_hidden(target.source, error.name)}"
            raise SetupError(f"{label}: {text}") from error
        text = (masked(str(error)).strip().splitlines() or [""])[0]
        at = f" at {line}" if line else ""
        raise SetupError(
            f"{label}: importing {target.module} raised {type(error).__name__}{at}: {text}"
            f"{_hidden(target.source, text)}"
        ) from error


def _hidden(source: SourceTree | None, text: str) -> str:
    """Return the files of ``source`` that hide the installed modules named in ``text``, as the end of a message."""
    hidden = source.hidden_modules() if source else {}
    named = {top: file for top, file in hidden.items() if re.search(rf"\b{re.escape(top)}\b", text)}
    return "".join(f". {file} hides the installed module {top}" for top, file in named.items())


def _missing(module: str, roots: Sequence[Path], line: str | None = None) -> str:
    searched = f"in {', '.join(map(str, roots))}" if roots else "among the installed modules"
    missing = f"there is no module {module}" + (f", which {line} imports" if line else f" {searched}")
    top = module.partition(".")[0]
    places = [place.parent for root in roots for place in root.glob(f"*/{top}")]
    places += [place for root in roots for place in root.parents]
    holder = next((place for place in places if (place / top / "__init__.py").exists()), None)
    return missing if holder is None else f"{missing}; {holder} holds {top}: give {holder} as the tree"
