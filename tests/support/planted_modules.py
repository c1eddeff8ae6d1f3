"""Modules that hide others: each writes its name into a file when it is imported, and then fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

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


def standard_names() -> set[str]:
    """Return the names of the standard library, without the modules that ``python -m`` imports before any of ours."""
    command = [sys.executable, "-I", "-c", "import runpy, sys; print(*sys.modules)"]
    early = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return set(sys.stdlib_module_names).difference(early)


def imported_modules(directory: Path) -> list[str]:
    """Return the names of the planted modules that were imported."""
    notes = directory / _NOTES
    return notes.read_text(encoding="utf-8").split() if notes.exists() else []
