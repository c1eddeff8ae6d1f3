"""Several source trees in one process, where the code of each tree sees the modules of its own tree.

How a tree imports:
    The modules of a tree have builtins of their own. The ``__import__`` of these builtins searches the tree for every
    name that the tree owns. Functions keep the builtins of their module, so an import inside a function also searches
    the tree, whenever the function runs. ``import_module`` searches the tree too, because the tree's modules get an
    ``importlib`` of their own. The tree's modules are in ``sys.modules`` only while a module of the tree is executed.

What a tree owns:
    A tree owns the top-level modules and packages in its root, even if modules with the same names are installed.
    However, as in Python, an installed package wins over a directory without ``__init__.py``, unless a target names the
    directory. A tree never owns the names of the standard library, ``torch``, ``nccl_bench`` and ``__main__``. If a
    target's file has such a name, it is loaded under another name. The current directory owns less: see
    ``current_directory``.

Limits:
    Pickle, ``typing.get_type_hints`` and ``importlib.util.find_spec`` search ``sys.modules`` or ``sys.path``, so they
    do not find a tree's modules. Two trees that define the same ``torch.library`` namespace cannot share a process,
    because torch has one such namespace in a process. While ``sys.modules`` has a tree's modules, other threads can
    import them.
"""

from __future__ import annotations

import builtins
import importlib
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import resolve_name, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

_NEVER_OWNED = sys.stdlib_module_names | {"__main__", "nccl_bench", "torch"}
_NO_CONTEXT = nullcontext()
# The lock of all trees: only one tree at a time has its modules in `sys.modules`.
_LOCK = threading.RLock()
_trees: dict[Path, SourceTree] = {}


def source_tree(root: Path) -> SourceTree:
    """Return the tree in the directory ``root``. In one process, all arms with the same ``root`` share one tree."""
    with _LOCK:
        return _trees.setdefault(root.resolve(), SourceTree(root.resolve()))


class _Loader(SourceFileLoader):
    """The loader of a tree's modules, which gives each module the tree's builtins and writes no bytecode."""

    def __init__(self, name: str, path: str, tree_builtins: dict[str, Any]) -> None:
        super().__init__(name, path)
        self._builtins = tree_builtins

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self._builtins
        super().exec_module(module)

    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        """Do nothing: the import system calls this method to write bytecode."""


