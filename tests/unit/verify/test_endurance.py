"""What is counted before and after the cycles of ``lifetime``; the probe itself is tried on real ranks."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nccl_bench.catalog.devices import DEVICES
from nccl_bench.transports.device import open_device
from nccl_bench.verify.endurance import _count_resources


@pytest.mark.parametrize(("kind", "shared", "counted"), [("cuda", False, 1), ("cuda", True, 0), ("cpu", False, 0)])
def test_device_memory_counts_where_no_other_rank_has_it(kind: str, shared: bool, counted: int) -> None:
    device = replace(open_device("cpu", 0), shared=shared)
    found = _count_resources(cast(Any, SimpleNamespace(device=device, device_spec=DEVICES[kind])))
    assert sum("device memory" in what for what in found) == counted
