"""The process that imports torch: it prints which torch, NCCL and nccl4py it found, as one line of JSON."""

import ctypes
import importlib
import os
from typing import Any

from nccl_bench.catalog.extras import installed_version
from nccl_bench.doctor.torch_facts import TorchFacts
from nccl_bench.errors import NcclBenchError
from nccl_bench.transports.nccl_library import find_library, loaded_copies
from nccl_bench.transports.torch_library import torch_library

_MULTICAST_SUPPORTED = 132  # CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED in cuda.h


def torch_facts() -> TorchFacts:
    """Return the facts that this process sees."""
    try:
        torch: Any = importlib.import_module("torch")
    except Exception as error:  # noqa: BLE001 - a broken torch can raise anything
        return TorchFacts(problem=_text(error), nccl4py=installed_version("nccl4py"))
    facts: dict[str, Any] = {"torch": str(torch.__version__), "file": torch.__file__, "cuda": torch.version.cuda}
    if torch.version.cuda is not None:
        facts |= _devices(torch)
    try:
        library = find_library()
        facts |= {"library": os.path.realpath(library.path), "library_source": str(library.source)}
    except NcclBenchError as error:
        facts["library_problem"] = str(error).partition("\n")[0]
    of_torch = torch_library()
    facts["torch_library"] = None if of_torch is None else os.path.realpath(of_torch)
    facts |= _nccl4py()
    facts["loaded"] = tuple(dict.fromkeys(map(os.path.realpath, loaded_copies())))
    return TorchFacts(**facts)


def _devices(torch: Any) -> dict[str, Any]:
    try:
        torch.cuda.init()
        count = int(torch.cuda.device_count())
    except Exception as error:  # noqa: BLE001 - torch raises RuntimeError, AssertionError and its own errors
        return {"cuda_problem": _text(error)}
    return {"devices": count, "multicast": tuple(map(_has_multicast, range(count)))}


def _has_multicast(device: int) -> bool:
    """Return True if the driver offers NVLink multicast for a device, which NVLS needs."""
    value = ctypes.c_int()
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        failed = driver.cuDeviceGetAttribute(ctypes.byref(value), _MULTICAST_SUPPORTED, device)
    except (OSError, AttributeError):
        return False
    return not failed and bool(value.value)


def _nccl4py() -> dict[str, Any]:
    version = installed_version("nccl4py")
    if version is None:
        return {}
    from nccl_bench.transports.nccl4py import Nccl4pyBindings

    try:
        path = Nccl4pyBindings().path()
    except NcclBenchError as error:
        return {"nccl4py": version, "nccl4py_problem": str(error)}
    return {"nccl4py": version, "nccl4py_library": os.path.realpath(path)}


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


if __name__ == "__main__":
    # The only line on standard output.
    os.write(1, f"\n{torch_facts().to_json()}\n".encode())
