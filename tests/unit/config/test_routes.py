"""Overrides of the routing table, and the routes of a run."""

from __future__ import annotations

from copy import deepcopy

import pytest

from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.routes import ROUTED_OPERATIONS, ROUTES, UNROUTED, Backend, Mode
from nccl_bench.config.routes import override
from nccl_bench.config.run import resolve
from nccl_bench.errors import UsageError

TORCH_ONLY = {Mode.EAGER: Backend.TORCH, Mode.GRAPH: Backend.TORCH}
REVERSED = {Mode.EAGER: Backend.COMMUNICATOR, Mode.GRAPH: Backend.TORCH}


def test_without_overrides_the_table_is_unchanged() -> None:
    assert override([]) == ROUTES
    mine = override(["graph=torch"])
    assert override([], mine) == mine


def test_an_override_without_an_operation_applies_to_all() -> None:
    assert override(["eager=communicator", "graph=torch"]) == dict.fromkeys(ROUTED_OPERATIONS, REVERSED)


@pytest.mark.parametrize("operation", ROUTED_OPERATIONS)
def test_an_override_of_one_operation_applies_to_no_other(operation: str) -> None:
    assert override([f"{operation}.graph=torch"]) == {**ROUTES, operation: TORCH_ONLY}


def test_a_later_override_wins() -> None:
    broad, narrow = "graph=torch", "reduce.graph=communicator"
    assert override([broad, narrow]) == {**dict.fromkeys(ROUTED_OPERATIONS, TORCH_ONLY), "reduce": ROUTES["reduce"]}
    assert override([narrow, broad]) == dict.fromkeys(ROUTED_OPERATIONS, TORCH_ONLY)


def test_overrides_return_a_new_table_and_change_none() -> None:
    mine = override(["eager=communicator"])
    before, defaults = deepcopy(mine), deepcopy(ROUTES)
    assert override(["graph=torch"], mine) == dict.fromkeys(ROUTED_OPERATIONS, REVERSED)
    assert mine == before
    assert defaults == ROUTES


@pytest.mark.parametrize(
    "text",
    [
        "",
        "eager",
        "eager=",
        "=torch",
        "torch=eager",
        "eager=nccl",
        "eager = torch",
        "EAGER=torch",
        "all_reduce=torch",
        "all_reduce.=torch",
        ".eager=torch",
        "all_reduce.lazy=torch",
        "all_reduce.eager.graph=torch",
        "allreduce.eager=torch",
        "eager=torch=communicator",
        *(f"{name}.eager=torch" for name in UNROUTED),
    ],
)
def test_a_malformed_override_is_refused_with_the_allowed_form(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        override(["graph=torch", text])
    message = str(refused.value)
    assert repr(text) in message
    assert "give [OPERATION.]MODE=BACKEND, such as eager=communicator. There is no " in message
    allowed = (ROUTED_OPERATIONS, Mode, Backend)
    assert any(message.endswith(", ".join(names)) for names in allowed) or message.endswith("?")


@pytest.mark.parametrize("arm", [name for name, arm in ARMS.items() if arm.communicator.startswith("coordinator")])
def test_routes_change_the_table_of_the_coordinator_arms(arm: str) -> None:
    config = resolve("cpu", {"arms": f"torch,{arm}", "routes": "eager=communicator,all_reduce.eager=torch"})
    assert config.routing["all_reduce"] == {Mode.EAGER: Backend.TORCH, Mode.GRAPH: Backend.COMMUNICATOR}
    assert config.routing["broadcast"] == dict.fromkeys(Mode, Backend.COMMUNICATOR)
    assert resolve("cpu", {"arms": arm}).routing == ROUTES


def test_routes_without_a_coordinator_arm_are_refused() -> None:
    expected = "'eager=torch', but only coordinator arms have routes, and no such arm is chosen: add one with --arms"
    with pytest.raises(UsageError, match=expected):
        resolve("cpu", {"arms": "torch,stream-free", "routes": "eager=torch"})


def test_an_empty_text_removes_the_routes_of_a_file() -> None:
    assert resolve("cpu", {"routes": "eager=torch"}, {"arms": "torch", "routes": ""}).routes == ()
