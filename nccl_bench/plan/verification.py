"""One proof: what to probe, in which launches of the ranks, what was found, and what follows from it. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from nccl_bench.catalog.probes import DETECTOR, PROBES, not_applicable
from nccl_bench.config.user_arms import of_arm
from nccl_bench.config.verification import VerifyConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One probe of one arm."""

    arm: str
    probe: str


def asked(config: VerifyConfig) -> list[Cell]:
    """Every cell of the table. The detector has the probes selected and those that it has to fail."""
    cells = [Cell(arm=arm, probe=probe) for arm in config.arms for probe in PROBES if probe in config.probes]
    probes = [name for name, probe in PROBES.items() if name in config.probes or probe.detects]
    return cells + [Cell(arm=DETECTOR, probe=probe) for probe in probes]


def reason_against(config: VerifyConfig, cell: Cell) -> str | None:
    """Why ``cell`` is not applicable, or ``None`` where it is."""
    return not_applicable(PROBES[cell.probe], config.arm(cell.arm), config.device_spec)


def launches(config: VerifyConfig) -> list[tuple[Cell, ...]]:
    """The applicable cells by the processes they run in: all that are harmless, then each probe that is not.

    Each communicator of somebody else's has processes of its own, where nothing else was loaded, and so has an arm with
    an environment of its own. The detector is last: there its failure ends processes that nobody needs any more.
    """
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in asked(config):
        if reason_against(config, cell) is None:
            user_arm = of_arm(config.user_arms, cell.arm)
            own = user_arm is not None and (not user_arm.ours or bool(user_arm.variables))
            key = (cell.arm if own else "", cell.probe if PROBES[cell.probe].alone else "")
            groups.setdefault(key, []).append(cell)
    probes = ["", *PROBES]
    return [tuple(groups[key]) for key in sorted(groups, key=lambda key: (probes.index(key[1]), not key[0]))]
