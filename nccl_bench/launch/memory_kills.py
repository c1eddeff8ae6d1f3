"""Reads the kernel's count of processes that it ended because memory ran out. Linux only."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True, kw_only=True)
class KillCount:
    """The number of processes that the kernel has ended because memory ran out."""

    file: Path  # the file of the kernel with this count
    kills: int  # the number of processes

    def rose_from(self, earlier: "KillCount | None") -> bool:
        """Return whether the kernel has ended a process since ``earlier`` was read from the same file."""
        return earlier is not None and earlier.file == self.file and self.kills > earlier.kills


def read_kill_count(root: Path = Path("/")) -> KillCount | None:
    """Return the count for this process's control group, otherwise for the machine; ``None`` if neither is readable.

    The kernel counts an ended process in the group of the process, even if an outer group or the machine ran out of
    memory. The count of an outer group also includes processes of other groups, so it is not used. ``root`` is the root
    of the file system.
    """
    for file in (*_files_of_group(root), root / "proc/vmstat"):
        try:
            lines = file.read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        for name, _, value in (line.partition(" ") for line in lines):
            if name == "oom_kill":
                return KillCount(file=file, kills=int(value))
    return None


def _files_of_group(root: Path) -> Iterator[Path]:
    """Yield the files that can have the count of this process's group: those of cgroup version 2, then of version 1.

    The first file that exists is the right one. In a container, the first directories of the group's path can be
    invisible, so shorter paths are tried too.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    groups = {controllers: PurePosixPath(path) for _, controllers, path in (line.split(":", 2) for line in lines)}
    for controllers, path in groups.items():
        if not controllers:
            for mount in (mounts, mounts / "unified"):
                yield from (mount / str(group).lstrip("/") / "memory.events" for group in (path, *path.parents))
    for controllers, path in groups.items():
        if "memory" in controllers.split(","):
            group_paths = (path, *path.parents)
            yield from (mounts / "memory" / str(group).lstrip("/") / "memory.oom_control" for group in group_paths)
