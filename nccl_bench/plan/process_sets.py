"""The process sets of a launch: which arms share their processes, and which have processes of their own.

Most runs have one process set: all arms share one process for each rank. Arms share a process set if they use the same
interpreter and the same libnccl, and set the same environment variables. An arm whose set-up fails beside other arms
gets a process set of its own. The process sets use the same devices and take turns. The comparison of arms includes
arms of different process sets.

If there are several process sets, the twin of the baseline gets a process set of its own. The noise floor then contains
what differs between processes. Like every arm that is compared across processes, the twin then begins its batches after
a change of processes.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Self

from nccl_bench.catalog.arms import TWIN_SUFFIX
from nccl_bench.config.run import RunConfig
from nccl_bench.config.user_arms import UserArm, user_arm_of
from nccl_bench.config.variables import read_at_start
from nccl_bench.safety.secrets import recordable


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSet:
    """The processes, one for each rank, that a group of arms shares."""

    arms: tuple[str, ...]  # the names of the arms, the twin included
    python: str | None = None  # the interpreter that runs these processes; None for the interpreter of nccl-bench
    library: str | None = None  # the path of the libnccl of these processes; None for the libnccl of the run
    variables: Mapping[str, str]  # the environment variables that only these processes get
    reason: str | None  # the reason why the arms are not in the first process set; None for the first

    def to_mapping(self) -> dict[str, object]:
        """Return the process set in the form of ``run.json``."""
        return {
            "arms": list(self.arms),
            "python": self.python,
            "library": self.library,
            "variables": recordable(self.variables),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """The properties that arms must have in common to share a process set."""

    alone: str = ""  # the name of the arm, if it cannot share processes with other arms
    twin: bool = False  # True for the twin of the baseline, if there are several process sets
    python: str | None = None
    library: str | None = None
    variables: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, user_arm: UserArm | None, apart: Collection[str]) -> Self:
        """Return the properties of ``user_arm``; ``None`` stands for a built-in arm."""
        if user_arm is None:
            return cls()
        return cls(
            alone=user_arm.name if user_arm.name in apart else "",
            python=user_arm.python,
            library=user_arm.library,
            variables=tuple(sorted(user_arm.variables.items())),
        )

    def reasons(self) -> Iterator[str]:
        """Yield each reason why these processes differ from those of the command."""
        if self.python is not None:
            yield f"{self.python} runs these processes"
        if self.library is not None:
            yield f"only these processes load {self.library}, so they are started afresh and not forked"
        if self.variables:
            settings = ", ".join(f"{name}={value}" for name, value in recordable(dict(self.variables)).items())
            reason = f"{settings} is set only in these processes"
            early = read_at_start(dict(self.variables)) if self.python is None else ()
            if early:
                reason += f", which are started afresh and not forked, so that {', '.join(early)} has an effect"
            yield reason


def process_sets_of(
    config: RunConfig, *, excluded: Collection[str] = (), apart: Mapping[str, str] = MappingProxyType({})
) -> tuple[ProcessSet, ...]:
    """Return the process sets of a launch without the arms ``excluded`` and their twins.

    ``apart`` maps an arm to the reason why it cannot share processes with other arms.
    """
    shared_by = {
        name: _Shared.of(user_arm_of(config.user_arms, name), apart)
        for name in config.measured_arms
        if name.removesuffix(TWIN_SUFFIX) not in excluded
    }
    several = len(set(shared_by.values())) > 1
    arms: dict[_Shared, list[str]] = {}
    for name, shared in shared_by.items():
        twin = several and name.endswith(TWIN_SUFFIX)
        arms.setdefault(replace(shared, twin=twin), []).append(name)
    sets: list[ProcessSet] = []
    for shared, names in arms.items():
        reason = None
        if shared.twin:
            reason = "so that the noise floor contains what differs between processes"
        elif sets and shared.alone:
            reason = f"the arm's set-up failed beside other arms: {apart[shared.alone]}"
        elif sets:
            reason = "; ".join(shared.reasons()) or "the earlier process sets have settings of their own"
        sets.append(
            ProcessSet(
                arms=tuple(names),
                python=shared.python,
                library=shared.library,
                variables=dict(shared.variables),
                reason=reason,
            )
        )
    return tuple(sets)
