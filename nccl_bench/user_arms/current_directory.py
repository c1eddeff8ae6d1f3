"""The current directory as a source tree, for user arms that are named by module.

Only an arm's own module can hide an installed module. No process of ours has the current
directory on ``sys.path``, because there a stray ``numpy.py`` would hide numpy from torch. A directory in
``PYTHONPATH`` counts as installed, even if it is the current directory.
"""

import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

from nccl_bench.user_arms.source_trees import SourceTree

_directories: dict[Path, "CurrentDirectory"] = {}


def current_directory() -> "CurrentDirectory":
    """Return the tree of the current directory. In one process, all arms that are named by module share this tree."""
    root = Path.cwd()
    return _directories.setdefault(root, CurrentDirectory(root))


class CurrentDirectory(SourceTree):
    """A tree in which a target's module comes before installed modules, and every other module after them."""

    def claim(self, name: str) -> bool:
        """Make the tree own a target's module, if the directory holds the module; return whether it does.

        An installed package wins over a directory without ``__init__.py``: the user has not named the current directory
        as a tree.
        """
        top = name.partition(".")[0]
        self._owned[top] = super()._wins(top)
        return self._owned[top]

    def _wins(self, top: str) -> bool:
        if not super()._wins(top):
            return False
        installed, own = _find_installed(top), self._find(top)
        return installed is None or _places(installed) == _places(own)


def _find_installed(top: str) -> ModuleSpec | None:
    """Return where Python finds the module ``top`` without the help of a tree."""
    finders = (finder for finder in sys.meta_path if not isinstance(finder, SourceTree))
    return next(filter(None, (finder.find_spec(top, None) for finder in finders)), None)


def _places(spec: ModuleSpec | None) -> list[str]:
    """Return the files and directories of a module. If two ways find the same module, its places are equal."""
    if spec is None:
        return []
    return [os.path.realpath(place) for place in (spec.origin, *(spec.submodule_search_locations or ())) if place]
