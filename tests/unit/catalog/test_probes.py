"""The table of probes: the arms and devices that each applies to, and that each has a function."""

from __future__ import annotations

import pytest

from nccl_bench.catalog.arms import ARMS, COORDINATORS, Order
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.probes import DETECTOR, PROBES, Place, blind_places, not_applicable
from nccl_bench.verify.probes import PROBE_FUNCTIONS


def applicable(arm: str, device: str) -> set[str]:
    return {name for name, probe in PROBES.items() if not_applicable(probe, ARMS[arm], DEVICES[device]) is None}


def test_every_probe_has_a_function() -> None:
    assert list(PROBE_FUNCTIONS) == list(PROBES)
    assert all(probe.name == name and probe.summary for name, probe in PROBES.items())


def test_probes_that_must_catch_the_detector_apply_to_it_on_every_device() -> None:
    assert {name for name, probe in PROBES.items() if probe.detects} == {"order", "producer", "consumer"}
    assert all(probe.races for probe in PROBES.values() if probe.detects)
    for device in DEVICES:
        assert {"producer", "consumer"} <= applicable(DETECTOR, device)


def test_a_probe_is_blind_only_where_a_stream_runs_inline() -> None:
    places_by_probe = {
        (name, device): blind_places(PROBES[name], DEVICES[device]) for name in PROBES for device in DEVICES
    }
    assert {cell: places for cell, places in places_by_probe.items() if places} == {
        ("producer", "cpu"): {Place.DEFAULT}
    }


def test_the_detector_is_the_arm_that_nothing_orders() -> None:
    assert [name for name, arm in ARMS.items() if arm.order is Order.BARE] == [DETECTOR]
    assert not ARMS[DETECTOR].timed


@pytest.mark.parametrize("device", DEVICES)
def test_a_probe_that_a_device_misses_applies_to_no_arm_for_that_reason(device: str) -> None:
    missing = DEVICES[device].missing_probes
    assert set(missing) <= set(PROBES)
    for name, reason in missing.items():
        for arm in ARMS.values():
            assert not_applicable(PROBES[name], arm, DEVICES[device]) == reason


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_has_every_probe_except_those_without_a_meaning_for_it(arm: str) -> None:
    expected = set(PROBES)
    if arm == DETECTOR:
        expected = {"order", "producer", "consumer", "allocator", "capture", "many"}
    elif arm in ("torch", "torch-async", "nccl4py"):
        expected -= {"async"}
    assert applicable(arm, "cuda") == expected
    assert applicable(arm, "cpu") == expected - {"allocator", "capture"}


def test_the_asynchronous_gather_of_coordinators_is_probed() -> None:
    for name, arm in ARMS.items():
        if arm.communicator in COORDINATORS:
            assert "async" in applicable(name, "cpu")
