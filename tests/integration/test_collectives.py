"""Everything the table promises on the CPU, in real processes over Gloo, under the benchmark's own check."""

from __future__ import annotations

from typing import Any

import pytest

from nccl_bench.catalog.dtypes import DTYPES
from tests.support.collectives_worker import COUNTS, DTYPES_OF_THREE, SLOTS
from tests.support.rank_processes import run_ranks

Reports = list[dict[str, Any]]

# What the table promises, said once more. Collective: whether it reduces, and whether it has an in-place form.
COLLECTIVES = {
    "all_reduce": (True, True),
    "all_gather": (False, True),
    "reduce_scatter": (True, True),
    "all_to_all": (False, False),
    "broadcast": (False, True),
    "reduce": (True, True),
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
    **dict.fromkeys(COORDINATORS, ("broadcast", "reduce")),  # of an all_reduce it makes a copy
}
REDOPS = ("sum", "prod", "min", "max", "avg")


def promised(dtypes: tuple[str, ...]) -> set[str]:
    promises = set()
    for collective, (reduces, in_place) in COLLECTIVES.items():
        for dtype in dtypes:
            for redop in REDOPS if reduces else ("None",):
                if reduces and (dtype.startswith("float8") or (redop == "avg" and "int" in dtype)):
                    continue
                for placement in ("in-place", "out-of-place") if in_place else ("out-of-place",):
                    for arm in ARMS:
                        if placement == "out-of-place" and collective in NO_OUT_OF_PLACE.get(arm, ()):
                            continue
                        if (arm, collective) == ("torch", "send_recv"):
                            continue
                        promises.add(f"{arm} {collective} {dtype} {redop} {placement}")
    return promises


@pytest.fixture(scope="module", params=[2, 3], ids="{} ranks".format)
def reports(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    found: Reports = run_ranks("tests.support.collectives_worker", request.param, tmp_path_factory.mktemp("matrix"))
    return found


def test_everything_the_table_promises_is_right_on_every_rank(reports: Reports) -> None:
    dtypes = tuple(DTYPES) if len(reports) == 2 else DTYPES_OF_THREE
    for report in reports:
        assert set(report["matrix"]) == promised(dtypes)
        assert {name: wrong for name, wrong in report["matrix"].items() if wrong} == {}


def test_the_check_catches_a_communicator_with_a_defect(reports: Reports) -> None:
    everything = SLOTS * COUNTS[len(reports)]
    for report in reports:
        wrong = report["planted"]
        assert wrong.pop("right all_reduce") == wrong.pop("right send_recv") == 0
        assert wrong.pop("leaves the last element") == SLOTS
        for name in ("drops a rank", "does nothing in place", "does nothing out of place"):
            assert wrong.pop(name) == everything, name
        assert wrong.pop("takes the wrong root") > everything // 2
        # Two ranks are each other's neighbours on both sides.
        assert (wrong.pop("sends the wrong way") > everything // 2) == (len(reports) > 2)
        assert not wrong


@pytest.mark.parametrize("late", ["late private stream", "late input"])
def test_an_arm_without_fork_and_join_is_caught_and_no_other(reports: Reports, late: str) -> None:
    for report in reports:
        wrong = report["unordered"][late]
        assert wrong.pop("dedicated-stream-unordered") > 0
        assert wrong == dict.fromkeys(ARMS, 0)


def test_operations_that_no_arm_runs_are_right_on_every_rank(reports: Reports) -> None:
    for report in reports:
        assert [name for name, right in report["operations"].items() if not right] == []
        assert len(report["operations"]) == 3 * (4 * 4 + 6 + 6 * len(reports))


def test_a_coordinator_s_own_operations_are_right_on_every_rank_eagerly_and_as_in_graphs(reports: Reports) -> None:
    for report in reports:
        found = report["coordinators"]
        assert [name for name, right in found.items() if not right] == []
        # Three coordinators, both backends in both modes.
        assert len(found) == 3 * 2 * 2 * 9
