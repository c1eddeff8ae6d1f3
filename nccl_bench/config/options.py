"""Options. Each option is written once: as a field, with metadata, of a configuration class. No torch.

The defaults, the keys of a TOML file, the command line and the guide's page of options are made from these fields.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cache, partial
from types import MappingProxyType
from typing import Any, get_type_hints

from nccl_bench.catalog.devices import DEVICES, DeviceSpec
from nccl_bench.config.nearest import instead_of
from nccl_bench.errors import UsageError

# A parser takes the option's name for messages, a value from TOML, JSON or the command line, and the device. It returns
# the value of the field, or raises ``UsageError``.
Parser = Callable[[str, object, DeviceSpec], object]
# Type of a field -> the type of its argument on the command line. Other types are read as text.
_ARGUMENTS: Mapping[Any, Any] = {hint: kind for kind in (int, float, bool) for hint in (kind, kind | None)}
# Name of a field -> its option as the user spelled it on the command line (``-b``, ``--begin``). Here there is none.
NO_SPELLINGS: Mapping[str, str] = MappingProxyType({})


class Panel(StrEnum):
    """The groups in which ``--help`` lists options, in this order."""

    ARMS = "Arms"
    SWEEP = "What to measure"
    METHOD = "How to measure"
    PROBES = "What to probe"
    LAUNCH = "Launching"
    OUTPUT = "Output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option of a command."""

    name: str  # the field's name, which is also the key in a TOML file and in run.json
    help: str  # what the option sets and which values it takes, without the default
    panel: Panel  # the group in --help
    parse: Parser  # the function that reads a value; it is not called for None
    flag: str  # the long spelling on the command line
    short: str | None = None  # the short spelling, the same as in nccl-tests; None if there is none
    argument: Any = str  # the type of the argument, for Typer
    default: object = None  # an unparsed value, or a function that returns an unparsed value for a device
    default_text: str | None = None  # the default in words; None if ``default`` says it
    choices: tuple[str, ...] = ()  # the names that a shell offers as values; empty if there are none
    several: bool = False  # True if a value can be several names with commas between them

    def default_for(self, device: DeviceSpec) -> object:
        """Return the unparsed default on ``device``."""
        return self.default(device) if callable(self.default) else self.default

    @property
    def flags(self) -> tuple[str, ...]:
        """All spellings on the command line, the short one first."""
        return (self.flag,) if self.short is None else (self.short, self.flag)

    @property
    def label(self) -> str:
        """The name in messages: the key, and the flag if it is spelled differently."""
        flag = self.flag.partition("/")[0]
        return self.name if flag == _flag(self.name) else f"{self.name} ({flag})"

    @property
    def shown_default(self) -> str:
        """The default as text; one text for each device if the defaults differ."""
        if self.default_text is not None:
            return self.default_text
        texts = {spec.name: _shown(self.default_for(spec)) for spec in DEVICES.values()}
        if len(set(texts.values())) == 1:
            return texts.popitem()[1]
        return ", ".join(f"{text} on {name}" for name, text in texts.items())

    @property
    def full_help(self) -> str:
        """The help with the default."""
        return f"{self.help} Default: {self.shown_default}."


def option(panel: Panel, help: str, parse: Parser, **settings: Any) -> Any:
    """Return an option as a field of a configuration class. ``settings`` are values of more fields of ``Option``.

    By default the flag is the field's name with hyphens. The argument is a number or a bool if the field is a number or
    a bool; otherwise it is a text.
    """
    return field(metadata={"panel": panel, "help": help, "parse": parse, **settings})


method_option = partial(option, Panel.METHOD)


@cache
def options_of(config: type) -> Mapping[str, Option]:
    """Return the options of a configuration class by name, in the order of its fields."""
    options = {}
    hints = get_type_hints(config)
    for each in fields(config):
        argument = _ARGUMENTS.get(hints[each.name], str)
        implied = {"name": each.name, "flag": _flag(each.name), "argument": argument}
        options[each.name] = Option(**implied | dict(each.metadata))
    return options


def parse_options(
    config: type, device: str, layers: Sequence[Mapping[str, object]], spellings: Mapping[str, str] = NO_SPELLINGS
) -> dict[str, Any]:
    """Return the parsed value of every option: from the last layer that has the option's key, or else the default.

    A key whose value is ``None`` counts as absent. ``spellings`` has the options whose values come from the command
    line. Raises ``UsageError`` for unknown keys and bad values; the message names an option as it was spelled.
    """
    values = {name: each.default_for(DEVICES[device]) for name, each in options_of(config).items()}
    for layer in layers:
        refuse_unknown_keys(layer, values, "the configuration")
        values.update({key: value for key, value in layer.items() if value is not None})
    values["device"] = device
    return {
        name: None
        if values[name] is None
        else each.parse(spellings.get(name, each.label), values[name], DEVICES[device])
        for name, each in options_of(config).items()
    }


def refuse_unknown_keys(values: Iterable[str], allowed: Iterable[str], where: str) -> None:
    """Raise ``UsageError`` for the first key that is not allowed, and suggest the nearest allowed key."""
    keys = list(allowed)
    for key in values:
        if key not in keys:
            raise UsageError(f"{where} has the unknown key {key!r}: {instead_of(key, keys)}")


def listed(names: Iterable[str]) -> str:
    """Return ``names`` as one comma-separated text."""
    return ", ".join(map(str, names))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _shown(value: object) -> str:
    if value in (None, (), {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
