"""The resources that ``lifetime`` counts. The probe itself is tested on real ranks."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nccl_bench.catalog.devices import DEVICES
from nccl_bench.transports.device import open_device
from nccl_bench.verify.lifetime import _count_resources


@pytest.mark.parametrize(("kind", "shared", "counted"), [("cuda", False, 1), ("cuda", True, 0), ("cpu", False, 0)])
def test_device_memory_is_counted_only_if_no_other_rank_shares_it(kind: str, shared: bool, counted: int) -> None:
    device = replace(open_device("cpu", 0), shared=shared)
    resources = _count_resources(cast(Any, SimpleNamespace(device=device, device_spec=DEVICES[kind])))
    assert sum("device memory" in resource for resource in resources) == counted
