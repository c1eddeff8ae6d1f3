"""Source trees side by side in one process, each of which sees its own modules.

The modules of a tree have builtins of their own, whose ``__import__`` looks a name that the tree owns up in the tree.
Functions keep the builtins of their module, so an import inside a function goes the same way whenever it is called;
so does ``import_module`` of the ``importlib`` that they import. While a module of the tree is executed, the tree's
modules stand in ``sys.modules``, and neither before nor after.

A tree owns the top-level modules and packages in its root, whatever is installed, except that as in Python a directory
without ``__init__.py`` yields to an installed package, unless a target names it. It never owns the standard library's
names, ``torch``, ``nccl_bench`` and ``__main__``; a target's file of such a name is loaded as a module of another one.

What looks a tree's module up by name later and from elsewhere does not find it: pickle, ``typing.get_type_hints``,
``importlib.util.find_spec``. What a module registers in the process it registers for all trees: two trees that define
the same ``torch.library`` namespace do not fit in one process. A thread that happens to import one of a tree's names
from outside it while that tree is being loaded may get the tree's.
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
_NOTHING = nullcontext()
# One for all trees, since all of them take turns in sys.modules.
_LOCK = threading.RLock()
_trees: dict[Path, SourceTree] = {}


def source_tree(root: Path) -> SourceTree:
    """The tree in the directory ``root``: one for as long as the process lives, so that arms of one tree share it."""
    with _LOCK:
        return _trees.setdefault(root.resolve(), SourceTree(root.resolve()))


class _Loader(SourceFileLoader):
    """Executes a module of a tree with the tree's builtins, and leaves no bytecode in the tree."""

    def __init__(self, name: str, path: str, its_builtins: dict[str, Any]) -> None:
        super().__init__(name, path)
        self._builtins = its_builtins

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self._builtins
        super().exec_module(module)

    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        """Where the import system would write the bytecode."""


class SourceTree:
    """The modules of one source tree, and how its code imports."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._owned: dict[str, bool] = {}
        self._files: dict[str, Path] = {}
        self._modules: dict[str, ModuleType] = {}  # those half-way through their execution too
        self._ready: Mapping[str, ModuleType] = {}  # those as of the last whole import, read without the lock
        self._aside: dict[str, ModuleType] | None = None  # what the process has under the tree's names
        self._builtins = {**vars(builtins), "__import__": self._import}
        self._importlib = ModuleType("importlib")
        vars(self._importlib).update(
            import_module=lambda name, package=None: self._import(resolve_name(name, package), fromlist=("__name__",)),
            __getattr__=lambda name: getattr(importlib, name),
        )

    def owns(self, name: str) -> bool:
        top = name.partition(".")[0]
        if top not in self._owned:
            spec = None if top in _NEVER_OWNED else PathFinder.find_spec(top, [str(self.root)])
            installed = PathFinder.find_spec(top) if spec and spec.loader is None else None
            self._owned[top] = spec is not None and not (installed and installed.loader)
        return self._owned[top]

    def claim(self, name: str) -> bool:
        """Take a target's module for the tree's if it is there, whatever is installed; returns whether it is there."""
        top = name.partition(".")[0]
        self._owned[top] = top not in _NEVER_OWNED and PathFinder.find_spec(top, [str(self.root)]) is not None
        return self._owned[top]

    def claim_file(self, file: Path) -> str:
        """Take a target's file for the tree's, and return the name of its module."""
        parts = file.relative_to(self.root).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        name = ".".join(parts)
        if not parts or parts[0] in _NEVER_OWNED or any("." in part for part in parts):
            name = re.sub(r"\W", "_", f"target_{name}")
        self._owned[name.partition(".")[0]] = True
        self._files[name] = file
        return name

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """As a finder on ``sys.meta_path``."""
        if not self.owns(name):
            return None
        if name in self._files:
            file = str(self._files[name])
            return spec_from_file_location(name, file, loader=_Loader(name, file, self._builtins))
        spec = PathFinder.find_spec(name, [str(self.root)] if path is None else path)
        if spec is None:  # and no other finder may look for it elsewhere
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path, self._builtins)
        elif spec.loader is None:  # a directory without __init__.py: Python's own list follows sys.path
            spec.submodule_search_locations = list(spec.submodule_search_locations or ())
        return spec

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Have the tree's modules in ``sys.modules``, and the process's own aside."""
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
        """Leave the tree for a while: what is not its own is loaded for everybody and must not see it."""
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
        """``__import__`` as the tree's modules see it; what is loaded is found at a cost that a measured call bears."""
        if level or self.owns(name):
            package = (globals or {}).get("__package__")
            full = resolve_name("." * level + name, str(package)) if level and package else name
            if _has(self._ready.get(full), fromlist):
                return self._ready[full if fromlist else full.partition(".")[0]]
            with self.inside():
                return builtins.__import__(name, globals, locals, fromlist or (), level)
        with _NOTHING if self._aside is None or _has(sys.modules.get(name), fromlist) else self._outside():
            module = builtins.__import__(name, globals, locals, fromlist or (), level)
        return self._importlib if module is importlib else module


def _has(module: ModuleType | None, names: Sequence[str] | None) -> bool:
    return module is not None and (not names or all(hasattr(module, name) for name in names))
