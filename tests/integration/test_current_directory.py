"""Files in the current directory that hide other modules are never imported; a user arm beside them is measured."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples, Status
from tests.support.command import CommandResult, Sandbox
from tests.support.planted_modules import imported_modules, plant_modules

pytestmark = pytest.mark.timeout(240)

PLANTED = ("json", "numpy", "random", "torch", "typer")
COMMUNICATOR = """\
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
"""
RUN = (
    *("run", "--arms", "stream-free", "--arm", "mine=mine:Comm", "--sizes", "1K", "--timing", "eager"),
    *("--rounds", "1", "--max-rounds", "1", "-w", "1", "-n", "4", "--out", "there"),
)


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    sandbox = Sandbox(tmp_path)
    plant_modules(sandbox.cwd, PLANTED)
    (sandbox.cwd / "mine.py").write_text(COMMUNICATOR, encoding="utf-8")
    (sandbox.cwd / "wire.py").write_text("def group_of(group):\n    return group\n", encoding="utf-8")
    return sandbox


def assert_measured(sandbox: Sandbox, *ends: CommandResult) -> None:
    """Fail unless the user arm was measured and no planted module was imported."""
    assert imported_modules(sandbox.cwd) == []
    assert {ended.code for ended in ends} == {0}, ends
    lines = [line for line in Run.load(sandbox.cwd / "there").lines if isinstance(line, Samples)]
    assert {line.arm: line.status for line in lines}["mine"] is Status.OK


def test_ranks_import_only_user_arms_from_the_current_directory(sandbox: Sandbox) -> None:
    assert_measured(sandbox, sandbox.nccl_bench(*RUN))


def test_attached_ranks_import_only_user_arms_from_the_current_directory(sandbox: Sandbox) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = []
    for rank in range(2):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        environment = sandbox.environment(**place, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        ranks.append(sandbox.start("-m", "nccl_bench", *RUN, "--attach", env=environment))
    assert_measured(sandbox, *[sandbox.wait(rank) for rank in ranks])
