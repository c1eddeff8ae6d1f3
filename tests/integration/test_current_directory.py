"""Files in the current directory that hide other modules are never imported; a user arm beside them is measured.

``test_attached`` has the same for ranks that another launcher started.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples, Status
from tests.support.command import Sandbox
from tests.support.planted_modules import imported_modules, plant_user_arm

RUN = (
    *("run", "--arms", "stream-free", "--arm", "mine=mine:Comm", "--arm", "afresh=mine:StartedAfresh,LD_BIND_NOW=1"),
    *("--sizes", "1K", "--timing", "eager", "--rounds", "1", "--max-rounds", "1", "-w", "1", "-n", "4"),
    *("--baseline", "stream-free", "--out", "there"),
)


@pytest.mark.timeout(240)
def test_ranks_import_only_user_arms_from_the_current_directory_whether_forked_or_started_afresh(
    tmp_path: Path,
) -> None:
    sandbox = Sandbox(tmp_path)
    plant_user_arm(sandbox.cwd)
    ended = sandbox.nccl_bench(*RUN)
    assert imported_modules(sandbox.cwd) == []
    assert ended.code == 0, ended
    run = Run.load(sandbox.cwd / "there")
    right = {line.arm for line in run.lines if isinstance(line, Samples) and line.status is Status.OK}
    assert right >= {"mine", "afresh"}
    process_sets = {tuple(process_set["arms"]): process_set for process_set in run.meta["worker"]["process_sets"]}
    assert process_sets["afresh",]["variables"] == {"LD_BIND_NOW": "1"}
    assert (
        "afresh: in separate processes (LD_BIND_NOW=1 is set only in these processes, which are started afresh and not "
        "forked, so that LD_BIND_NOW has an effect). A ratio compares rounds of" in " ".join(ended.stdout.split())
    )
