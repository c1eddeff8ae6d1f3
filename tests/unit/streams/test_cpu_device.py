"""The ``Streams`` of the CPU."""

from __future__ import annotations

import time
import weakref

import pytest
import torch

from nccl_bench.errors import InvalidArgumentError
from nccl_bench.streams import cpu
from nccl_bench.streams.cpu_device import CpuStreams
from tests.support.stream_control import Gate

pytestmark = pytest.mark.usefixtures("nothing_left_unreported")


@pytest.fixture
def streams() -> CpuStreams:
    return CpuStreams()


def test_handles_are_never_reused_and_give_back_their_stream(streams: CpuStreams) -> None:
    handles = [streams.new_stream().handle for _ in range(20)]
    assert len(set(handles)) == 20
    stream = streams.new_stream()
    assert stream.handle not in handles
    assert streams.from_handle(streams.handle(stream)) is stream
    assert streams.from_handle(0) is streams.default_stream()
    with pytest.raises(InvalidArgumentError, match=f"no CPU stream has handle {handles[0]}"):
        streams.from_handle(handles[0])


def test_submit_and_current_handle_follow_the_current_stream(streams: CpuStreams) -> None:
    stream = streams.new_stream()
    seen: list[object] = []
    assert streams.current_handle(0) == 0
    with streams.stream(stream):
        assert streams.current_handle(streams.index) == stream.handle
        streams.submit(lambda: seen.append(streams.current_handle(0)))
    stream.synchronize()
    assert seen == [stream.handle]


def test_graphs_and_holding_the_default_stream_are_refused_on_the_cpu(streams: CpuStreams) -> None:
    with pytest.raises(InvalidArgumentError, match="no graphs"):
        streams.capture(lambda: None)
    with pytest.raises(InvalidArgumentError, match="runs work inline"):
        streams.hold(0.0)


def test_the_device_is_described(streams: CpuStreams) -> None:
    free, total = streams.memory()
    assert 0 < free <= total
    about = streams.describe()
    assert about["type"] == "cpu"
    assert isinstance(about["name"], str)
    assert about["threads"] == torch.get_num_threads()


def test_retain_keeps_tensors_alive_until_the_stream_reaches_it(streams: CpuStreams) -> None:
    stream, tensor = cpu.Stream(), torch.ones(8)
    gate, alive = Gate(stream), weakref.ref(tensor)
    assert streams.retain is not None
    streams.retain(stream.handle, tensor)
    del tensor
    assert alive() is not None
    gate.open()
    stream.synchronize()
    assert alive() is None


def test_waiting_uses_no_processor_time(streams: CpuStreams) -> None:
    stream, waiter = cpu.Stream(), cpu.Stream()
    used = time.process_time()
    with cpu.stream(stream):
        streams.hold(0.3)
    waiter.wait_stream(stream)
    waiter.synchronize()
    assert time.process_time() - used < 0.15
