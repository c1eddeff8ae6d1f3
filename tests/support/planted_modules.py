"""Modules that hide others: each writes its name into a file when it is imported, and then fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

# A user arm, which needs installed modules and a module beside it. `StartedAfresh` refuses a process that was forked
# from a process without the variable LD_BIND_NOW.
USER_ARM_FILES = {
    "wire.py": "def group_of(group):\n    return group\n",
    "mine.py": """\
import json
import random

import numpy
import torch.distributed as dist
from wire import group_of


class Comm:
    def __init__(self, group, device):
        self.group = group_of(group)

    def all_reduce(self, tensor, op=dist.ReduceOp.SUM) -> None:
        import numpy.linalg

        dist.all_reduce(tensor, op, group=self.group)


class StartedAfresh(Comm):
    def __init__(self, group, device):
        super().__init__(group, device)
        with open("/proc/self/environ") as file:
            assert "LD_BIND_NOW=1" in file.read().split("\\0")
""",
}
INSTALLED_NAMES = {"numpy", "pandas", "rich", "scipy", "torch", "typer"}
_NOTES = "imported.txt"
_TEXT = """\
with open({notes!r}, "a") as file:
    file.write(__name__ + "\\n")
raise AssertionError("a module of the current directory was imported: " + __name__)
"""


def plant_modules(directory: Path, names: Iterable[str]) -> None:
    """Write a module into ``directory`` for each of ``names``."""
    text = _TEXT.format(notes=str(directory / _NOTES))
    for name in names:
        (directory / f"{name}.py").write_text(text, encoding="utf-8")


def plant_user_arm(directory: Path) -> None:
    """Write the ``USER_ARM_FILES`` into ``directory``, among modules that hide those which they import."""
    plant_modules(directory, ("json", "numpy", "random", "torch", "typer"))
    for name, text in USER_ARM_FILES.items():
        (directory / name).write_text(text, encoding="utf-8")


def standard_names() -> set[str]:
    """Return the names of the standard library, without the modules that ``python -m`` imports before any of ours."""
    command = [sys.executable, "-I", "-c", "import runpy, sys; print(*sys.modules)"]
    early = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return set(sys.stdlib_module_names).difference(early)


def imported_modules(directory: Path) -> list[str]:
    """Return the names of the planted modules that were imported."""
    notes = directory / _NOTES
    return notes.read_text(encoding="utf-8").split() if notes.exists() else []
