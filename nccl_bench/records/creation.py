"""Creates the directory and the files of a record, or nothing at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from nccl_bench.errors import UsageError
from nccl_bench.records.run import FILES, VERIFICATION_FILES


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """The directories and files that a command has created."""

    paths: list[Path] = field(default_factory=list)  # in the order of their creation

    def make_directory(self, path: Path, *, exist_ok: bool) -> None:
        """Create the directory ``path`` and its missing parents."""
        for parent in reversed([each for each in path.parents if not each.exists()]):
            parent.mkdir(exist_ok=True)
            self.paths.append(parent)
        existed = path.exists()
        path.mkdir(exist_ok=exist_ok)
        if not existed:
            self.paths.append(path)

    def make_files(self, directory: Path, names: Sequence[str]) -> None:
        """Create empty files in ``directory``; raise ``UsageError`` if the directory already holds a record."""
        for name in (*FILES, *VERIFICATION_FILES):
            if (directory / name).exists():
                raise UsageError(f"{directory} already holds a record ({name}): choose another directory with --out")
        for name in names:
            (directory / name).open("x").close()
            self.paths.append(directory / name)

    def remove(self) -> None:
        """Remove all ``paths``, but keep a directory that contains anything else."""
        for path in reversed(self.paths):
            with suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()


@contextmanager
def creating(directory: Path) -> Iterator[Created]:
    """Yield an empty ``Created``. If the body raises, remove what was created.

    Raises ``UsageError``, with ``directory`` in its message, if the body raised an ``OSError``.
    """
    created = Created()
    try:
        yield created
    except BaseException as error:
        created.remove()
        if isinstance(error, OSError):
            raise UsageError(
                f"{directory} cannot be written: {error.strerror}; choose a directory with --out"
            ) from error
        raise


def make_fresh_directory(created: Created, parent: Path, name: str) -> Path:
    """Create and return a directory in ``parent``: ``name``, or the first free name of ``name-2``, ``name-3``, ..."""
    number = 1
    while True:
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            created.make_directory(path, exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return path
