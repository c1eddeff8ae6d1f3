from __future__ import annotations

from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import Placement, RedOp


def test_the_label_of_a_case_with_a_root_names_the_root() -> None:
    case = Case(
        scenario=Scenario.ISOLATED,
        collective="broadcast",
        dtype="float32",
        redop=None,
        placement=Placement.OUT_OF_PLACE,
        root=5,
        size_bytes=1048576,
        count=262144,
    )
    assert case.label == "broadcast float32 out-of-place root 5 1048576 B"


def test_the_label_of_a_case_of_a_chain_names_its_settings() -> None:
    case = Case(
        scenario=Scenario.CHAIN,
        collective="all_reduce",
        dtype="bfloat16",
        redop=RedOp.SUM,
        placement=Placement.IN_PLACE,
        root=None,
        size_bytes=3 * 8192 * 2,
        count=3 * 8192,
        hidden=8192,
        layers=40,
    )
    assert case.label == "chain (hidden 8192, 40 layers) all_reduce bfloat16 sum 49152 B"
    assert case.tokens == 3
