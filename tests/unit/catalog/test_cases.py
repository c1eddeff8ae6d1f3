from __future__ import annotations

from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import Placement


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
