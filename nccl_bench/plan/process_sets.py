"""The process sets of a launch: which arms share their processes, and which have processes of their own.

Most runs have one process set: all arms share one process for each rank. Arms share a process set if they set the same
environment variables. An arm whose set-up fails beside other arms gets a process set of its own. The process sets use
the same devices and take turns. The comparison of arms includes arms of different process sets.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from nccl_bench.catalog.arms import TWIN_SUFFIX
from nccl_bench.config.run import RunConfig
from nccl_bench.config.user_arms import user_arm_of
from nccl_bench.config.variables import read_at_start


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSet:
    """The processes, one for each rank, that a group of arms shares."""

    arms: tuple[str, ...]  # the names of the arms, the twin included
    variables: Mapping[str, str]  # the environment variables that only these processes get
    reason: str | None  # the reason why the arms are not in the first process set; None for the first

    def to_mapping(self) -> dict[str, object]:
        """Return the process set in the form of ``run.json``."""
        return {"arms": list(self.arms), "variables": dict(self.variables), "reason": self.reason}


def process_sets_of(
    config: RunConfig, *, excluded: Collection[str] = (), apart: Mapping[str, str] = MappingProxyType({})
) -> tuple[ProcessSet, ...]:
    """Return the process sets of a launch without the arms ``excluded`` and their twins.

    ``apart`` maps an arm to the reason why it cannot share processes with other arms.
    """
    arms: dict[tuple[str, tuple[tuple[str, str], ...]], list[str]] = {}
    for name in config.measured_arms:
        user_arm = user_arm_of(config.user_arms, name)
        if name.removesuffix(TWIN_SUFFIX) in excluded:
            continue
        if user_arm is None:
            arms.setdefault(("", ()), []).append(name)
        else:
            alone = user_arm.name if user_arm.name in apart else ""
            arms.setdefault((alone, tuple(sorted(user_arm.variables.items()))), []).append(name)
    sets: list[ProcessSet] = []
    for (alone, variables), names in arms.items():
        reason = None
        if sets and alone:
            reason = f"the arm's set-up failed beside other arms: {apart[alone]}"
        elif sets and variables:
            reason = f"{', '.join(f'{name}={value}' for name, value in variables)} is set only in these processes"
            if early := read_at_start(dict(variables)):
                reason += f", which are started afresh and not forked, so that {', '.join(early)} has an effect"
        elif sets:
            reason = "the earlier process sets have environment variables"
        sets.append(ProcessSet(arms=tuple(names), variables=dict(variables), reason=reason))
    return tuple(sets)
