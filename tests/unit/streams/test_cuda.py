"""The parts of torch.cuda's streams that ask the driver and torch's allocator, with stand-ins for both."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nccl_bench.errors import SetupError
from nccl_bench.streams.cuda import CudaStreams

STREAM, GRAPH = 0x7F00_0000_1000, 0x7F00_0000_2000


@pytest.fixture
def streams() -> CudaStreams:
    """Return streams whose construction, which needs a GPU, was left out."""
    made = CudaStreams.__new__(CudaStreams)
    made.index = 0
    made.current_handle = lambda index: STREAM
    return made


def driver(nodes: int | None, status: int = 0) -> Any:
    """Return a driver whose stream captures a graph of ``nodes`` nodes; its functions return ``status``."""

    def get_capture_info(stream: Any, capture: Any, id: None, graph: Any, *absent: None) -> int:
        # The order of cuda.h: hStream, captureStatus_out, id_out, graph_out, dependencies_out, numDependencies_out.
        assert (stream.value, id, absent) == (STREAM, None, (None, None))
        capture._obj.value, graph._obj.value = (0, None) if nodes is None else (1, GRAPH)
        return status

    def get_nodes(graph: Any, listed: None, number: Any) -> int:
        assert (graph.value, listed) == (GRAPH, None)
        number._obj.value = nodes
        return status

    return SimpleNamespace(cuStreamGetCaptureInfo_v2=get_capture_info, cuGraphGetNodes=get_nodes)


def no_driver(_name: str) -> Any:
    raise OSError("libcuda.so.1: cannot open shared object file")


@pytest.mark.parametrize(
    ("library", "nodes"),
    [
        (lambda name: driver(3), 3),
        (lambda name: driver(None), None),  # the stream captures nothing
        (lambda name: driver(3, status=1), None),
        (lambda name: SimpleNamespace(), None),  # a driver before CUDA 11.3
        (no_driver, None),  # ROCm has torch.cuda without this driver
    ],
)
def test_the_nodes_of_a_capture_are_those_that_the_driver_counts(
    library: Any, nodes: int | None, streams: CudaStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", library)
    assert streams.captured_nodes() == nodes


def test_only_segments_of_this_device_count_as_stranded(streams: CudaStreams, monkeypatch: pytest.MonkeyPatch) -> None:
    # The fields and states of torch/csrc/cuda/Module.cpp, in torch 2.5 to 2.13.
    blocks = [
        {"address": 1, "size": 5, "requested_size": 5, "state": "active_pending_free", "frames": []},
        {"address": 6, "size": 7, "requested_size": 0, "state": "inactive", "frames": []},
        {"address": 13, "size": 9, "requested_size": 9, "state": "active_allocated", "frames": []},
    ]
    of_devices = [{"device": device, "stream": STREAM, "is_expandable": False, "blocks": blocks} for device in (0, 1)]
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: "native")
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda: of_devices)
    assert streams.stranded_bytes() == 5
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: "cudaMallocAsync")
    assert streams.stranded_bytes() is None


def test_the_name_of_a_range_is_shown_as_it_is(streams: CudaStreams, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: list[str] = []
    monkeypatch.setattr(torch.cuda.nvtx, "range_push", pushed.append)
    monkeypatch.setattr(torch.cuda.nvtx, "range_pop", lambda: pushed.append("end"))
    with streams.marked("8 B eager {mine}"):
        pass
    assert pushed == ["8 B eager {mine}", "end"]


def test_cuda_streams_refuse_a_device_that_torch_does_not_see() -> None:
    with pytest.raises(SetupError, match="CUDA device 4096"):
        CudaStreams(4096)
