"""A verification over scripted launches that finish, hang, crash or leave. No process is started."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.catalog.probes import DETECTOR
from nccl_bench.config.verification import VerifyConfig, resolve_verification
from nccl_bench.errors import ExitCode, InterruptedRunError, SetupError
from nccl_bench.launch import supervise as supervise_module
from nccl_bench.launch import verification as verification_module
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.launch.verification import run_verification
from nccl_bench.plan.verification import ArmProbe, group_by_launch
from nccl_bench.ranks.failure import Failure
from nccl_bench.ranks.progress import Position, Progress
from nccl_bench.verify.findings import Finding, append_finding, find_given_up_arms, parse_notes, read_findings
from nccl_bench.verify.judgement import Judgement, ProbeStatus, Verification, judge
from nccl_bench.verify.spec import VerificationSpec

# An arm with variables has processes of its own.
CONFIG: VerifyConfig = resolve_verification(
    "cuda",
    {
        "arms": "stream-free,torch",
        "user_arms": [{"name": "own", "target": "torch", "variables": {"NCCL_ALGO": "Ring"}}],
        "probes": "producer,capture",
        "timeout_s": 9.0,
    },
)
ALONE, TOGETHER = group_by_launch(CONFIG)
FREE, FREE_CAPTURE, TORCH = TOGETHER[:3]
# The work of a launch from the first arm probe on. It returns the exit code, or None if the launch still runs.
Act = Callable[[VerificationSpec], int | None]


def normal_finding(cell: ArmProbe) -> Finding:
    """Return a finding that passes, or for the detector one that fails."""
    failed = 7 * (cell.arm == DETECTOR)
    detail = "late" if failed else None
    return Finding(arm=cell.arm, probe=cell.probe, trials=8, failed=failed, raced=failed, detail=detail)


def ranks(spec: VerificationSpec, index: int, deadline_s: float = 60) -> list[Progress]:
    """Return both ranks in the arm probe at ``index``, after the findings of those before it."""
    for cell in spec.arm_probes[spec.first : max(index, 0)]:
        append_finding(Path(spec.findings), normal_finding(cell))
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
    """End all ranks with exit code 0 after a finding."""

    def act(spec: VerificationSpec) -> int | None:
        ranks(spec, index)
        append_finding(Path(spec.findings), finding)
        return 0

    return act


@dataclass
class Scripted:
    """A stand-in for ``Agent`` and its ``Job``: launch number n does act number n."""

    acts: Sequence[Act]
    scratch: Path
    specs: list[VerificationSpec] = field(default_factory=list)
    exit_code: int | None = None

    def start(self, launch: LaunchConfig, spec: Any) -> Scripted:
        assert launch.nproc == 2
        self.specs.append(spec)
        self.exit_code = self.acts[len(self.specs) - 1](spec)
        return self

    def poll(self) -> int | None:
        return self.exit_code

    def wait(self, limit_s: float) -> None:
        """Return immediately: an act ends before its launch starts."""

    def stop(self) -> None:
        """There is no process."""

    @property
    def started(self) -> list[tuple[tuple[ArmProbe, ...], int]]:
        return [(spec.arm_probes, spec.first) for spec in self.specs]


@dataclass(frozen=True)
class Verified:
    verification: Verification
    scripted: Scripted
    seen: list[list[Position]]

    def of(self, cell: ArmProbe) -> Judgement:
        (judgement,) = (j for j in self.verification.judgements if (j.arm, j.probe) == (cell.arm, cell.probe))
        return judgement

    def finding(self, cell: ArmProbe) -> Finding:
        finding = self.of(cell).finding
        assert finding is not None
        return finding


@pytest.fixture
def verify(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Verified]:
    monkeypatch.setattr(supervise_module, "POLL_S", 0.001)

    def run(*acts: Act, config: VerifyConfig = CONFIG) -> Verified:
        scripted, seen, path = Scripted(acts, tmp_path), list[list[Position]](), tmp_path / "findings"
        path.touch()
        run_verification(config, LaunchConfig(nproc=2), scripted, path, on_progress=seen.append)
        assert len(scripted.specs) == len(acts)
        notes = parse_notes(path.read_text(encoding="utf-8"), path)
        return Verified(judge(config, 2, read_findings(path), notes), scripted, seen)

    return run


def test_without_failures_every_group_of_arm_probes_is_one_launch(verify: Callable[..., Verified]) -> None:
    verified = verify(finishes, finishes)
    assert verified.scripted.started == [(ALONE, 0), (TOGETHER, 0)]
    assert len({spec.findings for spec in verified.scripted.specs}) == 1
    assert verified.verification.world_size == 2
    for cell in (*TOGETHER, *ALONE):
        assert verified.finding(cell) == normal_finding(cell)
    assert {j.status for j in verified.verification.judgements} == {ProbeStatus.PASS, ProbeStatus.CAUGHT}


def test_positions_count_the_arm_probes_of_all_launches(verify: Callable[..., Verified]) -> None:
    verified = verify(hangs(0), finishes, finishes)
    indices = list(dict.fromkeys(position.case_index for positions in verified.seen for position in positions))
    assert indices == [0, len(ALONE), len(ALONE) + len(TOGETHER)]


def test_a_hang_is_a_failed_probe_and_the_next_launch_does_the_rest(verify: Callable[..., Verified]) -> None:
    verified = verify(finishes, hangs(2), finishes)
    assert verified.scripted.started == [(ALONE, 0), (TOGETHER, 0), (TOGETHER, 3)]
    host = verified.seen[0][0].host
    assert verified.finding(TORCH) == Finding(
        arm="torch",
        probe="producer",
        trials=1,
        failed=1,
        detail=f"rank 0 on {host} hung in producer all_reduce for -1 s",
        broken=True,
    )
    failed = [(j.arm, j.probe) for j in verified.verification.judgements if j.status is ProbeStatus.FAIL]
    assert failed == [("torch", "producer")]
    assert not verified.verification.blind


def test_a_crash_is_a_failed_probe_with_the_error_that_ended_it(verify: Callable[..., Verified]) -> None:
    verified = verify(finishes, crashes(0), crashes(2), finishes)
    assert verified.scripted.started == [(ALONE, 0), (TOGETHER, 0), (TOGETHER, 1), (TOGETHER, 3)]
    for cell in (FREE, TORCH):
        finding = verified.finding(cell)
        assert (finding.trials, finding.failed, finding.broken) == (1, 1, True)
        assert (finding.detail or "").endswith("ended with exit code 3: ValueError: broken")
        assert verified.of(cell).status is ProbeStatus.FAIL


def test_a_crash_after_a_finding_replaces_it(verify: Callable[..., Verified]) -> None:
    verified = verify(finishes, crashes(2, normal_finding(TORCH)), finishes)
    finding = verified.finding(TORCH)
    assert (finding.trials, finding.failed, finding.broken) == (1, 1, True)
    assert "ValueError: broken" in (finding.detail or "")


def test_every_launch_can_read_the_breaks_of_earlier_launches(verify: Callable[..., Verified]) -> None:
    config = replace(CONFIG, arms=("torch",), probes=("producer", "state", "capture"))
    given_up: list[frozenset[str]] = []

    def noting(act: Act) -> Act:
        def noted(spec: VerificationSpec) -> int | None:
            given_up.append(frozenset(find_given_up_arms(read_findings(Path(spec.findings)))))
            return act(spec)

        return noted

    verified = verify(*map(noting, (crashes(0), hangs(1), crashes(2), finishes)), config=config)
    assert given_up == [frozenset()] * 3 + [frozenset({"torch"})]
    assert {j.probe for j in verified.verification.judgements if j.finding and j.finding.broken} == set(config.probes)


def test_an_arm_that_cannot_be_made_costs_one_launch(verify: Callable[..., Verified]) -> None:
    config = replace(CONFIG, arms=("torch",), probes=("producer", "state", "many"))
    why = Finding(
        arm="torch", probe="producer", trials=1, failed=1, detail="the arm torch: no", broken=True, unmade=True
    )
    verified = verify(crashes(0, why), finishes, config=config)
    cells, first = verified.scripted.started[1]
    assert cells[first].arm == DETECTOR
    of_torch = [j for j in verified.verification.judgements if j.arm == "torch"]
    assert [(j.probe, j.status, j.finding) for j in of_torch] == [
        (probe, ProbeStatus.ERROR, replace(why, probe=probe)) for probe in config.probes
    ]
    assert verified.verification.exit_code is ExitCode.SETUP


def failing(cell: ArmProbe) -> Finding:
    return Finding(arm=cell.arm, probe=cell.probe, trials=8, failed=3, detail="wrong")


def test_ranks_may_end_after_a_probe_failed_that_ends_processes(verify: Callable[..., Verified]) -> None:
    verified = verify(finishes, leaves(1, failing(FREE_CAPTURE)), finishes)
    assert verified.scripted.started == [(ALONE, 0), (TOGETHER, 0), (TOGETHER, 2)]
    assert verified.finding(FREE_CAPTURE) == failing(FREE_CAPTURE)
    assert verified.of(TORCH).status is ProbeStatus.PASS


def test_ranks_that_end_after_any_other_probe_have_crashed(verify: Callable[..., Verified]) -> None:
    # After a probe that ends no processes, and after one that ends them and passed.
    verified = verify(finishes, leaves(0, failing(FREE)), leaves(1, normal_finding(FREE_CAPTURE)), finishes)
    for cell in (FREE, FREE_CAPTURE):
        finding = verified.finding(cell)
        assert (finding.failed, finding.broken) == (1, True)
        assert "ended before its last case, with exit code 0" in (finding.detail or "")


def test_a_hang_after_the_last_probe_is_a_note_and_fails_no_probe(
    verify: Callable[..., Verified], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise_module, "EXIT_S", 0.0)
    verified = verify(stays, finishes)
    assert not verified.finding(ALONE[-1]).broken
    (note,) = verified.verification.notes
    assert note.startswith("After its last probe rank ")
    assert "hung in exit for 0 s" in note


def test_ranks_that_do_not_finish_their_set_up_end_the_verification(verify: Callable[..., Verified]) -> None:
    with pytest.raises(SetupError, match=r"did not finish their set-up: rank 1 on .* ValueError: broken"):
        verify(finishes, crashes(-1))


def interrupted(index: int, number: signal.Signals) -> Act:
    """Send a signal to this process while the arm probe at ``index`` runs."""

    def act(spec: VerificationSpec) -> int | None:
        ranks(spec, index)
        os.kill(os.getpid(), number)
        return None

    return act


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("launches", [0, 1])
def test_a_signal_keeps_every_finding_and_the_next_verification_runs_only_the_others(
    number: signal.Signals, launches: int, verify: Callable[..., Verified], tmp_path: Path
) -> None:
    before = (finishes,) * launches
    with pytest.raises(InterruptedRunError, match=f"interrupted by {number.name}"):
        verify(*before, interrupted(1, number))
    group, rest = ((ALONE, TOGETHER), (TOGETHER, ()))[launches]
    kept = read_findings(tmp_path / "findings")
    assert [finding.arm_probe for finding in kept] == [*ALONE[: len(ALONE) * launches], group[0]]
    resumed = verify(*(finishes,) * (2 - launches))
    assert resumed.scripted.started == [(group[1:], 0), *([(rest, 0)] if rest else [])]
    lines = (tmp_path / "findings").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(TOGETHER) + len(ALONE)
    # The positions go on where the interrupted verification stopped.
    assert resumed.seen[0][0].case_index == len(kept) + len(group) - 1
    assert resumed.verification == verify().verification
    assert resumed.verification.complete


def test_a_signal_between_two_launches_ends_the_verification(
    verify: Callable[..., Verified], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_early(*arguments: Any, **keywords: Any) -> None:
        supervise_module.supervise(*arguments, **keywords)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(verification_module, "supervise", end_early)
    with pytest.raises(InterruptedRunError, match="SIGTERM"):
        verify(finishes)
    assert len(read_findings(tmp_path / "findings")) == len(ALONE)


def test_an_arm_that_was_given_up_before_stays_given_up(verify: Callable[..., Verified], tmp_path: Path) -> None:
    config = replace(CONFIG, arms=("torch",), probes=("producer", "state", "many"))
    why = Finding.of_break(TORCH, "the arm torch: no", unmade=True)
    with pytest.raises(InterruptedRunError):
        verify(crashes(0, why), interrupted(3, signal.SIGTERM), config=config)
    resumed = verify(finishes, config=config)
    ((arm_probes, _),) = resumed.scripted.started
    assert {arm_probe.arm for arm_probe in arm_probes} == {DETECTOR}
    assert {j.status for j in resumed.verification.judgements if j.arm == "torch"} == {ProbeStatus.ERROR}
