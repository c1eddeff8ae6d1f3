"""The kernel's count of processes that it ended because memory ran out, in the files of a planted file system."""

from __future__ import annotations

from pathlib import Path

import pytest

from nccl_bench.launch.memory_kills import KillCount, read_kill_count

MACHINE = {"proc/vmstat": "pgfault 7\noom_kill 90\n"}
VERSION_2 = MACHINE | {
    "proc/self/cgroup": "0::/job/step\n",
    "sys/fs/cgroup/job/memory.events": "low 0\noom 2\noom_kill 1\noom_group_kill 0\n",
}
VERSION_1 = MACHINE | {
    "proc/self/cgroup": "9:pids:/\n4:cpu,memory:/docker/abc\n0::/\n",
    "sys/fs/cgroup/memory/docker/abc/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "sys/fs/cgroup/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
}
STEP = {"sys/fs/cgroup/job/step/memory.events": "oom_kill 0\n"}


def plant(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="ascii")


@pytest.mark.parametrize(
    ("files", "kills"),
    [
        ({}, None),
        (MACHINE, 90),
        (MACHINE | {"proc/self/cgroup": "0::/\n"}, 90),
        # The group of the process has no file, because its memory is not counted. The group around it has one.
        (VERSION_2, 1),
        (VERSION_2 | STEP, 0),
        (VERSION_1, 2),
        # In a container the path of the group can be that of the host, and only its own files are visible.
        (VERSION_1 | {"proc/self/cgroup": "4:memory:/elsewhere\n"}, 3),
    ],
)
def test_the_nearest_group_with_a_count_is_read_and_otherwise_the_machine(
    tmp_path: Path, files: dict[str, str], kills: int | None
) -> None:
    plant(tmp_path, files)
    count = read_kill_count(tmp_path)
    assert (count.kills if count else None) == kills


def test_only_a_higher_count_in_the_same_file_is_a_new_kill() -> None:
    before = KillCount(file=Path("a"), kills=1)
    assert KillCount(file=Path("a"), kills=2).rose_from(before)
    assert not before.rose_from(before)
    assert not KillCount(file=Path("b"), kills=2).rose_from(before)
    assert not before.rose_from(None)
