"""Processes on a GPU that are not of the run, in a made-up /proc."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nccl_bench.ranks.own_processes import OwnProcesses

OWN, OTHER_RANK, FOREIGN = os.getpid(), 2**22 - 1, 2**22 - 2


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Return a folder with this rank, another rank of this node, and a process of another user."""
    add(tmp_path, OWN, parent=1)
    add(tmp_path, OTHER_RANK, parent=1)
    add(tmp_path, FOREIGN, parent=1)
    return tmp_path


def add(
    proc: Path, number: int, parent: int, process: int | None = None, name: str = "python", state: str = "S"
) -> int:
    (proc / str(number)).mkdir()
    (proc / str(number) / "status").write_text(
        f"Name:\t{name}\nState:\t{state} (sleeping)\nTgid:\t{process or number}\nPid:\t{number}\nPPid:\t{parent}\n"
    )
    return number


def other(proc: Path, *listed: int) -> int | None:
    return OwnProcesses([OWN, OTHER_RANK], proc).first_other(listed)


def test_a_process_of_somebody_else_is_reported(proc: Path) -> None:
    assert other(proc, FOREIGN, OWN, OTHER_RANK) == FOREIGN
    assert other(proc, OWN, OTHER_RANK) is None


def test_threads_and_children_of_ranks_belong_to_the_run(proc: Path) -> None:
    thread = add(proc, 5, parent=1, process=OWN)
    child = add(proc, 6, parent=OTHER_RANK)
    grandchild = add(proc, 7, parent=child)
    assert other(proc, thread, child, grandchild) is None
    assert other(proc, thread, child, FOREIGN) == FOREIGN


def test_nothing_is_reported_if_the_ids_are_those_of_another_namespace(proc: Path) -> None:
    assert other(proc, FOREIGN) is None
    assert other(proc, 0, FOREIGN) is None


def test_an_ended_process_and_the_service_that_shares_gpus_are_no_other_processes(proc: Path) -> None:
    ended, zombie = 8, add(proc, 9, parent=1, state="Z")
    service = add(proc, 10, parent=1, name="nvidia-cuda-mps")
    assert other(proc, OWN, 0, ended, zombie, service) is None
