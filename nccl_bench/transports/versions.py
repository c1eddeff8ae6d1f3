"""The versions of the programs that a process runs. Another process set can have other versions."""

import platform

import numpy as np
import torch

from nccl_bench.transports.device import Device


def describe_versions(device: Device) -> dict[str, str]:
    """Return the version of each program in this process whose version can differ between process sets."""
    versions = {"Python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__}
    transport = device.transport.describe()
    is_nccl = str(transport["name"]).startswith("nccl")
    return versions | ({"NCCL": str(transport["version"])} if is_nccl and transport.get("version") else {})
