"""Hangs of real ranks with NCCL: the record names the rank to blame, and has what NCCL's RAS answered."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nccl_bench.records.run import Run
from nccl_bench.records.schema import Hang, RankState, Samples, Status
from tests.support.command import CommandResult, Sandbox

RUN = ("run", "--arms", "stream-free,torch", "--rounds", "1", "--max-rounds", "1", "-w", "1", "-n", "4", "--nproc", "2")
# The first release of NCCL whose RAS answers in JSON.
FIRST_WITH_JSON = (2, 28, 7)

pytestmark = [pytest.mark.alone, pytest.mark.gpus(2), pytest.mark.timeout(280)]


def run(sandbox: Sandbox, act: str) -> tuple[CommandResult, Run]:
    faults = [{"rank": 1, "arm": "torch", "size_bytes": 2048, "act": act}]
    environment = sandbox.environment(faults, CUDA_VISIBLE_DEVICES="0,1")
    ended = sandbox.wait(
        sandbox.start("-m", "nccl_bench", *RUN, "--sizes", "1K,2K,4K", "-T", "8", env=environment), timeout_s=250
    )
    sandbox.assert_nothing_is_left()
    return ended, sandbox.only_run()


def test_a_stopped_rank_is_blamed_and_ras_says_that_it_does_not_answer(tmp_path: Path) -> None:
    ended, recorded = run(Sandbox(tmp_path), "stop")
    assert ended.code == 6, ended.stderr
    for hang in (line for line in recorded.lines if not isinstance(line, Samples)):
        assert isinstance(hang, Hang)
        assert (hang.case and hang.case.size_bytes, hang.rank, hang.state) == (2048, 1, RankState.STOPPED)
        if torch.cuda.nccl.version() < FIRST_WITH_JSON:
            assert hang.ras is None
            continue
        assert hang.ras is not None
        missing = [rank for communicator in hang.ras["communicators"] for rank in communicator["missing_ranks"]]
        assert {rank["rank"] for rank in missing} == {1}
        assert all(rank["status"]["unresponsive"] for rank in missing)


def test_a_rank_that_calls_with_another_count_costs_only_its_own_case(tmp_path: Path) -> None:
    ended, recorded = run(Sandbox(tmp_path), "count")
    # NCCL does not check the count: ranks can wait for ever, raise, or get wrong results.
    assert ended.code in (3, 4, 6), ended.stderr
    failed = [line for line in recorded.lines if not isinstance(line, Samples) or line.status is not Status.OK]
    assert {(line.case and line.case.size_bytes, line.arm) for line in failed} == {(2048, "torch")}
