"""The judgement of a verification: the status of every arm probe, and the exit code. Imports no torch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from nccl_bench.catalog.devices import DeviceSpec
from nccl_bench.catalog.probes import DETECTOR, PROBES, blind_places
from nccl_bench.config.verification import VerifyConfig
from nccl_bench.errors import ExitCode
from nccl_bench.plan.verification import ArmProbe, list_arm_probes, reason_not_applicable
from nccl_bench.verify.findings import Finding, Processes


class ProbeStatus(StrEnum):
    """The status of one arm probe."""

    PASS = "pass"
    FAIL = "FAIL"
    LEAKS = "leaks"  # the arm passed, but its object leaves something behind and has no method that ends it
    NOT_APPLICABLE = "not applicable"
    CAUGHT = "caught"  # the detector failed, as expected
    MISSED = "missed"  # the detector passed, but it does not need to fail this probe
    BROKEN = "broken"  # the detector hung or crashed, but it does not need to fail this probe
    BLIND = "BLIND"  # a probe that must catch the detector did not catch it
    ERROR = "error"  # the arm could not be made
    # The arm passed, but a probe is BLIND or has not run on the detector, so a pass shows nothing.
    UNVERIFIED = "unverified"
    NOT_RUN = "not run"  # the verification ended before the probe


# The statuses of an arm that is not the detector. The first status whose condition holds for the finding counts.
_STATUSES: tuple[tuple[ProbeStatus, Callable[[Finding], object]], ...] = (
    (ProbeStatus.FAIL, lambda finding: finding.failed),
    (ProbeStatus.LEAKS, lambda finding: finding.leaks),
    (ProbeStatus.PASS, lambda finding: True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The status of one arm probe."""

    arm: str  # the arm's name
    probe: str  # the probe's name
    status: ProbeStatus  # the status that the table shows
    reason: str | None = None  # the reason why the probe does not apply; None if it applies
    finding: Finding | None = None  # the finding of the probe; None if the probe does not apply or did not run


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The result of a verification."""

    device: str  # the device's name
    world_size: int  # the number of ranks
    judgements: tuple[Judgement, ...]  # the judgements, arm by arm; the detector is the last arm
    notes: tuple[str, ...] = ()  # texts about problems outside of probes
    gpus: int | None = None  # the number of GPUs, less than the world size if ranks share GPUs; None if unknown
    planned: int = 0  # the number of arm probes that apply
    history: tuple[str, ...] = ()  # sentences: how the verification ended early, and when it was continued
    resume_command: str = ""  # the command that runs the other probes; empty if there is none
    facts: Mapping[str, Any] = field(default_factory=dict)  # the facts about the command and the machine, by key
    processes: tuple[Processes, ...] = ()  # the processes with their versions; empty in records of 0.1.0

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms in the order of the judgements; the detector is last."""
        return tuple(dict.fromkeys(judgement.arm for judgement in self.judgements))

    @property
    def probes(self) -> tuple[str, ...]:
        """The probes that were judged, in the catalog's order."""
        return tuple(name for name in PROBES if any(judgement.probe == name for judgement in self.judgements))

    @property
    def blind(self) -> bool:
        """True if a probe that must catch the detector did not catch it. A pass shows nothing if a probe is blind."""
        return any(judgement.status is ProbeStatus.BLIND for judgement in self.judgements)

    @property
    def unselected(self) -> tuple[str, ...]:
        """The probes that the user did not select, in the catalog's order; the detector can run them nevertheless."""
        selected = {judgement.probe for judgement in self.judgements if judgement.arm != DETECTOR}
        return tuple(name for name in PROBES if name not in selected)

    @property
    def ran(self) -> int:
        """The number of arm probes that ran, of those that apply."""
        return self.planned - sum(judgement.status is ProbeStatus.NOT_RUN for judgement in self.judgements)

    @property
    def complete(self) -> bool:
        """True if every probe that applies ran."""
        return self.ran == self.planned

    @property
    def uncaught(self) -> tuple[str, ...]:
        """The probes that must catch the detector and have not run on it. A pass shows nothing if there are any."""
        return tuple(
            judgement.probe
            for judgement in self.judgements
            if judgement.arm == DETECTOR and judgement.status is ProbeStatus.NOT_RUN and PROBES[judgement.probe].detects
        )

    @property
    def exit_code(self) -> ExitCode:
        """The exit code. A blind detector has priority over a failed probe: all other results are then unreliable.

        A leak of an object without a method that ends it is no race, and does not change the exit code.
        An incomplete verification has the exit code of an interrupted command, whatever its probes showed.
        """
        if not self.complete:
            return ExitCode.INTERRUPTED
        statuses = {judgement.status for judgement in self.judgements}
        for status, code in (
            (ProbeStatus.BLIND, ExitCode.BLIND_DETECTOR),
            (ProbeStatus.FAIL, ExitCode.RACE),
            (ProbeStatus.ERROR, ExitCode.SETUP),
        ):
            if status in statuses:
                return code
        return ExitCode.OK


def judge(
    config: VerifyConfig, world_size: int, findings: Iterable[Finding], notes: Sequence[str] = ()
) -> Verification:
    """Judge ``findings`` and return the verification. An applicable arm probe without a finding did not run."""
    by_arm_probe = {finding.arm_probe: finding for finding in findings}
    reasons = {arm_probe: reason_not_applicable(config, arm_probe) for arm_probe in list_arm_probes(config)}
    verification = Verification(
        device=config.device,
        world_size=world_size,
        judgements=tuple(
            _judge(arm_probe, config.device_spec, reason, by_arm_probe) for arm_probe, reason in reasons.items()
        ),
        notes=tuple(notes),
        planned=list(reasons.values()).count(None),
    )
    if not (verification.blind or verification.uncaught):
        return verification
    unverified = (
        replace(judgement, status=ProbeStatus.UNVERIFIED) if judgement.status is ProbeStatus.PASS else judgement
        for judgement in verification.judgements
    )
    return replace(verification, judgements=tuple(unverified))


def _judge(
    arm_probe: ArmProbe, device: DeviceSpec, reason: str | None, findings: Mapping[ArmProbe, Finding]
) -> Judgement:
    arm, probe = arm_probe.arm, PROBES[arm_probe.probe]
    if reason is not None:
        return Judgement(arm=arm, probe=probe.name, status=ProbeStatus.NOT_APPLICABLE, reason=reason)
    finding = findings.get(arm_probe)
    if finding is None:
        return Judgement(arm=arm, probe=probe.name, status=ProbeStatus.NOT_RUN)
    if not finding.trials:
        reason = finding.detail or "the arm has none of the collectives that this probe tries"
        return Judgement(arm=arm, probe=probe.name, status=ProbeStatus.NOT_APPLICABLE, reason=reason)
    if finding.unmade:
        status = ProbeStatus.ERROR
    elif arm != DETECTOR:
        status = next(status for status, holds in _STATUSES if holds(finding))
    elif probe.detects:
        # A crash, or a result that is wrong in every order, does not count as detecting a race.
        missed = set(finding.quiet) - blind_places(probe, device)
        status = ProbeStatus.CAUGHT if finding.raced and not missed and not finding.broken else ProbeStatus.BLIND
    elif finding.broken and not probe.ends_processes:
        status = ProbeStatus.BROKEN
    else:
        status = ProbeStatus.CAUGHT if finding.failed else ProbeStatus.MISSED
    return Judgement(arm=arm, probe=probe.name, status=status, finding=finding)
