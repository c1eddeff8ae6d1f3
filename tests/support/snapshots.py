"""Snapshots: the expected output of a report, each in a text file of its own.

``python -m pytest tests/unit/report --rewrite-snapshots`` writes the files again. Read the difference before a commit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

SNAPSHOTS = Path(__file__).parents[1] / "unit" / "report" / "snapshots"
# A function of the name of a snapshot, or of its file elsewhere, and the text to compare with it.
CheckSnapshot = Callable[[str | Path, str], None]


def check_snapshot(name: str | Path, text: str, *, rewrite: bool) -> None:
    """Compare ``text`` with the snapshot ``name``, or write it there. A path is a file outside of the folder."""
    file = name if isinstance(name, Path) else SNAPSHOTS / f"{name}.txt"
    if rewrite:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert file.exists(), f"there is no snapshot {file}: write it with pytest --rewrite-snapshots"
    assert text == file.read_text(), f"{file} differs: read the difference, then use pytest --rewrite-snapshots"
