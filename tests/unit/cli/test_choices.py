"""Every choice that the help of `run` offers leads to cases, or to a reason that is documented."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

import pytest

from nccl_bench.catalog import support
from nccl_bench.catalog.arms import ARMS, DEFAULT_ARMS
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.memory import Register
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.run import CallerStream, resolve
from nccl_bench.errors import UsageError
from nccl_bench.plan.cases import make_plan
from tests.support.command_line import COMMANDS, CommandLine

CHOICES: Mapping[str, tuple[str, ...]] = {
    "collectives": tuple(COLLECTIVES),
    "dtypes": tuple(DTYPES),
    "redops": tuple(RedOp),
    "placements": tuple(Placement),
    "timings": tuple(Timing),
    "arms": tuple(name for name, arm in ARMS.items() if arm.timed),
    "device": tuple(DEVICES),
    "register": tuple(Register),
    "caller_stream": tuple(CallerStream),
}


def parameter(name: str) -> Any:
    return next(parameter for parameter in COMMANDS["run"].params if parameter.name == name)


def possible(device: str) -> list[tuple[str, str]]:
    """Return the choices of every option on ``device``, which cannot run some arms."""
    able = {name for name, arm in ARMS.items() if DEVICES[device].transport in arm.transports}
    return [
        (name, choice)
        for name in CHOICES
        for choice in CHOICES[name]
        if (name == "arms" and choice in able) or name not in ("arms", "register")
    ]


REASONS = (
    *(rule.reason for rule in support._RULES),
    *(absence.reason for row in COLLECTIVES.values() for absence in row.absences),
    *(reason for device in DEVICES.values() for reason in device.missing_timings.values()),
    *(reason for device in DEVICES.values() for reason in device.missing_on_default_stream.values()),
    "after nccl-tests' rounding",
    "it is measured out-of-place",
)


@pytest.mark.parametrize("name", CHOICES)
def test_help_offers_every_choice(name: str) -> None:
    assert ", ".join(CHOICES[name]) in parameter(name).help


@pytest.mark.parametrize("name", ["collectives", "dtypes", "redops", "placements", "arms"])
def test_help_says_where_all_is_a_choice(name: str) -> None:
    assert "; or all" in parameter(name).help


def test_help_names_the_default_arms() -> None:
    assert f" Default: {', '.join(DEFAULT_ARMS)};" in parameter("arms").help


@pytest.mark.parametrize(
    ("name", "choice", "device"), [(*each, device) for device in DEVICES for each in possible(device)]
)
def test_every_choice_ends_in_cases_or_in_a_documented_reason(
    name: str, choice: str, device: str, command_line: CommandLine
) -> None:
    spelling = parameter(name).opts[-1]
    config = command_line.observe("run", "--device", device, spelling, choice).config
    assert config is not None
    try:
        plan = make_plan(config, 2)
    except UsageError as error:
        # GPUs run every choice that is offered; only what the CPU lacks may end here.
        assert device == "cpu"
        _, _, reasons = str(error).partition("left to measure: ")
        assert reasons
        assert all(reason.endswith(REASONS) for reason in reasons.split("; "))
        return
    assert plan.cases
    assert plan.timings
    assert all(reason.endswith(REASONS) for reason in plan.left_out)


@pytest.mark.parametrize("device", DEVICES)
def test_no_arm_of_any_combination_is_dropped_without_a_reason(device: str) -> None:
    arms = [choice for name, choice in possible(device) if name == "arms"]
    for collective, dtype, op, placement in itertools.product(COLLECTIVES, DTYPES, RedOp, Placement):
        layer = {"collectives": collective, "dtypes": dtype, "redops": op, "placements": placement, "sizes": "64K"}
        try:
            plan = make_plan(resolve(device, layer, {"arms": arms}), 2)
            measured, reasons = plan.cases[0].arms, plan.left_out
        except UsageError as error:
            measured, reasons = (), tuple(str(error).partition("left to measure: ")[2].split("; "))
        # A reason names the arms before the case that they do not run.
        names = [reason.partition(f" {collective} {dtype}")[0] for reason in reasons]
        unmeasured = set(re.findall(r"[\w-]+", " ".join(names)))
        for arm in arms:
            assert (arm in measured) != ("no arm runs" in names or arm in unmeasured), (layer, arm)