class SourceTree:
    """The modules of one source tree, and the import system of its code."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._owned: dict[str, bool] = {}
        self._files: dict[str, Path] = {}
        self._modules: dict[str, ModuleType] = {}  # the modules that are imported or are still being executed
        self._ready: Mapping[str, ModuleType] = {}  # `_modules` after the last complete import; read without the lock
        self._aside: dict[str, ModuleType] | None = None  # modules that `inside` put aside; None outside `inside`
        self._builtins = {**vars(builtins), "__import__": self._import}
        self._importlib = ModuleType("importlib")
        vars(self._importlib).update(
            import_module=lambda name, package=None: self._import(resolve_name(name, package), fromlist=("__name__",)),
            __getattr__=lambda name: getattr(importlib, name),
        )

    def owns(self, name: str) -> bool:
        """Return whether the module ``name`` comes from this tree."""
        top = name.partition(".")[0]
        if top not in self._owned:
            self._owned[top] = self._wins(top)
        return self._owned[top]

    def claim(self, name: str) -> bool:
        """Make the tree own a target's module, if the tree's root holds the module; return whether it does."""
        top = name.partition(".")[0]
        self._owned[top] = self._find(top) is not None
        return self._owned[top]

    def claim_file(self, file: Path) -> str:
        """Make the tree own a target's file, and return the name of the file's module.

        A file outside the root becomes a module of the tree: it imports modules of the tree, and not files beside it.
        """
        is_inside = file.is_relative_to(self.root)
        parts = file.relative_to(self.root).with_suffix("").parts if is_inside else (file.stem,)
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        name = ".".join(parts)
        hides_module = not is_inside and (self._find(name) is not None or self._files.get(name, file) != file)
        if not parts or parts[0] in _NEVER_OWNED or any("." in part for part in parts) or hides_module:
            name = re.sub(r"\W", "_", f"target_{name}" if is_inside else f"target_{file}")
        self._owned[name.partition(".")[0]] = True
        self._files[name] = file
        return name

    def hidden_modules(self) -> dict[str, str]:
        """Return the installed modules that this tree hides from its code, each with the tree's file that hides it.

        Only names that the tree's code has tried to import are known.
        """
        own = {top: self._find(top) for top, is_owned in list(self._owned.items()) if is_owned}
        installed = {top: PathFinder.find_spec(top) for top in own}
        return {
            top: str(spec.origin or self.root / top)
            for top, spec in own.items()
            if spec is not None and (other := installed[top]) is not None and other.origin != spec.origin
        }

    def _find(self, top: str) -> ModuleSpec | None:
        """Return the place of a top-level module in the root, or ``None`` without such a module."""
        return None if top in _NEVER_OWNED else PathFinder.find_spec(top, [str(self.root)])

    def _wins(self, top: str) -> bool:
        """Return whether the root holds the top-level module ``top``, and no installed module comes before it."""
        spec = self._find(top)
        installed = PathFinder.find_spec(top) if spec and spec.loader is None else None
        return spec is not None and not (installed and installed.loader)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module of the tree. The import system calls this method of every finder on ``sys.meta_path``."""
        if not self.owns(name):
            return None
        if name in self._files:
            file = str(self._files[name])
            return spec_from_file_location(name, file, loader=_Loader(name, file, self._builtins))
        spec = PathFinder.find_spec(name, [str(self.root)] if path is None else path)
        if spec is None:  # raise, so that no other finder searches elsewhere
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path, self._builtins)
        elif spec.loader is None:  # a directory without __init__.py; Python's list would change with sys.path
            spec.submodule_search_locations = list(spec.submodule_search_locations or ())
        return spec

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Put the tree's modules into ``sys.modules`` in a ``with`` block, and set modules of the same names aside."""
        with _LOCK:
            if self._aside is not None:
                yield
                return
            self._enter()
            try:
                yield
            finally:
                self._leave()
                self._ready = dict(self._modules)

    @contextmanager
    def _outside(self) -> Iterator[None]:
        """Take the tree's modules out of ``sys.modules`` within a ``with`` block: other modules must not see them."""
        with _LOCK:
            was_inside = self._aside is not None
            if was_inside:
                self._leave()
            try:
                yield
            finally:
                if was_inside:
                    self._enter()

    def _enter(self) -> None:
        self._aside = self._take()
        sys.modules.update(self._modules)
        sys.meta_path.insert(0, self)

    def _leave(self) -> None:
        sys.meta_path.remove(self)
        self._modules = self._take()
        sys.modules.update(self._aside or {})
        self._aside = None

    def _take(self) -> dict[str, ModuleType]:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if self.owns(name)}

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Do what ``__import__`` does, for the tree's modules.

        Finding a loaded module is fast enough for timed calls.
        """
        if level or self.owns(name):
            package = (globals or {}).get("__package__")
            full = resolve_name("." * level + name, str(package)) if level and package else name
            if _has(self._ready.get(full), fromlist):
                return self._ready[full if fromlist else full.partition(".")[0]]
            with self.inside():
                return builtins.__import__(name, globals, locals, fromlist or (), level)
        with _NO_CONTEXT if self._aside is None or _has(sys.modules.get(name), fromlist) else self._outside():
            module = builtins.__import__(name, globals, locals, fromlist or (), level)
        return self._importlib if module is importlib else module


def _has(module: ModuleType | None, names: Sequence[str] | None) -> bool:
    return module is not None and (not names or all(hasattr(module, name) for name in names))
