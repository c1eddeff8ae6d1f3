"""The values that a record does not hold. Its command has placeholders, and --resume needs the values again."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nccl_bench.config.user_arms import arm_text, parse_user_arms, split_arm_text
from nccl_bench.errors import UsageError
from nccl_bench.safety.secrets import SET, as_typed, recordable, recordable_value, without_credentials

# Gets the name and the value of a variable, and returns a new value.
_OfVariable = Callable[[str, str], str]


def recordable_command(arguments: Sequence[str]) -> list[str]:
    """Return ``arguments`` of a command line without the values of ``--env`` and ``--arm`` that are not recorded."""
    return _with_values(arguments, recordable_value)


def command_to_type(recorded: Sequence[object]) -> list[str]:
    """Return the words of a ``recorded`` command, with placeholders for the values that are not recorded."""
    return _with_values(list(map(str, recorded)), lambda _, value: as_typed(value))


def _with_values(words: Sequence[str], of_variable: _OfVariable) -> list[str]:
    """Return the words of a command with new values of its variables, which ``of_variable`` returns."""
    changed: list[str] = []
    for word in words:
        flag, equals, value = word.partition("=")
        if changed and changed[-1] in _ASSIGNING:
            changed.append(_ASSIGNING[changed[-1]](word, of_variable))
        elif equals and flag in _ASSIGNING:
            changed.append(f"{flag}={_ASSIGNING[flag](value, of_variable)}")
        else:
            changed.append(without_credentials(word))
    return changed


def _of_env(text: str, of_variable: _OfVariable) -> str:
    name, equals, value = text.partition("=")
    return f"{name}={of_variable(name, value)}" if equals else text


def _of_arm(text: str, of_variable: _OfVariable) -> str:
    target, *options = split_arm_text(text)
    settings = (_of_env(each, of_variable) if each[:1].isupper() else without_credentials(each) for each in options)
    return ",".join((without_credentials(target), *settings))


# The options that assign values to environment variables -> the function that replaces these values.
_ASSIGNING = {"--env": _of_env, "--arm": _of_arm}


def recordable_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration as plain data, without the values of variables that are not recorded."""
    complete = dict(config)
    if isinstance(config.get("variables"), Mapping):
        complete["variables"] = recordable(config["variables"])
    if config.get("user_arms"):
        complete["user_arms"] = [
            {**arm, "variables": recordable(arm["variables"])} if isinstance(arm.get("variables"), Mapping) else arm
            for arm in config["user_arms"]
        ]
    return complete


def options_to_give_again(config: Mapping[str, Any]) -> list[str]:
    """Return options with placeholders for the values that the recorded ``config`` does not hold."""
    variables = config.get("variables") or {}
    options = [word for name in _names(variables) for word in ("--env", f"{name}={as_typed(SET)}")]
    for arm in config.get("user_arms") or ():
        if _names(arm.get("variables") or {}):
            options += ["--arm", arm_text(arm)]
    return options


def _names(variables: Mapping[str, str]) -> list[str]:
    """Return the names of the variables whose values were not recorded."""
    return [name for name, value in variables.items() if value == SET]


def give_values_again(directory: Path, config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recorded ``config``, completed with the values that only the options ``given`` have.

    Raises ``UsageError`` if a value is still missing, and for an option that the record already has.
    """
    variables = dict(config.get("variables") or {})
    for name, value in (given.get("variables") or {}).items():
        if variables.get(name) != SET:
            raise UsageError(f"--env gives {name}, and --resume continues with the options of the record: leave it out")
        variables[name] = value
    arms = {arm.name: arm for arm in parse_user_arms("user_arms", config.get("user_arms") or ())}
    for arm in parse_user_arms("--arm", given.get("user_arms") or ()):
        if not _names(arms[arm.name].variables if arm.name in arms else {}) or arms[arm.name] != replace(
            arm, variables=recordable(arm.variables)
        ):
            raise UsageError(
                f"--arm gives {arm.name}, and --resume continues with the arms of the record: leave it out, or give it "
                "as it was, with the values that the record does not hold"
            )
        arms[arm.name] = arm
    complete = {**config, "user_arms": [asdict(arm) for arm in arms.values()]}
    if "variables" in config:
        complete["variables"] = variables
    of_arms = (f"{name} of the arm {arm.name}" for arm in arms.values() for name in _names(arm.variables))
    missing = [*_names(variables), *of_arms]
    if missing:
        options = shlex.join(["--resume", str(directory), *options_to_give_again(config)])
        names = " and of ".join(missing)
        raise UsageError(
            f"{directory} does not hold the value of {names}, which may be secret: give it again, in the place of "
            f"VALUE: {options}"
        )
    return complete
