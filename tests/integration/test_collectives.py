"""Every combination supported on the CPU, in real processes over Gloo, checked by the benchmark's own check."""

from __future__ import annotations

from typing import Any

import pytest

from nccl_bench.catalog.dtypes import DTYPES
from tests.support.collectives_worker import DTYPES_OF_THREE
from tests.support.participant import COUNTS, SLOTS
from tests.support.rank_processes import run_ranks

Reports = list[dict[str, Any]]

# The expected support, written independently of the catalog. By collective: does it reduce, has it an in-place form?
COLLECTIVES = {
    "all_reduce": (True, True),
    "all_gather": (False, True),
    "reduce_scatter": (True, True),
    "all_gatherv": (False, True),
    "reduce_scatterv": (True, True),
    "all_to_all": (False, False),
    "broadcast": (False, True),
    "reduce": (True, True),
    "gather": (False, True),
    "send_recv": (False, False),
}
TORCH = ("torch", "torch-async")
COORDINATORS = ("coordinator", "coordinator-legacy")
ARMS = (
    "stream-free",
    "dedicated-stream",
    "dedicated-stream-wait-stream",
    "stream-free-torch-stream",
    "transport",
    *TORCH,
    *COORDINATORS,
)
NO_OUT_OF_PLACE = {
    **dict.fromkeys(TORCH, ("all_reduce", "broadcast", "reduce")),
    **dict.fromkeys(COORDINATORS, ("broadcast", "reduce")),  # its out-of-place all_reduce makes a copy
}
RETURNING = set(ARMS) - {*TORCH, "transport"}
REDOPS = ("sum", "prod", "min", "max", "avg")


def supported(dtypes: tuple[str, ...]) -> set[str]:
    names = set()
    for collective, (reduces, in_place) in COLLECTIVES.items():
        for dtype in dtypes:
            for redop in REDOPS if reduces else ("None",):
                if reduces and (dtype.startswith("float8") or (redop == "avg" and "int" in dtype)):
                    continue
                for placement in ("in-place", "out-of-place") if in_place else ("out-of-place",):
                    for arm in ARMS:
                        if placement == "out-of-place" and collective in NO_OUT_OF_PLACE.get(arm, ()):
                            continue
                        if (arm, collective) == ("torch", "send_recv") or (
                            arm in COORDINATORS and collective == "gather"
                        ):
                            continue
                        names.add(f"{arm} {collective} {dtype} {redop} {placement}")
                if collective == "all_reduce":
                    names |= {f"{arm} all_reduce {dtype} {redop} returned" for arm in RETURNING}
    return names


@pytest.fixture(scope="module", params=[2, 3], ids="{} ranks".format)
def reports(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    return run_ranks("tests.support.collectives_worker", request.param, tmp_path_factory.mktemp("collectives"))


def test_every_supported_combination_is_right_on_every_rank(reports: Reports) -> None:
    dtypes = tuple(DTYPES) if len(reports) == 2 else DTYPES_OF_THREE
    for report in reports:
        assert set(report["combinations_of_arms"]) == supported(dtypes)
        assert {name: wrong for name, wrong in report["combinations_of_arms"].items() if wrong} == {}


def test_the_check_catches_a_communicator_with_a_defect(reports: Reports) -> None:
    all_elements = SLOTS * COUNTS[len(reports)]
    for report in reports:
        wrong = report["defects"]
        assert wrong.pop("right all_reduce") == wrong.pop("right send_recv") == 0
        assert wrong.pop("leaves the last element") == SLOTS
        for name in ("drops a rank", "does nothing in place", "does nothing out of place"):
            assert wrong.pop(name) == all_elements, name
        assert wrong.pop("takes the wrong root") > all_elements // 2
        # Two ranks are each other's neighbours on both sides.
        assert (wrong.pop("sends the wrong way") > all_elements // 2) == (len(reports) > 2)
        assert not wrong


@pytest.mark.parametrize("late", ["late private stream", "late input"])
def test_only_the_arm_without_fork_and_join_is_wrong_when_a_stream_or_an_input_is_late(
    reports: Reports, late: str
) -> None:
    for report in reports:
        wrong = report["unordered"][late]
        assert wrong.pop("dedicated-stream-unordered") > 0
        assert wrong == dict.fromkeys(ARMS, 0)


def test_operations_that_no_arm_times_are_right_on_every_rank(reports: Reports) -> None:
    for report in reports:
        assert [name for name, right in report["operations"].items() if not right] == []
        assert len(report["operations"]) == 3 * (4 * 4 + 4 + 7 * len(reports))


def test_a_coordinator_s_operations_are_right_on_every_rank_in_both_modes(reports: Reports) -> None:
    for report in reports:
        results = report["coordinators"]
        assert [name for name, right in results.items() if not right] == []
        # Three coordinators, two backends, two modes, nine results.
        assert len(results) == 3 * 2 * 2 * 9
