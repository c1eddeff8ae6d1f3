"""The scenario `skew`: the delay of the late rank is measured, and its calls are timed without it."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from nccl_bench.config.run import resolve
from nccl_bench.ranks.progress import Progress
from nccl_bench.records.schema import Samples, Status
from nccl_bench.transports.device import open_device
from tests.support.one_rank_run import run_on_one_rank


def test_the_delay_is_measured_and_is_no_part_of_the_time_of_the_late_rank(one_rank: dist.ProcessGroup) -> None:
    options = {"scenario": "skew", "delays": "0,20000", "sizes": "8", "arms": "stream-free", "rounds": 2}
    config = resolve("cpu", {**options, "max_rounds": 2})
    # A run of one rank has no skew, but the late rank of this test needs no other one.
    _, lines = run_on_one_rank(config, one_rank, open_device("cpu", 0), Progress(None, 0, 0), planned_ranks=2)
    samples = [line for line in lines if isinstance(line, Samples)]
    assert [line.case.delay_us for line in samples] == [0, 20_000]
    for line in samples:
        assert line.status is Status.OK
        assert line.skew is not None
        assert line.skew.late_rank == 0
        assert line.skew.late_rank_us == pytest.approx(line.samples_us)
        assert all(delay_us >= (line.case.delay_us or 0) for delay_us in line.skew.delay_us)
