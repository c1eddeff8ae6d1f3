"""The refusal of cases that are known to hang."""

from __future__ import annotations

import pytest

from nccl_bench.bench.known_hangs import hang_in_graphs
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.transports.c_environment import c_variable, c_variables
from tests.support.synthetic_runs import case

MIB = 1024**2


def reason(collective: str = "all_to_all", size_bytes: int = 16 * MIB, ranks: int = 2, version: int = 22809) -> str:
    count = COLLECTIVES[collective].block_count(size_bytes, 2, ranks)
    return hang_in_graphs(case(collective=collective, size_bytes=size_bytes, count=count), ranks, version) or ""


def test_a_refusal_names_every_way_out() -> None:
    text = reason()
    assert text.startswith("in a graph on torch's expandable segments, NCCL 2.28.9 can hang")
    for way_out in ("--env NCCL_GRAPH_REGISTER=0", "another --memory", "NCCL 2.29.2", "leave graph out of --timing"):
        assert way_out in text


def test_only_collectives_of_sends_and_receives_are_refused() -> None:
    assert {name for name in COLLECTIVES if reason(name)} == {"all_to_all", "gather", "send_recv"}


@pytest.mark.parametrize(
    "harmless",
    [{"size_bytes": 32 * 1024}, {"ranks": 1}, {"version": 22902}, {"version": 22203}],
    ids=["small blocks", "one rank", "a newer NCCL", "an NCCL that does not register"],
)
def test_a_case_that_cannot_hang_is_measured(harmless: dict[str, int]) -> None:
    assert reason(**harmless) == ""


def test_the_setting_of_the_message_lifts_the_refusal() -> None:
    with c_variables({"NCCL_GRAPH_REGISTER": "0"}):
        assert reason() == ""
    assert c_variable("NCCL_GRAPH_REGISTER") is None
    assert reason()
