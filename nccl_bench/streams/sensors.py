"""The sensors of one GPU: clocks, temperature, power, reasons for low clocks, and the processes that use the GPU.

One reading takes milliseconds, so never read in a timed region.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nccl_bench.catalog.throttling import THROTTLE_REASONS, ThrottleReason
from nccl_bench.records.nvml import MEMORY_CLOCK, SM_CLOCK, Nvml

_GPU_TEMPERATURE = 0  # NVML_TEMPERATURE_GPU in nvml.h
# The smallest share of the time for which a reason must limit the clocks. A smaller share does not matter.
_RELEVANT_SHARE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The values of the sensors at one moment. A value that the GPU or its driver does not report is ``None``."""

    time_s: float  # the moment, on the clock `time.monotonic`
    sm_clock_mhz: int | None  # the clock of the multiprocessors
    memory_clock_mhz: int | None  # the clock of the memory
    temperature_c: int | None  # the temperature of the GPU
    power_w: float | None  # the power; recent GPUs report the average over the last second
    reasons: tuple[ThrottleReason, ...]  # the reasons why the clocks are limited at this moment
    throttled_ns: Mapping[ThrottleReason, int]  # how long each reason has limited the clocks since the driver started
    processes: tuple[int, ...]  # ids of the processes that use the GPU, possibly ids of another namespace

    def throttled_since(self, earlier: Reading) -> dict[ThrottleReason, float | None]:
        """Return the reasons that limited the clocks since ``earlier``, each with its share of the time.

        The share is ``None`` if the driver has no counter for the reason: then only the present moment is known.
        """
        elapsed_ns = max(1.0, (self.time_s - earlier.time_s) * 1e9)
        shares = {
            reason: min(1.0, (total_ns - earlier.throttled_ns[reason]) / elapsed_ns)
            for reason, total_ns in self.throttled_ns.items()
            if reason in earlier.throttled_ns
        }
        return {
            reason: shares.get(reason) or None
            for reason in THROTTLE_REASONS
            if reason in self.reasons or shares.get(reason, 0) >= _RELEVANT_SHARE
        }


class GpuSensors:
    """The sensors of the GPU ``gpu``. ``owner`` is the MIG device or GPU whose processes are listed, or ``None``."""

    def __init__(self, nvml: Nvml, gpu: Any, owner: Any) -> None:
        self._nvml, self._gpu, self._owner = nvml, gpu, owner

    @classmethod
    def of(cls, nvml: Nvml, uuid: str) -> GpuSensors | None:
        """Return the sensors of CUDA's device ``uuid``; ``None`` if NVML does not know it.

        CUDA numbers the devices of this process, and NVML the GPUs of the machine. Both know the UUID.
        """
        # Sensors belong to a whole GPU, also when the device is one of its MIG devices.
        mig = nvml.gpu(f"MIG-{uuid}")
        if mig is not None:
            gpu = nvml.ask("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", mig)
            return None if gpu is None else cls(nvml, gpu, mig)
        gpu = nvml.gpu(f"GPU-{uuid}")
        if gpu is None:
            return None
        # The processes of a whole GPU with MIG also include those of the other MIG devices.
        has_mig = (nvml.ask("nvmlDeviceGetMigMode", gpu) or [0])[0]
        return cls(nvml, gpu, None if has_mig else gpu)

    def read(self) -> Reading:
        """Read all sensors."""
        ask, gpu = self._nvml.ask, self._gpu
        power_mw = ask("nvmlDeviceGetPowerUsage", gpu)
        mask = ask("nvmlDeviceGetCurrentClocksEventReasons", gpu) or 0
        listed = None if self._owner is None else ask("nvmlDeviceGetComputeRunningProcesses", self._owner)
        return Reading(
            time_s=time.monotonic(),
            sm_clock_mhz=ask("nvmlDeviceGetClockInfo", gpu, SM_CLOCK),
            memory_clock_mhz=ask("nvmlDeviceGetClockInfo", gpu, MEMORY_CLOCK),
            temperature_c=ask("nvmlDeviceGetTemperature", gpu, _GPU_TEMPERATURE),
            power_w=None if power_mw is None else power_mw / 1000,
            reasons=tuple(reason for reason, spec in THROTTLE_REASONS.items() if mask & spec.bit),
            throttled_ns=self._counters(),
            processes=tuple(process.pid for process in listed or ()),
        )

    def _counters(self) -> dict[ThrottleReason, int]:
        counters = {reason: spec.counter for reason, spec in THROTTLE_REASONS.items() if spec.counter is not None}
        values = self._nvml.ask("nvmlDeviceGetFieldValues", self._gpu, list(counters.values())) or ()
        return {
            reason: value.value.ullVal
            for reason, value in zip(counters, values, strict=False)
            if value.nvmlReturn == 0  # NVML_SUCCESS
        }
