"""Parsers of single values. Each raises ``UsageError`` with the option, the value and the values allowed. No torch."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from nccl_bench.catalog.devices import DeviceSpec
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.nearest import instead_of
from nccl_bench.config.options import Panel, Parser, listed, option
from nccl_bench.errors import UsageError

_Name = TypeVar("_Name", bound=str)

# The form of the names of runs and user arms.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_RULE = "use up to 64 letters, digits, '.', '_' and '-', and begin with a letter or digit"
# The largest integer in TOML.
_MOST = 2**63 - 1
# The longest time limit, one year in seconds. Added to the time of any clock, it does not overflow.
_MOST_S = 366 * 86400


def integer(least: int) -> Parser:
    """Return a parser of whole numbers that are at least ``least``."""

    def parse(name: str, value: object, _device: DeviceSpec) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST:
            raise UsageError(f"{name} is {value!r}: give a whole number from {least} to 2^63 - 1")
        return value

    return parse


def seconds(name: str, value: object, _device: DeviceSpec) -> float:
    """Return a time limit in seconds."""
    return time_limit(name, value)


def time_limit(name: str, value: object) -> float:
    """Return a time limit in seconds, for an option of a command without a device."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MOST_S:
        raise UsageError(f"{name} is {value!r}: give a number of seconds above 0, and at most {_MOST_S}")
    return float(value)


def boolean(name: str, value: object, _device: DeviceSpec) -> bool:
    """Return a bool; 1 counts as true, and 0 as false."""
    if value not in (True, False):
        raise UsageError(f"{name} is {value!r}: give true or false, or 1 or 0")
    return bool(value)


def boolean_unless(missing: Callable[[DeviceSpec], str]) -> Parser:
    """Return a parser of a bool that refuses true on a device for which ``missing`` returns a reason."""

    def parse(name: str, value: object, device: DeviceSpec) -> bool:
        wanted, reason = boolean(name, value, device), missing(device)
        if wanted and reason:
            raise UsageError(f"{name} is asked for on the device {device.name}: {reason}: leave it out")
        return wanted

    return parse


def parse_timings(name: str, value: object, _device: DeviceSpec) -> tuple[Timing, ...]:
    """Return the timings in the order in which they are measured."""
    names = names_of(name, value, Timing)
    return tuple(timing for timing in Timing if timing in names)


def one_of(name: str, value: object, allowed: Iterable[_Name]) -> _Name:
    """Return the member of ``allowed`` that equals ``value``; raise ``UsageError`` if no member does."""
    names = list(allowed)
    for each in names:
        if value == each:
            return each
    raise UsageError(f"{name} is {value!r}: {instead_of(value, names)}")


def choice(allowed: Iterable[str]) -> Parser:
    """Return a parser that accepts one of ``allowed``."""
    return lambda name, value, _device: one_of(name, value, allowed)


def choices_option(
    panel: Panel, allowed: Iterable[str], aliases: Mapping[str, str] | None = None, **settings: Any
) -> Any:
    """Return an option that takes one or more of ``allowed``. If ``allowed`` is an enum, the values are its members."""
    members = {str(each): each for each in allowed}

    def parse(name: str, value: object, _device: DeviceSpec) -> tuple[str, ...]:
        return tuple(members[each] for each in names_of(name, value, members, aliases))

    text = f"One or more of {listed(members)}, comma-separated; or all."
    return option(panel, text, parse, choices=(*members, "all"), several=True, **settings)


def names_of(
    name: str,
    value: object,
    allowed: Iterable[str],
    aliases: Mapping[str, str] | None = None,
    everything: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """Return the names in a list or a comma-separated text, each once.

    ``all`` stands for ``everything``. If ``everything`` is None, ``all`` stands for every allowed name.
    """
    known = [str(each) for each in allowed]
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise UsageError(f"{name} is {value!r}: give one or more of {listed(known)}")
    names: list[str] = []
    for part in parts:
        given = part.strip() if isinstance(part, str) else part
        if given == "all":
            names.extend(known if everything is None else everything)
            continue
        if aliases and isinstance(given, str):
            given = aliases.get(given, given)
        if given not in known:
            raise UsageError(f"{name} has {part!r}: {instead_of(given, known, aliases or ())}")
        names.append(str(given))
    if not names:
        raise UsageError(f"{name} is empty: give one or more of {listed(known)}")
    return tuple(dict.fromkeys(names))


def unparsed(_name: str, value: object, _device: DeviceSpec) -> object:
    """Return ``value`` unchanged: a later check looks at this option together with others."""
    return value


def run_name(_name: str, value: object, _device: DeviceSpec) -> str:
    """Return the name of a run, which is also part of the name of its directory."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise UsageError(f"the name is {value!r}: {NAME_RULE}")
    return value
