"""A small file system of its own, which a test can fill."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FILLER = "filler"


@contextmanager
def small_disk(path: Path, size_bytes: int) -> Iterator[Path]:
    """Mount a file system of ``size_bytes`` at the new directory ``path``. Skip the test if this is not allowed."""
    path.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(path)], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a full disk needs a mount of tmpfs, which only root may do: {error}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(directory: Path) -> None:
    """Write a file into ``directory`` until the disk is full."""
    with (directory / FILLER).open("wb", buffering=0) as file:
        for piece_bytes in (65536, 1):
            try:
                while file.write(bytes(piece_bytes)):
                    pass
            except OSError:
                continue
