"""torch.cuda's streams behind the protocol, on one GPU."""

from __future__ import annotations

import pytest
import torch

from nccl_bench.errors import SetupError
from nccl_bench.streams.cuda import CudaStreams


@pytest.fixture(scope="module")
def streams() -> CudaStreams:
    return CudaStreams(0)


def test_the_current_handle_follows_the_current_stream(streams: CudaStreams) -> None:
    side, inner = streams.new_stream(), streams.new_stream()
    assert streams.current_handle(0) == streams.handle(streams.default_stream()) == 0
    with streams.stream(side):
        assert streams.current_handle(0) == streams.handle(side)
        with streams.stream(inner):
            assert streams.current_handle(0) == streams.handle(inner)
        assert streams.current_handle(0) == streams.handle(side)
    assert len({0, streams.handle(side), streams.handle(inner)}) == 3


def test_a_handle_leads_back_to_its_stream(streams: CudaStreams) -> None:
    side = streams.new_stream()
    assert streams.handle(streams.from_handle(streams.handle(side))) == streams.handle(side)
    assert streams.from_handle(streams.handle(side)) is streams.from_handle(streams.handle(side))
    assert streams.from_handle(0) == torch.cuda.default_stream(0)
    # A stream that this object did not make: torch's own, of another priority.
    foreign = torch.cuda.Stream(priority=-1)
    assert streams.from_handle(foreign.cuda_stream).cuda_stream == foreign.cuda_stream


def test_the_gate_holds_a_stream_and_only_that_one(streams: CudaStreams) -> None:
    side, other = streams.new_stream(), streams.new_stream()
    gate = streams.new_event()
    with streams.stream(side):
        streams.hold(0.2)
        gate.record(side)
    other.synchronize()
    assert not gate.query()
    gate.synchronize()
    assert gate.query()


def test_the_gate_is_about_as_long_as_asked_for(streams: CudaStreams) -> None:
    start, end = streams.new_event(timing=True), streams.new_event(timing=True)
    start.record()
    streams.hold(0.05)
    end.record()
    end.synchronize()
    # The device's own clock on the device's own spin, so the machine's noise has no part in it.
    assert 40 < start.elapsed_time(end) < 100


def test_a_graph_holds_the_work_and_waits_for_the_stream_it_was_captured_from(streams: CudaStreams) -> None:
    tensor = torch.zeros(4, device="cuda")
    graph = streams.capture(lambda: tensor.add_(1))
    torch.cuda.synchronize()
    assert tensor.tolist() == [0, 0, 0, 0]
    for _ in range(3):
        graph.replay()
    torch.cuda.synchronize()
    assert tensor.tolist() == [3, 3, 3, 3]
    graph.reset()


def test_a_body_that_raises_ends_the_capture_and_the_next_one_works(streams: CudaStreams) -> None:
    tensor = torch.zeros(1, device="cuda")

    def broken() -> None:
        tensor.add_(1)
        raise ValueError("the body's own")

    with pytest.raises(ValueError, match="the body's own"):
        streams.capture(broken)
    assert not torch.cuda.is_current_stream_capturing()
    graph = streams.capture(lambda: tensor.add_(1))
    graph.replay()
    torch.cuda.synchronize()
    assert tensor.item() == 1


def test_memory_that_torch_keeps_for_reuse_counts_as_free(streams: CudaStreams) -> None:
    tensor = torch.empty(256 * 1024**2, dtype=torch.uint8, device="cuda")
    taken = streams.memory()[0]
    del tensor
    free, total = streams.memory()
    assert free - taken >= 256 * 1024**2
    assert free <= total


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(SetupError, match="CUDA device 99"):
        CudaStreams(99)


def test_spare_streams_are_those_that_nobody_was_given() -> None:
    streams = CudaStreams(0)
    given = [streams.new_stream() for _ in range(5)]
    foreign = torch.cuda.Stream()
    spare = streams.spare_streams()
    handles = {stream.cuda_stream for stream in spare}
    assert len(handles) == len(spare) > 8
    assert not handles & {stream.cuda_stream for stream in (*given, foreign)}
    # Nor the one that graphs are captured on, which is given away as the first of all.
    capturing: list[int] = []
    streams.capture(lambda: capturing.append(streams.current_handle(0)))
    assert capturing[0] not in handles


def test_none_is_spare_once_torch_hands_them_out_again() -> None:
    streams = CudaStreams(0)
    for _ in range(32):
        streams.new_stream()
    assert streams.spare_streams() == []
