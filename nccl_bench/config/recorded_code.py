"""Code that a record names. A resume runs this code, and the record can come from another person. No torch."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nccl_bench.config.common import CommonConfig
from nccl_bench.config.user_arms import UserArm
from nccl_bench.errors import UsageError

OPTION = "--allow-recorded-code"
# Variables with these names make no program load a file, if no value is a path. Others can: LD_PRELOAD, PYTHONPATH.
_HARMLESS_NAME = re.compile(r"(NCCL|TORCH|CUDA)_\w+")


def refuse_recorded_code(directory: Path, config: CommonConfig, given: Mapping[str, Any]) -> None:
    """Raise ``UsageError`` if the record in ``directory`` names code.

    ``config`` is the recorded configuration after the options in ``given`` replaced the recorded ones. What the
    user gave is no code of the record.
    """
    variables = getattr(config, "variables", {})
    code = list(_naming_variables(variables, given.get("variables") or ()))
    if config.nccl_library:
        code.append(f"the library {config.nccl_library}")
    given_arms = [arm.name for arm in given.get("user_arms") or ()]
    code += [text for arm in config.user_arms if arm.name not in given_arms for text in _code_of(arm)]
    if code:
        raise UsageError(
            f"the record {directory} names code, which --resume would run: {'; '.join(code)}. Another person can "
            f"have written these names. If they are yours, add {OPTION}"
        )


def _code_of(arm: UserArm) -> Iterator[str]:
    """Yield a text if the processes of ``arm`` would load or run what a record names."""
    named = {"": None if arm.built_in else arm.target, "tree": arm.tree, "python": arm.python, "library": arm.library}
    texts = [f"{key} {value}".strip() for key, value in named.items() if value is not None]
    if texts := [*texts, *_naming_variables(arm.variables, ())]:
        yield f"the arm {arm.name}: {', '.join(texts)}"


def _naming_variables(variables: Mapping[str, str], given: Iterable[str]) -> Iterator[str]:
    """Yield the variables that can make a process load a file, without the variables ``given``."""
    for name, value in variables.items():
        if name not in given and ("/" in value or not _HARMLESS_NAME.fullmatch(name)):
            yield f"{name}={value}"
