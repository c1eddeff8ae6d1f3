"""A stand-in for pynvml: GPUs as dictionaries, each from the name of a function to its answer."""

# The names of the functions and errors are those of pynvml.
# ruff: noqa: N801, N802, N818

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from nccl_bench.records.nvml import open_nvml

UUID = "8932f937-0000-0000-0000-000000000000"
# What an H200 that measures answers: SM clock 1980 MHz, no reason for a lower clock, no process.
H200: dict[str, Any] = {
    "nvmlDeviceGetUUID": f"GPU-{UUID}",
    "nvmlDeviceGetName": "NVIDIA H200",
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=143771 * 1024**2, free=81000 * 1024**2),
    "nvmlDeviceGetClockInfo": {1: 1980, 2: 3201},
    "nvmlDeviceGetMaxClockInfo": {1: 1980, 2: 3201},
    "nvmlDeviceGetPowerManagementLimit": 700_000,
    "nvmlDeviceGetPersistenceMode": 1,
    "nvmlDeviceGetTemperature": {0: 41},
    "nvmlDeviceGetPowerUsage": 310_500,
    "nvmlDeviceGetCurrentClocksEventReasons": 0,
    "nvmlDeviceGetFieldValues": {74: 0, 76: 0, 269: 0, 270: 0},  # counters of an older driver: 271 is unknown
    "nvmlDeviceGetComputeRunningProcesses": (),
    "nvmlDeviceGetMigMode": [0, 0],
}


class FakeNvml:
    """The GPUs ``gpus``, or the error of ``nvmlInit``. A function without an answer raises, as on an older driver.

    An answer can be a function of the arguments after the GPU.
    """

    class NVMLError(Exception):
        """The base class of the errors."""

    class NVMLError_LibraryNotFound(NVMLError):
        """A machine without the driver."""

    class NVMLError_DriverNotLoaded(NVMLError):
        """A machine with the library alone."""

    def __init__(self, *gpus: dict[str, Any], error: Exception | None = None) -> None:
        self.gpus = gpus
        self.error = error

    def nvmlInit(self) -> None:
        if self.error is not None:
            raise self.error

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.65"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 13000

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetIndex(self, gpu: dict[str, Any]) -> int:
        return next(index for index, each in enumerate(self.gpus) if each is gpu)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        if index >= len(self.gpus):
            raise self.NVMLError("Invalid Argument")
        return self.gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> dict[str, Any]:
        devices = [device for gpu in self.gpus for device in (gpu, *gpu.get("mig", ()))]
        for device in devices:
            if device["nvmlDeviceGetUUID"] == uuid:
                return device
        raise self.NVMLError("Not Found")

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, mig: dict[str, Any]) -> dict[str, Any]:
        return next(gpu for gpu in self.gpus if any(each is mig for each in gpu.get("mig", ())))

    def nvmlDeviceGetFieldValues(self, gpu: dict[str, Any], fields: Sequence[int]) -> list[Any]:
        known = gpu.get("nvmlDeviceGetFieldValues", {})
        return [
            SimpleNamespace(nvmlReturn=0 if each in known else 3, value=SimpleNamespace(ullVal=known.get(each, 7)))
            for each in fields
        ]

    def __getattr__(self, function: str) -> Any:
        if not function.startswith("nvmlDevice"):
            raise AttributeError(function)

        def answer(gpu: dict[str, Any], *arguments: Any) -> Any:
            if function not in gpu:
                raise self.NVMLError("Not Supported")
            if callable(gpu[function]):
                return gpu[function](*arguments)
            return gpu[function][arguments[0]] if arguments else gpu[function]

        return answer


def install(monkeypatch: pytest.MonkeyPatch, fake: FakeNvml) -> FakeNvml:
    """Make ``fake`` the pynvml of this process, until the test ends."""
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    # `open_nvml` keeps what it has opened, so it must not keep the fake.
    fresh = open_nvml.__wrapped__
    for module in ("nccl_bench.records.environment", "nccl_bench.launch.hardware", "nccl_bench.streams.cuda"):
        monkeypatch.setattr(f"{module}.open_nvml", fresh)
    return fake


def no_driver() -> FakeNvml:
    """Return the library of a machine without NVIDIA's driver."""
    return FakeNvml(error=FakeNvml.NVMLError_LibraryNotFound("NVML Shared Library Not Found"))


def running(*processes: int) -> dict[str, Any]:
    """Return the answer of a GPU on which ``processes`` run."""
    return {"nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=process) for process in processes]}
