"""What one rank of a proof allows itself, and what it does not try any more; the probes are stand-ins."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from nccl_bench.arms.arm import Arm
from nccl_bench.config.verification import resolve
from nccl_bench.errors import UserArmError
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.ranks.process import SETUP_TIMEOUT_S
from nccl_bench.ranks.progress import Progress
from nccl_bench.verify import worker as worker_module
from nccl_bench.verify.findings import MOST_BROKEN, Finding, append_finding, find_given_up_arms, read_findings
from nccl_bench.verify.rig import Rig
from nccl_bench.verify.spec import VerificationSpec
from nccl_bench.verify.worker import run_probes

PATIENT_S = 2 * SETUP_TIMEOUT_S


@pytest.fixture
def made(one_rank: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arms that the rank, which is alone, has made."""
    made: list[str] = []

    def make(name: str, *arguments: Any) -> Arm:
        made.append(name)
        return Arm(name, *arguments)

    monkeypatch.setattr(dist, "init_process_group", lambda *_arguments, **_options: None)
    destroy = dist.destroy_process_group
    # The world is other tests' too; an arm's own group is its own.
    monkeypatch.setattr(dist, "destroy_process_group", lambda group=None: group and destroy(group))
    monkeypatch.setattr(worker_module, "Arm", make)
    monkeypatch.setenv("LOCAL_RANK", "0")
    return made


class Noting(Progress):
    """Notes every deadline, with the index of the cell and the phase."""

    def __init__(self) -> None:
        super().__init__(None, 0, 0)
        self.noted: list[tuple[int, str, float | None]] = []

    def update(self, *, case_index: int, arm: str, phase: str, deadline_s: float | None) -> None:
        super().update(case_index=case_index, arm=arm, phase=phase, deadline_s=deadline_s)
        self.noted.append((case_index, phase, deadline_s))


def probe(rig: Rig) -> None:
    """Two trials on the shared arm, and an arm of the probe's own."""
    assert rig.arm is rig.arm
    for trial in ("one", "two"):
        rig.announce_trial(trial)
        rig.record(trial, None)
    rig.make_arm().close()


@pytest.fixture
def run(tmp_path: Path, made: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Noting]:
    def run(*cells: ArmProbe, timeout_s: float = 7.0) -> Noting:
        monkeypatch.setattr(worker_module, "PROBE_FUNCTIONS", {cell.probe: probe for cell in cells})
        config = resolve("cpu", arms=None, probes=None, routes=None, nccl_library=None, timeout_s=timeout_s)
        progress = Noting()
        run_probes(VerificationSpec(config=config, arm_probes=cells, findings=str(tmp_path / "findings")), progress)
        assert progress.position.done
        return progress

    return run


def test_only_the_first_communicator_of_a_process_has_as_long_as_set_up(
    run: Callable[..., Noting], made: list[str]
) -> None:
    progress = run(ArmProbe(arm="stream-free", probe="producer"), ArmProbe(arm="torch", probe="producer"))
    trials = [("producer one", None), ("producer two", None)]
    making = [("producer", 7.0)] * 2
    assert progress.noted == [
        (-1, "connect", SETUP_TIMEOUT_S),
        (-1, "device", SETUP_TIMEOUT_S),
        (0, "producer", 7.0),
        (0, "producer", SETUP_TIMEOUT_S),
        (0, "producer", 7.0),
        *((0, *noted) for noted in trials),
        *((0, "producer two", deadline_s) for _, deadline_s in making),
        (1, "producer", 7.0),
        *((1, *noted) for noted in (*making, *trials)),
        *((1, "producer two", deadline_s) for _, deadline_s in making),
    ]
    assert made == ["stream-free"] * 2 + ["torch"] * 2


def test_who_is_patient_is_patient_at_set_up_too(run: Callable[..., Noting]) -> None:
    progress = run(ArmProbe(arm="stream-free", probe="producer"), timeout_s=PATIENT_S)
    assert {deadline_s for index, _, deadline_s in progress.noted if index == 0} == {PATIENT_S, None}


def test_an_arm_that_broke_too_often_is_neither_made_nor_tried(
    run: Callable[..., Noting], made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [
        Finding(arm="torch", probe=name, trials=1, failed=1, detail="hung", broken=True)
        for name in ("producer", "consumer", "state")[:MOST_BROKEN]
    ]
    for finding in broken:
        append_finding(tmp_path / "findings", finding)
    # `capture` runs alone: where it fails the process ends, but nothing was done here that could have spoilt it.
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail(f"left with exit code {code}"))
    cells = [
        ArmProbe(arm="torch", probe="many"),
        ArmProbe(arm="torch", probe="capture"),
        ArmProbe(arm="coordinator", probe="many"),
    ]
    run(*cells)
    found = read_findings(tmp_path / "findings")
    assert found[: len(broken)] == broken
    (left,) = find_given_up_arms(broken).values()
    assert found[len(broken) : -1] == [replace(left, probe=cell.probe) for cell in cells[:2]]
    assert (found[-1].arm_probe, found[-1].trials, found[-1].failed) == (cells[2], 2, 0)
    assert set(made) == {"coordinator"}


def test_a_rank_that_cannot_make_an_arm_of_the_user_s_says_so_before_it_ends(
    run: Callable[..., Noting], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(name: str, *_arguments: Any) -> Arm:
        raise UserArmError(f"the arm {name}: no luck (mine.py:3)")

    monkeypatch.setattr(worker_module, "Arm", fails)
    cell = ArmProbe(arm="stream-free", probe="producer")
    with pytest.raises(UserArmError, match="no luck"):
        run(cell, ArmProbe(arm="torch", probe="producer"))
    (found,) = read_findings(tmp_path / "findings")
    assert (found.arm_probe, found.unmade, found.detail) == (cell, True, "the arm stream-free: no luck (mine.py:3)")
