"""The CUDA streams module on one GPU."""

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
    # A stream that this object did not make, with another priority.
    torch_stream = torch.cuda.Stream(priority=-1)
    assert streams.from_handle(torch_stream.cuda_stream).cuda_stream == torch_stream.cuda_stream


def test_a_marked_block_is_an_nvtx_range_of_this_name(streams: CudaStreams, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: list[str] = []
    push = torch.cuda.nvtx.range_push
    monkeypatch.setattr(torch.cuda.nvtx, "range_push", lambda name: (pushed.append(name), push(name)))
    with streams.marked("all_reduce {0} 8 B"):
        assert pushed == ["all_reduce {0} 8 B"]
    assert torch.cuda.nvtx.range_pop() < 0  # no range is open


def test_the_gate_holds_only_its_own_stream(streams: CudaStreams) -> None:
    side, other = streams.new_stream(), streams.new_stream()
    gate = streams.new_event()
    with streams.stream(side):
        streams.hold(0.2)
        gate.record(side)
    other.synchronize()
    assert not gate.query()
    gate.synchronize()
    assert gate.query()


def test_the_gate_is_about_as_long_as_requested(streams: CudaStreams) -> None:
    start, end = streams.new_event(timing=True), streams.new_event(timing=True)
    start.record()
    streams.hold(0.05)
    end.record()
    end.synchronize()
    # The device's clock measures the device's spin, so a busy host does not change the result.
    assert 40 < start.elapsed_time(end) < 100


def test_a_captured_graph_runs_its_work_only_when_it_is_replayed(streams: CudaStreams) -> None:
    tensor = torch.zeros(4, device="cuda")
    graph = streams.capture(lambda: tensor.add_(1))
    torch.cuda.synchronize()
    assert tensor.tolist() == [0, 0, 0, 0]
    for _ in range(3):
        graph.replay()
    torch.cuda.synchronize()
    assert tensor.tolist() == [3, 3, 3, 3]
    graph.reset()


def test_a_capture_ends_when_its_body_raises_and_the_next_capture_works(streams: CudaStreams) -> None:
    tensor = torch.zeros(1, device="cuda")

    def broken() -> None:
        tensor.add_(1)
        raise ValueError("raised by the body")

    with pytest.raises(ValueError, match="raised by the body"):
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


def test_a_missing_device_is_refused() -> None:
    with pytest.raises(SetupError, match="CUDA device 99"):
        CudaStreams(99)


def test_spare_streams_were_never_handed_out() -> None:
    streams = CudaStreams(0)
    handed_out = [streams.new_stream() for _ in range(5)]
    torch_stream = torch.cuda.Stream()
    spare = streams.spare_streams()
    handles = {stream.cuda_stream for stream in spare}
    assert len(handles) == len(spare) > 8
    assert not handles & {stream.cuda_stream for stream in (*handed_out, torch_stream)}
    # The stream that graphs are captured on is the first that is handed out.
    capturing: list[int] = []
    streams.capture(lambda: capturing.append(streams.current_handle(0)))
    assert capturing[0] not in handles


def test_there_are_no_spare_streams_once_torch_has_handed_out_all() -> None:
    streams = CudaStreams(0)
    for _ in range(32):
        streams.new_stream()
    assert streams.spare_streams() == []


def test_a_captured_call_is_a_node_of_the_graph(streams: CudaStreams) -> None:
    tensor, counts = torch.zeros(8, device=streams.device), []

    def body() -> None:
        for _ in range(3):
            tensor.add_(1)
            counts.append(streams.captured_nodes())

    streams.capture(body).reset()
    assert counts == [1, 2, 3]
    assert streams.captured_nodes() is None


def test_a_tensor_that_another_stream_may_still_use_is_stranded(streams: CudaStreams) -> None:
    caller, private = streams.new_stream(), streams.new_stream()
    with streams.stream(caller):
        before = streams.stranded_bytes()
        streams.hold(0.2)
        private.wait_stream(caller)
        tensor = torch.empty(64 * 1024**2, dtype=torch.uint8, device=streams.device)
        tensor.record_stream(private)
        del tensor
        after = streams.stranded_bytes()
    streams.synchronize()
    assert before is not None
    assert after is not None
    assert after - before == 64 * 1024**2


def test_memory_that_torch_does_not_reserve_is_in_use(streams: CudaStreams) -> None:
    before = streams.memory_use().device_bytes
    tensor = torch.empty(64 * 1024**2, dtype=torch.uint8, device=streams.device)
    after = streams.memory_use().device_bytes
    assert before is not None
    assert after is not None
    # The allocator reserved this memory, so it does not count.
    assert after - before < tensor.nbytes // 2
