"""One proof: what to probe, in which launches of the ranks, what was found, and what follows from it. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from nccl_bench.catalog.devices import DeviceSpec
from nccl_bench.catalog.probes import DETECTOR, PROBES, blind_places
from nccl_bench.config.verification import VerifyConfig
from nccl_bench.errors import ExitCode
from nccl_bench.plan.verification import ArmProbe, list_arm_probes, reason_not_applicable
from nccl_bench.verify.findings import Finding


class ProbeStatus(StrEnum):
    """What a cell shows."""

    PASS = "pass"
    FAIL = "FAIL"
    NOT_APPLICABLE = "not applicable"
    CAUGHT = "caught"  # the detector failed, as it has to
    MISSED = "missed"  # the detector passed a probe that it need not fail
    BROKEN = "broken"  # the detector hung or crashed in such a probe, which says nothing about it
    BLIND = "BLIND"  # the detector passed, or broke, where it has to fail
    ERROR = "error"  # the arm could not be made
    UNVERIFIED = "unverified"  # passed, but by a blind detector's word


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A cell with its status; ``reason`` says why it is not applicable."""

    arm: str
    probe: str
    status: ProbeStatus
    reason: str | None = None
    finding: Finding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Every judgement, arm by arm, the detector's last; ``notes`` say what went wrong outside of any probe.

    ``gpus`` is how many the ranks have, ``None`` where that is not known; with fewer than ranks they share.
    """

    device: str
    world_size: int
    judgements: tuple[Judgement, ...]
    notes: tuple[str, ...] = ()
    gpus: int | None = None

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms, in order."""
        return tuple(dict.fromkeys(judgement.arm for judgement in self.judgements))

    @property
    def probes(self) -> tuple[str, ...]:
        """The probes, in the catalog's order."""
        return tuple(name for name in PROBES if any(judgement.probe == name for judgement in self.judgements))

    @property
    def blind(self) -> bool:
        """Whether the detector passed where it has to fail, so that nothing is proven."""
        return any(judgement.status is ProbeStatus.BLIND for judgement in self.judgements)

    @property
    def exit_code(self) -> ExitCode:
        """A blind detector's code before a failed probe's, since it makes every other word worthless."""
        if self.blind:
            return ExitCode.BLIND_DETECTOR
        seen = {judgement.status for judgement in self.judgements}
        return (
            ExitCode.RACE if ProbeStatus.FAIL in seen else ExitCode.SETUP if ProbeStatus.ERROR in seen else ExitCode.OK
        )


def judge(
    config: VerifyConfig, world_size: int, findings: Iterable[Finding], notes: Sequence[str] = ()
) -> Verification:
    """What follows from ``findings``, one for every applicable cell."""
    by_cell = {finding.arm_probe: finding for finding in findings}
    judgements = [
        _judge(cell, config.device_spec, reason_not_applicable(config, cell), by_cell)
        for cell in list_arm_probes(config)
    ]
    proof = Verification(device=config.device, world_size=world_size, judgements=tuple(judgements), notes=tuple(notes))
    if not proof.blind:
        return proof
    unproven = (
        replace(judgement, status=ProbeStatus.UNVERIFIED) if judgement.status is ProbeStatus.PASS else judgement
        for judgement in judgements
    )
    return replace(proof, judgements=tuple(unproven))


def _judge(cell: ArmProbe, device: DeviceSpec, reason: str | None, findings: Mapping[ArmProbe, Finding]) -> Judgement:
    if reason is not None:
        return Judgement(arm=cell.arm, probe=cell.probe, status=ProbeStatus.NOT_APPLICABLE, reason=reason)
    finding = findings[cell]
    if not finding.trials:
        reason = finding.detail or "it has none of the collectives that this probe tries"
        return Judgement(arm=cell.arm, probe=cell.probe, status=ProbeStatus.NOT_APPLICABLE, reason=reason)
    if finding.unmade:
        status = ProbeStatus.ERROR
    elif cell.arm != DETECTOR:
        status = ProbeStatus.FAIL if finding.failed else ProbeStatus.PASS
    elif PROBES[cell.probe].detects:
        # Neither a crash nor a result that is wrong whatever its order is the sight of a race.
        unseen = set(finding.quiet) - blind_places(PROBES[cell.probe], device)
        status = ProbeStatus.CAUGHT if finding.raced and not unseen and not finding.broken else ProbeStatus.BLIND
    elif finding.broken and not PROBES[cell.probe].alone:
        status = ProbeStatus.BROKEN
    else:
        status = ProbeStatus.CAUGHT if finding.failed else ProbeStatus.MISSED
    return Judgement(arm=cell.arm, probe=cell.probe, status=status, finding=finding)
