"""Overrides of the routing table."""

from __future__ import annotations

from copy import deepcopy

import pytest

from nccl_bench.catalog.routes import ROUTED_OPERATIONS, ROUTES, UNROUTED, Backend, Mode
from nccl_bench.config.routes import override
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
