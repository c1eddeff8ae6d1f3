"""Which arms share their processes, and which need some of their own. No torch.

A run is one launch. As a rule all its arms share one process for each rank, and their pairs are of one process. An arm
with environment variables of its own, or one that does not load beside another, has a process for each rank to itself:
a second world of as many ranks, on the same devices, which takes turns with the first. Its pairs are then across
processes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from nccl_bench.config.run import RunConfig
from nccl_bench.config.user_arms import of_arm


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSet:
    """A process for each rank: its ``arms``, twins included, and the ``variables`` of its environment alone.

    ``reason`` says why it is not the first, and is ``None`` for that.
    """

    arms: tuple[str, ...]
    variables: Mapping[str, str]
    reason: str | None

    def to_mapping(self) -> dict[str, object]:
        """Return the process set as ``run.json`` has it."""
        return {"arms": list(self.arms), "variables": dict(self.variables), "reason": self.reason}


def process_sets_of(
    config: RunConfig, *, excluded: Collection[str] = (), apart: Mapping[str, str] = MappingProxyType({})
) -> tuple[ProcessSet, ...]:
    """Return the process sets of a launch without the arms ``excluded``.

    ``apart`` maps an arm that cannot share its processes to the reason.
    """
    arms: dict[tuple[str, tuple[tuple[str, str], ...]], list[str]] = {}
    for name in config.measured_arms:
        user_arm = of_arm(config.user_arms, name)
        if user_arm is None:
            arms.setdefault(("", ()), []).append(name)
        elif user_arm.name not in excluded:
            alone = user_arm.name if user_arm.name in apart else ""
            arms.setdefault((alone, tuple(sorted(user_arm.variables.items()))), []).append(name)
    return tuple(
        ProcessSet(
            arms=tuple(names),
            variables=dict(variables),
            reason=_reason(apart.get(alone), variables) if number else None,
        )
        for number, ((alone, variables), names) in enumerate(arms.items())
    )


def _reason(why: str | None, variables: tuple[tuple[str, str], ...]) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in variables)
    if why is not None:
        return f"beside the others it did not get past set-up, {why}"
    return f"{settings} is for it alone" if settings else "the first arms have environments of their own"
