"""The probes that a verification runs on each arm, and the launches that run them. Imports no torch."""

from dataclasses import dataclass

from nccl_bench.catalog.probes import DETECTOR, PROBES, not_applicable
from nccl_bench.config.user_arms import user_arm_of
from nccl_bench.config.verification import VerifyConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmProbe:
    """A probe of one arm, which is one entry of the printed table."""

    arm: str  # the arm's name
    probe: str  # the probe's name


def list_arm_probes(config: VerifyConfig) -> list[ArmProbe]:
    """Return each selected probe of each selected arm, then the probes of the detector.

    The detector gets all selected probes and all experiments that it must fail.
    """
    probes = [
        name for name, probe in PROBES.items() if name in config.probes or (probe.detects and not probe.by_construction)
    ]
    return [
        *(ArmProbe(arm=arm, probe=probe) for arm in config.arms for probe in PROBES if probe in config.probes),
        *(ArmProbe(arm=DETECTOR, probe=probe) for probe in probes),
    ]


def reason_not_applicable(config: VerifyConfig, arm_probe: ArmProbe) -> str | None:
    """Return why the probe does not apply to the arm; ``None`` if the probe applies."""
    return not_applicable(PROBES[arm_probe.probe], config.arm(arm_probe.arm), config.device_spec)


def group_by_launch(config: VerifyConfig) -> list[tuple[ArmProbe, ...]]:
    """Return the arm probes that apply, one group for each launch. The last launch is shared by arms.

    A user arm has its own launch, so that no other arm's code is loaded beside it. An arm with its own environment
    variables, interpreter or libnccl has its own launch too. In the shared launch the detector is last: its failure
    ends the processes.
    """
    groups: dict[str, list[ArmProbe]] = {}
    for arm_probe in list_arm_probes(config):
        if reason_not_applicable(config, arm_probe) is None:
            user_arm = user_arm_of(config.user_arms, arm_probe.arm)
            alone = user_arm is not None and (not user_arm.built_in or bool(user_arm.process_settings))
            groups.setdefault(arm_probe.arm if alone else "", []).append(arm_probe)
    shared = groups.pop("")
    return [*map(tuple, groups.values()), tuple(shared)]
