"""The sensors of a GPU, over a stand-in for NVML."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nccl_bench.catalog.throttling import THROTTLE_REASONS, ThrottleReason
from nccl_bench.records.nvml import Nvml
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.streams.sensors import GpuSensors, Reading
from tests.support.fake_nvml import H200, UUID, FakeNvml, running


def sensors(gpu: dict[str, Any], uuid: str = UUID) -> GpuSensors:
    """Return the sensors of the second GPU of a machine."""
    opened = GpuSensors.of(Nvml(library=FakeNvml({"nvmlDeviceGetUUID": "GPU-another"}, gpu)), uuid)
    assert opened is not None
    return opened


def read(**changes: Any) -> Reading:
    return sensors(H200 | changes).read()


def test_the_gpu_of_a_rank_is_found_by_its_uuid() -> None:
    reading = read(**running(12, 34))
    assert (reading.sm_clock_mhz, reading.memory_clock_mhz, reading.temperature_c) == (1980, 3201, 41)
    assert (reading.power_w, reading.reasons, reading.processes) == (310.5, (), (12, 34))
    assert GpuSensors.of(Nvml(library=FakeNvml(H200)), "unknown") is None
    assert GpuSensors.of(Nvml(library=None), UUID) is None


def test_the_cpu_has_no_sensors() -> None:
    assert CpuStreams().sensors() is None


def test_a_value_that_the_driver_does_not_know_is_absent() -> None:
    reading = sensors({"nvmlDeviceGetUUID": f"GPU-{UUID}"}).read()
    assert (reading.sm_clock_mhz, reading.power_w, reading.reasons, reading.processes) == (None, None, (), ())
    assert reading.throttled_ns == {}


def test_a_mig_device_has_the_sensors_of_its_gpu_and_its_own_processes() -> None:
    mig = {"nvmlDeviceGetUUID": f"MIG-{UUID}", **running(7)}
    gpu = H200 | {"nvmlDeviceGetUUID": "GPU-whole", "mig": [mig], **running(7, 8)}
    reading = sensors(gpu).read()
    assert (reading.sm_clock_mhz, reading.processes) == (1980, (7,))


def test_the_processes_of_other_mig_devices_are_not_listed() -> None:
    assert read(nvmlDeviceGetMigMode=[1, 1], **running(7, 8)).processes == ()


@pytest.mark.parametrize("reason", ThrottleReason)
def test_each_reason_of_the_driver_is_read(reason: ThrottleReason) -> None:
    bit = THROTTLE_REASONS[reason].bit
    assert read(nvmlDeviceGetCurrentClocksEventReasons=0x1 | bit).reasons == (reason,)
    assert read(nvmlDeviceGetCurrentClocksEventReasons=0x1FF & ~bit).reasons == tuple(
        each for each in THROTTLE_REASONS if each is not reason
    )


def test_a_reason_that_came_and_went_between_two_readings_is_counted() -> None:
    before = replace(read(nvmlDeviceGetFieldValues={74: 5_000_000, 269: 1_000}), time_s=10.0)
    after = replace(read(nvmlDeviceGetFieldValues={74: 255_000_000, 269: 9_000_000}), time_s=11.0)
    # The other reason covered less than 1 % of the second.
    assert after.throttled_since(before) == {ThrottleReason.POWER_CAP: 0.25}


def test_a_reason_without_a_counter_is_that_of_the_second_reading() -> None:
    before = read(nvmlDeviceGetCurrentClocksEventReasons=0x20)
    after = read(nvmlDeviceGetCurrentClocksEventReasons=0x8)
    assert after.throttled_since(before) == {ThrottleReason.HARDWARE_SLOWDOWN: None}
