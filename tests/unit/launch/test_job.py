"""The command's side of a launch, without processes."""

from __future__ import annotations

from typing import Any

import pytest

from nccl_bench.launch import job as job_module
from nccl_bench.launch.job import Job


@pytest.mark.timeout(20)
def test_a_launch_that_an_agent_in_its_imports_has_not_started_is_stopped_with_the_agent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = []

    class ImportingAgent:
        def poll(self) -> None:
            return None

        def replies(self) -> list[dict[str, Any]]:
            return []

        def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr(job_module, "_START_S", 0.0)
    Job(ImportingAgent(), 0).stop()  # type: ignore[arg-type]  # only these methods are used
    assert closed == [True]
