"""Describes the libnccl of each arm of a run, for ``run.json``."""

import os
from collections.abc import Iterable, Mapping, Sequence

from nccl_bench.bench.turns import ArmsInTurn
from nccl_bench.config.run import RunConfig
from nccl_bench.transports.nccl_library import describe_library, unread_variables


def describe_libraries(arms: ArmsInTurn, config: RunConfig, path: str | None) -> dict[str, object]:
    """Return the facts about the libnccl files of all processes of the run. Collective.

    ``path`` is the libnccl that the transport of this process calls; ``None`` without NCCL.
    """
    called = {name: paths for name, arm in arms.own.items() if (paths := arm.communicator.libraries())}
    known = arms.merge(_described(called) if arms.ranks.is_first else {})
    facts: dict[str, object] = {"libraries": [{"arm": name, **library} for name, library in known.items()]}
    if path is not None:
        variables = {*config.variables, *_variables_of(arms.own, config)}
        index = str(arms.ranks.set_index)
        # torch loads its own libnccl even if another libnccl is preloaded. Only a file that an arm calls matters.
        every = [each for paths in called.values() for each in paths]
        second = [each for each in every if os.path.realpath(each) != os.path.realpath(path)]
        facts["other_nccl_libraries"] = _joined(arms.merge({index: second}))
        facts["unread_variables"] = _joined(arms.merge({index: unread_variables(path, sorted(variables))}))
    return facts


def _described(called: Mapping[str, Sequence[str]]) -> dict[str, dict[str, object]]:
    """Return the path, the version and the hash of the most important libnccl of each arm. Read each file once."""
    described = {file: describe_library(file) for file in {os.path.realpath(paths[0]) for paths in called.values()}}
    return {name: {**described[os.path.realpath(paths[0])], "path": paths[0]} for name, paths in called.items()}


def _variables_of(arms: Iterable[str], config: RunConfig) -> list[str]:
    return [name for user_arm in config.user_arms if user_arm.name in arms for name in user_arm.variables]


def _joined(by_set: Mapping[str, Iterable[str]]) -> list[str]:
    return sorted({text for texts in by_set.values() for text in texts})
