"""Removes the values that today's records do not hold from a record that an older version wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from nccl_bench.config.hidden_values import recordable_command, recordable_config
from nccl_bench.records.schema import Crash, Entry, Hang, Skipped
from nccl_bench.safety.secrets import SET, recordable_settings, recordable_value, without_credentials


def redact(meta: dict[str, Any]) -> dict[str, Any]:
    """Return ``meta``, the content of ``run.json`` or ``verification.json``, without values that may be secret.

    The types of fields that no report reads are unknown, so only texts are looked at.
    """
    config = meta["config"]
    given = [_texts(config.get("variables")), *(_texts(arm.get("variables")) for arm in config.get("user_arms") or ())]
    hidden = {
        value
        for variables in given
        for name, value in variables.items()
        if recordable_value(name, value) == SET != value
    }

    def replaced(text: str) -> str:
        for value in sorted(hidden, key=len, reverse=True):
            text = text.replace(value, SET)
        return without_credentials(text)

    environment = dict(meta["environment"])
    if isinstance(environment.get("variables"), Mapping):
        environment["variables"] = _recorded(environment["variables"])
    if isinstance(environment.get("nccl_conf"), Mapping):
        environment["nccl_conf"] = {file: _recorded(each) for file, each in environment["nccl_conf"].items()}
    changes: dict[str, Any] = {"environment": environment, "config": recordable_config(config)}
    command = meta.get("command")
    if isinstance(command, list | tuple) and all(isinstance(word, str) for word in command):
        changes["command"] = recordable_command(command)
    if "worker" in meta:
        changes["worker"] = map_texts(meta["worker"], replaced)
    cleaned: dict[str, Any] = map_texts(meta | changes, without_credentials)
    return cleaned


def redact_line(line: Entry) -> Entry:
    """Return ``line`` without texts that look like credentials, where the user's code can write texts."""
    if isinstance(line, Crash):
        return replace(line, message=without_credentials(line.message))
    if isinstance(line, Skipped):
        # A run can have a million skipped cases with few different reasons, and `_clean_reason` remembers its results.
        reason = _clean_reason(line.reason)
        return line if reason == line.reason else replace(line, reason=reason)
    if isinstance(line, Hang):
        call = None if line.call is None else without_credentials(line.call)
        return replace(line, call=call, ras=map_texts(line.ras, without_credentials))
    return line


_clean_reason = lru_cache(maxsize=1000)(without_credentials)


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return plain data with ``change`` applied to every text in it, but not to keys."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: map_texts(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [map_texts(item, change) for item in value]
    return value


def _texts(variables: object) -> dict[str, str]:
    items = variables.items() if isinstance(variables, Mapping) else ()
    return {name: value for name, value in items if isinstance(name, str) and isinstance(value, str)}


def _recorded(variables: object) -> object:
    if not isinstance(variables, Mapping):
        return variables
    texts = _texts(variables)
    return {**{name: value for name, value in variables.items() if name not in texts}, **recordable_settings(texts)}
