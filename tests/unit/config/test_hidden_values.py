"""Values that a record does not hold: absent from its command, and given again to continue it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nccl_bench.config.hidden_values import (
    command_to_type,
    give_values_again,
    options_to_give_again,
    recordable_command,
    recordable_config,
)
from nccl_bench.config.user_arms import parse_arm_options
from nccl_bench.errors import UsageError

RECORD = Path("results/run")
ARM = "mine=mine.py:C,order=bare,API_TOKEN=hunter2,NCCL_ALGO=Ring"
(MINE,) = parse_arm_options([ARM])
CONFIG = {
    "variables": {"WANDB_API_KEY": "hunter2", "NCCL_PROTO": "LL"},
    "user_arms": [
        {
            "name": "mine",
            "target": "mine.py:C",
            "order": "bare",
            "variables": {"API_TOKEN": "hunter2", "NCCL_ALGO": "Ring"},
        }
    ],
}


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (["--env", "WANDB_API_KEY=hunter2"], ["--env", "WANDB_API_KEY=set"]),
        (["--env=WANDB_API_KEY=hunter2"], ["--env=WANDB_API_KEY=set"]),
        (["--env", "NCCL_ALGO=Ring"], ["--env", "NCCL_ALGO=Ring"]),
        (["--arm", ARM], ["--arm", ARM.replace("hunter2", "set")]),
        ([f"--arm={ARM}"], [f"--arm={ARM.replace('hunter2', 'set')}"]),
        (["--arm", "m=f.py:C,API_TOKEN=hunter,tree2=hunter2"], ["--arm", "m=f.py:C,API_TOKEN=set"]),
        (["--out", "http://me:hunter2@host/x"], ["--out", "http://***@host/x"]),
    ],
)
def test_the_recorded_command_lacks_values_that_may_be_secret(typed: list[str], kept: list[str]) -> None:
    assert recordable_command(["run", *typed, "--sizes", "1K"]) == ["run", *kept, "--sizes", "1K"]


def test_a_command_to_copy_has_a_placeholder_for_each_value_that_is_not_recorded() -> None:
    recorded = ["nccl-bench", "run", "--env", "A=set", "--env", "NCCL_ALGO=Ring", "--arm", "m=f.py:C,API_TOKEN=set"]
    assert command_to_type(recorded)[3:] == ["A=VALUE", "--env", "NCCL_ALGO=Ring", "--arm", "m=f.py:C,API_TOKEN=VALUE"]


def test_a_recorded_configuration_has_placeholders_and_the_options_that_replace_them() -> None:
    recorded = recordable_config(CONFIG)
    assert recorded["variables"] == {"WANDB_API_KEY": "set", "NCCL_PROTO": "LL"}
    assert recorded["user_arms"][0]["variables"] == {"API_TOKEN": "set", "NCCL_ALGO": "Ring"}
    assert options_to_give_again(recorded) == [
        "--env",
        "WANDB_API_KEY=VALUE",
        "--arm",
        "mine=mine.py:C,order=bare,API_TOKEN=VALUE,NCCL_ALGO=Ring",
    ]


def test_a_record_continues_with_the_values_that_are_given_again() -> None:
    given: dict[str, Any] = {"variables": {"WANDB_API_KEY": "new"}, "user_arms": [MINE]}
    complete = give_values_again(RECORD, recordable_config(CONFIG), given)
    assert complete["variables"] == {"WANDB_API_KEY": "new", "NCCL_PROTO": "LL"}
    assert complete["user_arms"][0]["variables"] == {"API_TOKEN": "hunter2", "NCCL_ALGO": "Ring"}
    assert give_values_again(RECORD, {"variables": {}, "user_arms": []}, {}) == {"variables": {}, "user_arms": []}


@pytest.mark.parametrize(
    ("variables", "arms", "message"),
    [
        ({}, [], "does not hold the value of WANDB_API_KEY and of API_TOKEN of the arm mine"),
        ({"WANDB_API_KEY": "x"}, [], "--env WANDB_API_KEY=VALUE --arm mine=mine.py:C,order=bare,API_TOKEN=VALUE"),
        ({"NCCL_PROTO": "LL"}, [], "--env gives NCCL_PROTO"),
        ({}, ["mine=other.py:C,API_TOKEN=x,NCCL_ALGO=Ring"], "--arm gives mine"),
        ({}, ["other=mine.py:C,API_TOKEN=x"], "--arm gives other"),
    ],
)
def test_values_that_are_missing_or_not_asked_for_are_refused(
    variables: dict[str, str], arms: list[str], message: str
) -> None:
    given = {"variables": variables, "user_arms": parse_arm_options(arms)}
    with pytest.raises(UsageError) as caught:
        give_values_again(RECORD, recordable_config(CONFIG), given)
    assert message in str(caught.value)
