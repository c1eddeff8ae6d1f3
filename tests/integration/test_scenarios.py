"""Scenarios in the real command: a deadlock between two communicators is a result, and the run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from nccl_bench.errors import ExitCode
from nccl_bench.records.schema import Hang, Samples
from nccl_bench.records.store import RunStatus
from tests.support.command import Sandbox

pytestmark = pytest.mark.timeout(120)

# Two of these objects deadlock on one stream with messages of 1 KiB: the ranks use the two groups in opposite order.
OPPOSITE = """\
import torch.distributed as dist

from nccl_bench.streams import cpu


class Opposite:
    made, held = 0, []

    def __init__(self, group, device):
        self.group = dist.new_group(dist.get_process_group_ranks(group), backend="gloo")
        self.is_first = Opposite.made % 2 == 0
        Opposite.made += 1

    def all_reduce(self, tensor) -> None:
        def call():
            cpu.current_stream().submit(dist.all_reduce, tensor, dist.ReduceOp.SUM, self.group)

        if dist.get_rank(self.group) == 0 or tensor.numel() > 512:
            call()
        elif self.is_first:
            self.held.append(call)
        else:
            call()
            self.held.pop()()
"""
RUN = (
    *("run", "--scenario", "contended", "--streams", "1", "--sizes", "1K,16K", "--timing", "eager", "-T", "3"),
    *("--arms", "stream-free", "--baseline", "stream-free", "--arm", "opposite=opposite.py:Opposite"),
    *("--rounds", "2", "--max-rounds", "2", "-n", "4", "-w", "1", "--full"),
)


def test_a_planted_deadlock_is_a_cell_of_the_table_and_its_arm_is_measured_in_other_cases(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    (sandbox.cwd / "opposite.py").write_text(OPPOSITE, encoding="utf-8")
    ended = sandbox.nccl_bench(*RUN)
    sandbox.assert_nothing_is_left()
    run = sandbox.only_run()
    (hang,) = (line for line in run.lines if isinstance(line, Hang))
    assert hang.case is not None
    assert (hang.arm, hang.case.size_bytes, hang.case.streams, hang.excludes_arm) == ("opposite", 1024, 1, False)
    assert hang.phase == "first call, waiting"
    timed = {(line.arm, line.case.size_bytes) for line in run.lines if isinstance(line, Samples) and line.samples_us}
    both = {("stream-free", 1024), ("stream-free", 16384), ("opposite", 16384)}
    assert timed >= both
    assert ("opposite", 1024) not in timed
    assert (run.meta["status"], ended.code) == (RunStatus.COMPLETE, ExitCode.HANG)
    printed = " ".join(ended.stdout.split())
    assert "DEADLOCK: contended (streams 1) all_reduce bfloat16 sum 1024 B, arm opposite, rank" in printed
    assert "in first call, waiting" in printed
    assert "the case was measured in the other arms" in printed
    assert next(line for line in ended.stdout.splitlines() if line.startswith("  1K ") and "DEADLOCK" in line)
