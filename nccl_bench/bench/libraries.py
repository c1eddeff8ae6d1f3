"""Which libnccl each arm of a run calls, for ``run.json``."""

import os
from collections.abc import Iterable, Mapping

from nccl_bench.arms.arm import Arm
from nccl_bench.bench.turns import ArmsInTurn
from nccl_bench.config.run import RunConfig
from nccl_bench.transports.nccl_library import describe_library, other_copies, unread_variables


def describe_libraries(arms: ArmsInTurn, config: RunConfig, path: str | None) -> dict[str, object]:
    """Return the facts about the libnccl files of all processes of the run. Collective.

    ``path`` is the libnccl that the transport of this process calls; ``None`` without NCCL.
    """
    own = own_libraries(arms.own) if arms.ranks.is_first else {}
    facts: dict[str, object] = {"libraries": [{"arm": name, **known} for name, known in arms.merge(own).items()]}
    if path is not None:
        variables = {*config.variables, *_variables_of(arms.own, config)}
        index = str(arms.ranks.set_index)
        # If a process has loaded two copies of NCCL, its arms do not all run the same code.
        facts["other_nccl_libraries"] = _joined(arms.merge({index: other_copies(path)}))
        facts["unread_variables"] = _joined(arms.merge({index: unread_variables(path, sorted(variables))}))
    return facts


def own_libraries(arms: Mapping[str, Arm]) -> dict[str, dict[str, object]]:
    """Return the path, the version and the hash of the libnccl of each arm, if it is known. Read each file once."""
    paths = {name: path for name, arm in arms.items() if (path := arm.communicator.library()) is not None}
    described = {file: describe_library(file) for file in {os.path.realpath(path) for path in paths.values()}}
    return {name: {**described[os.path.realpath(path)], "path": path} for name, path in paths.items()}


def _variables_of(arms: Iterable[str], config: RunConfig) -> list[str]:
    return [name for user_arm in config.user_arms if user_arm.name in arms for name in user_arm.variables]


def _joined(by_set: Mapping[str, Iterable[str]]) -> list[str]:
    return sorted({text for texts in by_set.values() for text in texts})
