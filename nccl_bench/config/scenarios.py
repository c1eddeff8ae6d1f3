"""The options of scenarios: their values, their defaults, and the refusal of options that a scenario does not read."""

import re
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from nccl_bench.catalog.cases import Scenario
from nccl_bench.catalog.devices import DEVICES, DeviceSpec
from nccl_bench.catalog.scenarios import SCENARIO_OPTIONS, SCENARIOS, readers_of
from nccl_bench.config.options import Option, Panel, listed, option
from nccl_bench.config.sizes import parse_sizes, unique
from nccl_bench.errors import UsageError

# The largest value of the numbers below. A record can hold numbers up to this value.
_MOST = 1_000_000
DEFAULT_COLLECTIVE = "all_reduce"
_WHOLE = re.compile(r"\s*[0-9]{1,7}\s*")
# Name of an option -> its value in a scenario that does not read it; ``None`` for other options.
_UNREAD: Mapping[str, object] = {"per_iteration": False, "cost_split": False}


def _numbers(name: str, value: object, _device: DeviceSpec) -> tuple[int, ...]:
    """Return whole numbers, which are written like message sizes."""
    wrong = f"{name} is {value!r}: give whole numbers from 1 to {_MOST:,}, such as 1,32,512 or 1:512:x2"
    try:
        numbers = parse_sizes(name, [value] if isinstance(value, int) else value)
    except UsageError as error:
        # The message of `parse_sizes` is about bytes.
        raise UsageError(wrong) from error
    if max(numbers) > _MOST:
        raise UsageError(wrong)
    return numbers


def numbers_option(name: str, help: str) -> Any:
    """Return the option ``name`` with one or more numbers. Its default is the field ``name`` of the device."""
    text = f"{help}, as a sweep (1:512:x2) or a list (1,32,512). Only with --scenario {listed(readers_of(name))}."
    return option(Panel.SWEEP, text, _numbers, default=partial(_default, name))


def delays_option() -> Any:
    """Return the option with the delays of one rank."""
    text = "Times in microseconds by which one rank comes late, comma-separated; 0 is no delay."
    only = f"Only with --scenario {listed(readers_of('delays'))}."
    return option(Panel.SWEEP, f"{text} {only}", _delays, default=partial(_default, "delays"))


def _delays(name: str, value: object, _device: DeviceSpec) -> tuple[int, ...]:
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    delays = [int(part) if isinstance(part, str) and _WHOLE.fullmatch(part) else part for part in parts]
    whole = [each for each in delays if isinstance(each, int) and not isinstance(each, bool) and 0 <= each <= _MOST]
    if not whole or len(whole) < len(delays):
        raise UsageError(
            f"{name} is {value!r}: give whole numbers of microseconds from 0 to {_MOST:,}, such as 0,10,50"
        )
    return unique(whole)


def parse_streams(name: str, value: object, _device: DeviceSpec) -> tuple[int, ...]:
    """Return the numbers of streams: 1, 2 or both."""
    texts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    numbers = {str(text).strip() for text in texts}
    if not numbers or not numbers <= {"1", "2"}:
        raise UsageError(f"{name} is {value!r}: give 1, 2 or 1,2")
    return tuple(sorted(map(int, numbers)))


def _default(name: str, device: DeviceSpec) -> str:
    text: str = getattr(device, name)
    return text


def default_collectives() -> str:
    """Return the default of the option ``collectives`` in words."""
    own = [
        f"{spec.default_collective} in {scenario}" for scenario, spec in SCENARIOS.items() if spec.default_collective
    ]
    return ", ".join((DEFAULT_COLLECTIVE, *own))


def default_sizes() -> str:
    """Return the default of the option ``sizes`` in words."""
    scenarios: dict[str, list[str]] = {}
    for scenario, spec in SCENARIOS.items():
        scenarios.setdefault(spec.default_sizes, []).append(scenario)
    usual = SCENARIOS[Scenario.ISOLATED].default_sizes
    texts = [f"in {' and '.join(names)} {_of_devices(sizes)}" for sizes, names in scenarios.items() if sizes != usual]
    return "; ".join((_of_devices(usual), *texts))


def default_sweep(device: DeviceSpec, scenario: object) -> str:
    """Return the sweep whose parts ``-b``, ``-e``, ``-f`` and ``-i`` change, if the user gives no sizes.

    It is the default of the scenario with the name ``scenario``; the usual sweep if that default is a list of sizes.
    """
    of_scenario = (getattr(device, spec.default_sizes) for name, spec in SCENARIOS.items() if name == scenario)
    return next((sizes for sizes in of_scenario if ":" in sizes), device.sizes)


def _of_devices(name: str) -> str:
    return ", ".join(f"{getattr(device, name)} on {device.name}" for device in DEVICES.values())


def given_options(layers: Collection[Mapping[str, object]]) -> frozenset[str]:
    """Return the options to which ``layers`` give a value other than ``None`` and ``False``."""
    # A 0 counts, because it can mean no delay. It equals False, so compare with `is`.
    return frozenset(
        name for layer in layers for name, value in layer.items() if value is not None and value is not False
    )


def _spelled(name: str, options: Mapping[str, Option], spellings: Mapping[str, str]) -> str:
    """Return the option ``name`` as the user wrote it. A workload can come from ``--model``."""
    return spellings.get(name, "a workload" if name == "workload" else options[name].label)


def settle(
    values: dict[str, Any], given: Collection[str], options: Mapping[str, Option], spellings: Mapping[str, str]
) -> None:
    """Remove from ``values`` what the scenario does not read. Use its defaults for options that are not ``given``.

    Raises ``UsageError`` if an option is given that the scenario does not read.
    """
    scenario = values["scenario"]
    spec = SCENARIOS[scenario]
    for name in SCENARIO_OPTIONS:
        if name in spec.options:
            continue
        if name in given:
            raise UsageError(
                f"{_spelled(name, options, spellings)} is given, and the scenario {scenario} does not read it: "
                f"leave it out, or choose another --scenario ({listed(readers_of(name))})"
            )
        values[name] = _UNREAD.get(name)
    if "collectives" not in given and spec.default_collective is not None:
        values["collectives"] = (spec.default_collective,)
    if spec.default_sizes != "sizes" and "sizes" not in given:
        values["sizes"] = parse_sizes("sizes", getattr(DEVICES[values["device"]], spec.default_sizes))
    if "timings" not in given:
        values["timings"] = tuple(timing for timing in values["timings"] if timing in spec.timings)
