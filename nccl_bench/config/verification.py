"""The configuration of a verification. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from nccl_bench.catalog.arms import ARMS, ArmSpec
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.probes import DETECTOR, PROBES
from nccl_bench.config.common import CommonConfig, arms_option, refuse_unused_routes, resolve_arms, timeout_option
from nccl_bench.config.options import NO_SPELLINGS, Panel, parse_options
from nccl_bench.config.parsers import choices_option

# With one rank, a collective is no more than a copy, and waits for no other rank.
FEWEST_RANKS = 2


def _nameable_arms() -> list[ArmSpec]:
    # Every verification includes the detector, so users cannot name it.
    return [arm for name, arm in ARMS.items() if name != DETECTOR]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyConfig(CommonConfig):
    """The parsed options of one verification."""

    arms: tuple[str, ...] = arms_option(
        _nameable_arms(), "the arms that can run here (nccl4py if installed)", "all, or the user arms if there are any"
    )
    probes: tuple[str, ...] = choices_option(Panel.PROBES, PROBES, default="all")
    timeout_s: float = timeout_option(Panel.PROBES, "one probe of one arm", 60.0)


def resolve_verification(
    device: str, *layers: Mapping[str, object], spellings: Mapping[str, str] = NO_SPELLINGS
) -> VerifyConfig:
    """Return the configuration. Each option comes from the last of ``layers`` that has it, or else from its default.

    ``spellings`` has the options of the command line. Raises ``UsageError`` with the option, the value given and the
    values allowed.
    """
    values = parse_options(VerifyConfig, device, layers, spellings)
    user_arms = values["user_arms"]
    if values["arms"] is None and user_arms:
        values["arms"] = tuple(user_arm.name for user_arm in user_arms)
    else:
        arms = "all" if values["arms"] is None else values["arms"]
        values["arms"] = resolve_arms(
            spellings.get("arms", "arms"), arms, DEVICES[device], _nameable_arms(), user_arms, with_extras=True
        )
    refuse_unused_routes(values["routes"], values["arms"])
    return VerifyConfig(**values)
