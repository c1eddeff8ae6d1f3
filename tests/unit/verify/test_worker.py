"""The deadlines of one rank of a verification, and the arms that it gives up. The probes are stand-ins."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from nccl_bench.arms.arm import Arm
from nccl_bench.config.verification import resolve_verification
from nccl_bench.errors import UserArmError
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.ranks.control import Control
from nccl_bench.ranks.joining import Ranks
from nccl_bench.ranks.process import SETUP_TIMEOUT_S
from nccl_bench.ranks.progress import Progress
from nccl_bench.verify import worker as worker_module
from nccl_bench.verify.findings import MOST_BROKEN, Finding, append_finding, find_given_up_arms, read_findings
from nccl_bench.verify.rig import Rig
from nccl_bench.verify.spec import VerificationSpec
from nccl_bench.verify.worker import run_probes

LONG_TIMEOUT_S = 2 * SETUP_TIMEOUT_S


@pytest.fixture
def made(one_rank: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the arms that the only rank has made."""
    made: list[str] = []

    def make(name: str, *arguments: Any) -> Arm:
        made.append(name)
        return Arm(name, *arguments)

    ranks = Ranks(all_ranks=Control(one_rank), own_set=Control(one_rank), set_index=0, first_ranks=(0,))
    monkeypatch.setattr(worker_module, "join", lambda process_sets: ranks)
    destroy = dist.destroy_process_group
    # Other tests use the default group too; an arm's own group may be destroyed.
    monkeypatch.setattr(dist, "destroy_process_group", lambda group: group is one_rank or destroy(group))
    monkeypatch.setattr(worker_module, "Arm", make)
    monkeypatch.setenv("LOCAL_RANK", "0")
    return made


class RecordingProgress(Progress):
    """Records every deadline, with the index of the arm probe and the phase."""

    def __init__(self) -> None:
        super().__init__(None, 0, 0)
        self.recorded: list[tuple[int, str, float | None]] = []

    def update(self, *, case_index: int, arm: str, phase: str, deadline_s: float | None) -> None:
        super().update(case_index=case_index, arm=arm, phase=phase, deadline_s=deadline_s)
        self.recorded.append((case_index, phase, deadline_s))


def probe(rig: Rig) -> None:
    """Do two trials on the shared arm, and make another arm."""
    assert rig.arm is rig.arm
    for trial in ("first", "second"):
        rig.announce_trial(trial)
        rig.record(trial, None)
    rig.make_arm().close()


@pytest.fixture
def run(tmp_path: Path, made: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., RecordingProgress]:
    def run(*cells: ArmProbe, timeout_s: float = 7.0) -> RecordingProgress:
        monkeypatch.setattr(worker_module, "PROBE_FUNCTIONS", {cell.probe: probe for cell in cells})
        config = resolve_verification("cpu", {"timeout_s": timeout_s})
        progress = RecordingProgress()
        (tmp_path / "findings").touch()
        run_probes(VerificationSpec(config=config, arm_probes=cells, findings=str(tmp_path / "findings")), progress)
        assert progress.position.done
        return progress

    return run


def test_only_the_first_communicator_of_a_process_has_the_time_of_set_up(
    run: Callable[..., RecordingProgress], made: list[str]
) -> None:
    progress = run(ArmProbe(arm="stream-free", probe="producer"), ArmProbe(arm="torch", probe="producer"))
    trials = [("producer first", None), ("producer second", None)]
    making = [("producer", 7.0)] * 2
    assert progress.recorded == [
        (-1, "connect", SETUP_TIMEOUT_S),
        (-1, "device", SETUP_TIMEOUT_S),
        (0, "producer", 7.0),
        (0, "producer", SETUP_TIMEOUT_S),
        (0, "producer", 7.0),
        *((0, *entry) for entry in trials),
        *((0, "producer second", deadline_s) for _, deadline_s in making),
        (1, "producer", 7.0),
        *((1, *entry) for entry in (*making, *trials)),
        *((1, "producer second", deadline_s) for _, deadline_s in making),
    ]
    assert made == ["stream-free"] * 2 + ["torch"] * 2


def test_a_timeout_above_that_of_set_up_holds_for_the_first_communicator_too(
    run: Callable[..., RecordingProgress],
) -> None:
    progress = run(ArmProbe(arm="stream-free", probe="producer"), timeout_s=LONG_TIMEOUT_S)
    assert {deadline_s for index, _, deadline_s in progress.recorded if index == 0} == {LONG_TIMEOUT_S, None}


def test_an_arm_that_broke_too_often_is_not_made_and_not_tried(
    run: Callable[..., RecordingProgress], made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [
        Finding(arm="torch", probe=name, trials=1, failed=1, detail="hung", broken=True)
        for name in ("producer", "consumer", "state")[:MOST_BROKEN]
    ]
    (tmp_path / "findings").touch()
    for finding in broken:
        append_finding(tmp_path / "findings", finding)
    # A failed `capture` ends the process, but not if the arm was given up and nothing was captured.
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail(f"left with exit code {code}"))
    cells = [
        ArmProbe(arm="torch", probe="many"),
        ArmProbe(arm="torch", probe="capture"),
        ArmProbe(arm="coordinator", probe="many"),
    ]
    run(*cells)
    written = read_findings(tmp_path / "findings")
    assert written[: len(broken)] == broken
    (given_up,) = find_given_up_arms(broken).values()
    assert written[len(broken) : -1] == [replace(given_up, probe=cell.probe) for cell in cells[:2]]
    assert (written[-1].arm_probe, written[-1].trials, written[-1].failed) == (cells[2], 2, 0)
    assert set(made) == {"coordinator"}


def test_a_rank_that_cannot_make_a_user_arm_writes_a_finding_before_it_ends(
    run: Callable[..., RecordingProgress], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(name: str, *_arguments: Any) -> Arm:
        raise UserArmError(f"the arm {name}: no library (mine.py:3)")

    monkeypatch.setattr(worker_module, "Arm", fails)
    cell = ArmProbe(arm="stream-free", probe="producer")
    with pytest.raises(UserArmError, match="no library"):
        run(cell, ArmProbe(arm="torch", probe="producer"))
    (finding,) = read_findings(tmp_path / "findings")
    assert (finding.arm_probe, finding.unmade, finding.detail) == (
        cell,
        True,
        "the arm stream-free: no library (mine.py:3)",
    )
