"""The options of scenarios: their values, their defaults, and the refusal of options that a scenario does not read."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from nccl_bench.catalog.devices import DeviceSpec
from nccl_bench.catalog.scenarios import SCENARIO_OPTIONS, SCENARIOS, readers_of
from nccl_bench.config.options import Option, Panel, listed, option
from nccl_bench.config.sizes import parse_sizes
from nccl_bench.errors import UsageError

# The most of any number below. A record holds numbers up to this one.
_MOST = 1_000_000
# The values of an option that ask for nothing.
_NOTHING: tuple[object, ...] = (None, False)
# Name of an option -> its value in a scenario that does not read it; ``None`` for other options.
_UNREAD: Mapping[str, object] = {"per_iteration": False}


def _numbers(name: str, value: object, _device: DeviceSpec) -> tuple[int, ...]:
    """Return whole numbers, which are written like message sizes."""
    numbers = parse_sizes(name, [value] if isinstance(value, int) else value)
    if max(numbers) > _MOST:
        raise UsageError(f"{name} has {max(numbers)}: give whole numbers of at most {_MOST:,}")
    return numbers


def numbers_option(name: str, help: str) -> Any:
    """Return the option ``name`` with one or more numbers; a device has its default in a field of that name."""
    text = f"{help}, as a sweep (1:512:x2) or a list (1,32,512). Only with --scenario {listed(readers_of(name))}."
    return option(Panel.SWEEP, text, _numbers, default=partial(_default, name))


def _default(name: str, device: DeviceSpec) -> str:
    text: str = getattr(device, name)
    return text


def given_options(layers: Collection[Mapping[str, object]]) -> frozenset[str]:
    """Return the options that ``layers`` give a value that asks for something."""
    return frozenset(name for layer in layers for name, value in layer.items() if value not in _NOTHING)


def settle(
    values: dict[str, Any], given: Collection[str], options: Mapping[str, Option], spellings: Mapping[str, str]
) -> None:
    """Remove from ``values`` what the scenario does not read, and choose its timings if none are ``given``.

    Raises ``UsageError`` if an option is given that the scenario does not read.
    """
    scenario = values["scenario"]
    spec = SCENARIOS[scenario]
    for name in SCENARIO_OPTIONS:
        if name in spec.options:
            continue
        if name in given:
            raise UsageError(
                f"{spellings.get(name, options[name].label)} is given, and the scenario {scenario} does not read it: "
                f"leave it out, or choose another --scenario ({listed(readers_of(name))})"
            )
        values[name] = _UNREAD.get(name)
    if "timings" not in given:
        values["timings"] = tuple(timing for timing in values["timings"] if timing in spec.timings)
