"""The ports of a run on the GPUs of one node."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fault_runs import FaultRun
from tests.support.launched_processes import listeners, listeners_beyond_loopback


@pytest.mark.alone
@pytest.mark.gpus(2)
def test_a_run_on_gpus_listens_on_loopback_only(tmp_path: Path) -> None:
    with FaultRun(tmp_path / "run", device="cuda", CUDA_VISIBLE_DEVICES="0,1") as run:
        run.wait_for_cases()
        processes = run.sandbox.processes()
        # NCCL's sockets and those of Gloo are among them.
        assert len(listeners(processes)) >= 5
        assert listeners_beyond_loopback(processes) == {}
