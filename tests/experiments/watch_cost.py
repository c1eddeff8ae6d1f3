"""Measure how long the sensors of GPU 0 take to read, each function of NVML and a whole reading. Needs a GPU.

    python -m tests.experiments.watch_cost

A run reads them twice for each timing of a case, outside the timed regions. The output has medians over 200 calls.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter_ns

import torch

from nccl_bench.catalog.throttling import THROTTLE_REASONS
from nccl_bench.records.nvml import SM_CLOCK, open_nvml
from nccl_bench.streams.cuda import CudaStreams

CALLS = 200


def median_us(call: Callable[[], object]) -> float:
    """Return the median time of ``call`` in microseconds."""
    times = []
    for _ in range(CALLS):
        start = perf_counter_ns()
        call()
        times.append((perf_counter_ns() - start) / 1e3)
    return median(times)


def main() -> None:
    """Print the times."""
    begin = perf_counter_ns()
    nvml = open_nvml()
    print(f"open NVML            {(perf_counter_ns() - begin) / 1e3:10.0f} us, once")
    streams = CudaStreams(0)
    sensors = streams.sensors()
    assert sensors is not None, "NVML does not know this GPU"
    gpu = nvml.gpu(f"GPU-{torch.cuda.get_device_properties(0).uuid}")
    counters = [spec.counter for spec in THROTTLE_REASONS.values() if spec.counter is not None]
    calls: dict[str, Callable[[], object]] = {
        "clock": lambda: nvml.ask("nvmlDeviceGetClockInfo", gpu, SM_CLOCK),
        "temperature": lambda: nvml.ask("nvmlDeviceGetTemperature", gpu, 0),
        "power": lambda: nvml.ask("nvmlDeviceGetPowerUsage", gpu),
        "reasons": lambda: nvml.ask("nvmlDeviceGetCurrentClocksEventReasons", gpu),
        "counters": lambda: nvml.ask("nvmlDeviceGetFieldValues", gpu, counters),
        "processes": lambda: nvml.ask("nvmlDeviceGetComputeRunningProcesses", gpu),
        "whole reading": sensors.read,
    }
    for name, call in calls.items():
        print(f"{name:20} {median_us(call):10.1f} us")
    print(sensors.read())


if __name__ == "__main__":
    main()
