"""A proof over scripted launches: what a hang, a crash and a voluntary end say; no process is started."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from nccl_bench.catalog.probes import DETECTOR
from nccl_bench.config.verification import VerifyConfig, resolve
from nccl_bench.errors import ExitCode, SetupError
from nccl_bench.launch import supervise as supervise_module
from nccl_bench.launch import verification as prove_module
from nccl_bench.launch.supervise import supervise
from nccl_bench.launch.torchrun import LaunchConfig
from nccl_bench.launch.verification import run_verification
from nccl_bench.plan.verification import ArmProbe, group_by_launch
from nccl_bench.ranks.failure import Failure
from nccl_bench.ranks.progress import Position, Progress
from nccl_bench.verify.findings import Finding, append_finding, find_given_up_arms, read_findings
from nccl_bench.verify.judgement import Judgement, ProbeStatus, Verification
from nccl_bench.verify.spec import VerificationSpec

CONFIG: VerifyConfig = resolve(
    "cuda", arms="stream-free,torch", probes="producer,capture", routes=None, nccl_library=None, timeout_s=9.0
)
TOGETHER, ALONE = group_by_launch(CONFIG)
FREE, TORCH = (ArmProbe(arm=arm, probe="producer") for arm in ("stream-free", "torch"))
# What a launch does from the specification's first cell on; returns torchrun's exit code, None for one that goes on.
Act = Callable[[VerificationSpec], int | None]


def made(cell: ArmProbe) -> Finding:
    """A finding without trouble: only the detector fails."""
    failed = 7 * (cell.arm == DETECTOR)
    detail = "late" if failed else None
    return Finding(arm=cell.arm, probe=cell.probe, trials=8, failed=failed, raced=failed, detail=detail)


def ranks(spec: VerificationSpec, index: int, deadline_s: float = 60) -> list[Progress]:
    """Both ranks within the cell at ``index``, those before it done."""
    for cell in spec.arm_probes[spec.first : max(index, 0)]:
        append_finding(Path(spec.findings), made(cell))
    assert spec.scratch is not None
    progresses = [Progress(Path(spec.scratch), rank, rank) for rank in (0, 1)]
    for progress in progresses:
        arm = spec.arm_probes[index].arm if 0 <= index < len(spec.arm_probes) else ""
        progress.update(case_index=index, arm=arm, phase="producer all_reduce", deadline_s=deadline_s)
    return progresses


def finishes(spec: VerificationSpec) -> int | None:
    for progress in ranks(spec, len(spec.arm_probes)):
        progress.finish()
    return 0


def stays(spec: VerificationSpec) -> int | None:
    finishes(spec)
    return None


def hangs(index: int) -> Act:
    def act(spec: VerificationSpec) -> int | None:
        ranks(spec, index, deadline_s=-1)
        return None

    return act


def crashes(index: int, *findings: Finding) -> Act:
    def act(spec: VerificationSpec) -> int | None:
        _, culprit = ranks(spec, index)
        for finding in findings:
            append_finding(Path(spec.findings), finding)
        Failure.of(ValueError("broken"), culprit.position).write(Path(spec.scratch or ""))
        return 1

    return act


def leaves(index: int, finding: Finding) -> Act:
    """All ranks end with exit code 0 behind a finding."""

    def act(spec: VerificationSpec) -> int | None:
        ranks(spec, index)
        append_finding(Path(spec.findings), finding)
        return 0

    return act


@dataclass
class Scripted:
    """Stands in for ``Job``: the n-th launch does the n-th act."""

    acts: Sequence[Act]
    specs: list[VerificationSpec] = field(default_factory=list)
    exit_code: int | None = None

    def __call__(self, launch: LaunchConfig, spec: VerificationSpec, attempt: int) -> Scripted:
        assert launch.nproc == 2
        self.specs.append(spec)
        self.exit_code = self.acts[len(self.specs) - 1](spec)
        return self

    def poll(self) -> int | None:
        return self.exit_code

    def stop(self) -> None:
        """There is no process."""

    @property
    def started(self) -> list[tuple[tuple[ArmProbe, ...], int]]:
        return [(spec.arm_probes, spec.first) for spec in self.specs]


@dataclass(frozen=True)
class Proven:
    proof: Verification
    scripted: Scripted
    seen: list[list[Position]]

    def of(self, cell: ArmProbe) -> Judgement:
        (found,) = (j for j in self.proof.judgements if (j.arm, j.probe) == (cell.arm, cell.probe))
        return found

    def finding(self, cell: ArmProbe) -> Finding:
        found = self.of(cell).finding
        assert found is not None
        return found


@pytest.fixture
def prove(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Proven]:
    monkeypatch.setattr(supervise_module, "POLL_S", 0.001)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def run(*acts: Act, config: VerifyConfig = CONFIG) -> Proven:
        scripted, seen = Scripted(acts), list[list[Position]]()
        monkeypatch.setattr(prove_module, "supervise", partial(supervise, start=scripted))
        try:
            proof = run_verification(config, LaunchConfig(nproc=2), on_progress=seen.append)
        finally:
            assert list(tmp_path.iterdir()) == []
        assert len(scripted.specs) == len(acts)
        return Proven(proof, scripted, seen)

    return run


def test_without_trouble_every_group_of_cells_is_one_launch(prove: Callable[..., Proven]) -> None:
    proven = prove(finishes, finishes)
    assert proven.scripted.started == [(TOGETHER, 0), (ALONE, 0)]
    assert len({spec.findings for spec in proven.scripted.specs}) == 1
    assert proven.proof.world_size == 2
    for cell in (*TOGETHER, *ALONE):
        assert proven.finding(cell) == made(cell)
    assert {j.status for j in proven.proof.judgements} == {ProbeStatus.PASS, ProbeStatus.CAUGHT}


def test_positions_count_the_cells_of_all_launches(prove: Callable[..., Proven]) -> None:
    proven = prove(finishes, hangs(1), finishes)
    indices = list(dict.fromkeys(position.case_index for positions in proven.seen for position in positions))
    assert indices == [len(TOGETHER), len(TOGETHER) + 1, len(TOGETHER) + len(ALONE)]


def test_a_hang_is_a_failed_probe_and_the_rest_goes_on(prove: Callable[..., Proven]) -> None:
    proven = prove(hangs(1), finishes, finishes)
    assert proven.scripted.started == [(TOGETHER, 0), (TOGETHER, 2), (ALONE, 0)]
    host = proven.seen[0][0].host
    assert proven.finding(TORCH) == Finding(
        arm="torch",
        probe="producer",
        trials=1,
        failed=1,
        detail=f"rank 0 on {host} hung in producer all_reduce for -1 s",
        broken=True,
    )
    failed = [(j.arm, j.probe) for j in proven.proof.judgements if j.status is ProbeStatus.FAIL]
    assert failed == [("torch", "producer")]
    assert not proven.proof.blind


def test_a_crash_is_a_failed_probe_that_says_what_ended_it(prove: Callable[..., Proven]) -> None:
    proven = prove(crashes(0), crashes(1), finishes, finishes)
    assert proven.scripted.started == [(TOGETHER, 0), (TOGETHER, 1), (TOGETHER, 2), (ALONE, 0)]
    for cell in (FREE, TORCH):
        found = proven.finding(cell)
        assert (found.trials, found.failed, found.broken) == (1, 1, True)
        assert (found.detail or "").endswith("ended with exit code 3: ValueError: broken")
        assert proven.of(cell).status is ProbeStatus.FAIL


def test_a_crash_behind_a_finding_takes_its_place(prove: Callable[..., Proven]) -> None:
    proven = prove(crashes(1, made(TORCH)), finishes, finishes)
    found = proven.finding(TORCH)
    assert (found.trials, found.failed, found.broken) == (1, 1, True)
    assert "ValueError: broken" in (found.detail or "")


def test_every_launch_is_told_of_the_breaks_of_those_before(prove: Callable[..., Proven]) -> None:
    config = replace(CONFIG, arms=("torch",), probes=("producer", "state", "capture"))
    told: list[frozenset[str]] = []

    def noting(act: Act) -> Act:
        def noted(spec: VerificationSpec) -> int | None:
            told.append(frozenset(find_given_up_arms(read_findings(Path(spec.findings)))))
            return act(spec)

        return noted

    # `capture` has a launch of its own.
    proven = prove(*map(noting, (crashes(0), hangs(1), finishes, crashes(0), finishes)), config=config)
    assert told == [frozenset()] * 4 + [frozenset({"torch"})]
    assert {j.probe for j in proven.proof.judgements if j.finding and j.finding.broken} == set(config.probes)


def test_an_arm_that_cannot_be_made_costs_one_launch(prove: Callable[..., Proven]) -> None:
    config = replace(CONFIG, arms=("torch",), probes=("producer", "state", "many"))
    why = Finding(
        arm="torch", probe="producer", trials=1, failed=1, detail="the arm torch: no", broken=True, unmade=True
    )
    proven = prove(crashes(0, why), finishes, config=config)
    cells, first = proven.scripted.started[1]
    assert cells[first].arm == DETECTOR
    of_torch = [j for j in proven.proof.judgements if j.arm == "torch"]
    assert [(j.probe, j.status, j.finding) for j in of_torch] == [
        (probe, ProbeStatus.ERROR, replace(why, probe=probe)) for probe in config.probes
    ]
    assert proven.proof.exit_code is ExitCode.SETUP


def failing(cell: ArmProbe) -> Finding:
    return Finding(arm=cell.arm, probe=cell.probe, trials=8, failed=3, detail="wrong")


def test_ranks_that_leave_behind_a_failed_dangerous_probe_did_not_crash(prove: Callable[..., Proven]) -> None:
    proven = prove(finishes, leaves(0, failing(ALONE[0])), finishes)
    assert proven.scripted.started == [(TOGETHER, 0), (ALONE, 0), (ALONE, 1)]
    assert proven.finding(ALONE[0]) == failing(ALONE[0])
    assert proven.of(ALONE[1]).status is ProbeStatus.PASS


def test_ranks_that_leave_without_a_reason_did(prove: Callable[..., Proven]) -> None:
    # Behind a probe that is not dangerous, and behind one that passed.
    proven = prove(leaves(0, failing(FREE)), finishes, leaves(1, made(ALONE[1])), finishes)
    for cell in (FREE, ALONE[1]):
        found = proven.finding(cell)
        assert (found.failed, found.broken) == (1, True)
        assert "ended before its last case, with exit code 0" in (found.detail or "")


def test_what_breaks_behind_the_last_cell_is_said_and_no_probe_s_fault(
    prove: Callable[..., Proven], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise_module, "EXIT_S", 0.0)
    proven = prove(stays, finishes)
    assert not proven.finding(TOGETHER[-1]).broken
    (note,) = proven.proof.notes
    assert note.startswith("After its last probe rank ")
    assert "hung in exit for 0 s" in note


def test_ranks_that_do_not_get_past_set_up_end_the_proof(prove: Callable[..., Proven]) -> None:
    with pytest.raises(SetupError, match=r"did not get past set-up: rank 1 on .* ValueError: broken"):
        prove(finishes, crashes(-1))
