"""Both generations of the coordinator, and a stand-in for torch.distributed below it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nccl_bench.communicators.coordinator import GroupCoordinator, LegacyGroupCoordinator
from nccl_bench.communicators.torch_distributed import ProcessGroupCommunicator
from nccl_bench.transports.device import Device
from tests.support.communicator_calls import COMPLETE_CALLS, EVERY_CALL, HALF_CALLS

BOTH_GENERATIONS = pytest.mark.parametrize(
    ("kind", "options"),
    [
        (GroupCoordinator, {}),
        (LegacyGroupCoordinator, {}),
        (LegacyGroupCoordinator, {"use_current_stream": True}),
    ],
    ids=["stream-free", "legacy", "legacy with use_current_stream"],
)
# The calls that a coordinator has.
COORDINATED_CALLS = [name for name in COMPLETE_CALLS if name != "gather"]
ROUTED_CALLS = [*COORDINATED_CALLS, *HALF_CALLS]
# A call -> the row in the table of routes, if that has another name than the method.
_ROWS = {
    "outplace_all_reduce": "all_reduce",
    "outplace_all_reduce into out": "all_reduce",
    "all_gather with sizes": "all_gatherv",
    "reduce_scatter with sizes": "reduce_scatterv",
}


def route_of(name: str) -> str:
    """Return the row of a call in the table of routes."""
    return _ROWS.get(name, EVERY_CALL[name].method)


class DeviceGroup:
    """A stand-in for torch.distributed, which has no NCCL here: it records the calls, and that it was closed."""

    untraced_path = ""

    def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.closed = 0

    def close(self) -> None:
        """Record the end."""
        self.closed += 1

    def _require_enabled(self) -> None:
        assert not self.closed

    def __getattr__(self, name: str) -> Callable[..., None]:
        signature = inspect.signature(getattr(ProcessGroupCommunicator, name))

        def record(*args: Any, **options: Any) -> None:
            bound = signature.bind(self, *args, **options)
            bound.apply_defaults()
            self.calls.append((name, {key: _identity(value) for key, value in bound.arguments.items()}))

        return record


def _identity(value: object) -> object:
    return id(value) if isinstance(value, torch.Tensor | DeviceGroup) else value
