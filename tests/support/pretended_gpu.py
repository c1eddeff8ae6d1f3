"""A model of a GPU for machines without one: tensors of the CPU count as the GPU's, tests call torch's callbacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch.cuda._gpu_trace as gpu_trace
from torch import Tensor

from nccl_bench.audit import watching
from nccl_bench.audit.order.places import Stream, StreamKind
from nccl_bench.audit.sources.model import CudaModel


class PretendedGpu(CudaModel):
    """A GPU whose current stream is ``current``. Each method does what torch's C++ code reports of the real call."""

    def __init__(self) -> None:
        self.current = 0

    def holds(self, tensor: Tensor) -> bool:
        return tensor.device.type == "cpu"

    def current_stream(self, tensor: Tensor | None = None) -> Stream:
        return self.stream(self.current)

    def stream(self, handle: int) -> Stream:
        return Stream(device=0, handle=handle, kind=StreamKind.NON_BLOCKING if handle else StreamKind.LEGACY_DEFAULT)

    @contextmanager
    def on(self, handle: int) -> Iterator[None]:
        """Make a stream current within the ``with`` block."""
        before, self.current = self.current, handle
        yield
        self.current = before

    def record(self, event: int, stream: int) -> None:
        gpu_trace.EventRecordCallbacks.fire_callbacks(event, stream)

    def wait(self, event: int, stream: int) -> None:
        gpu_trace.EventWaitCallbacks.fire_callbacks(event, stream)

    def synchronize(self, stream: int) -> None:
        gpu_trace.StreamSynchronizationCallbacks.fire_callbacks(stream)

    def free(self, tensor: Tensor) -> None:
        gpu_trace.MemoryDeallocationCallbacks.fire_callbacks(tensor.data_ptr())


def pretend(monkeypatch: pytest.MonkeyPatch) -> PretendedGpu:
    """Let watches find a pretended GPU."""
    gpu = PretendedGpu()
    device: Any = 0
    monkeypatch.setattr(watching, "find_model", lambda: gpu)
    monkeypatch.setattr("torch._C._cuda_getDevice", lambda: device, raising=False)
    return gpu
