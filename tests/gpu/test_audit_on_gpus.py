"""The sources of the audit on CUDA: torch's callbacks, graphs, memory, NCCL and autograd. One GPU is enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.audit import Watch, watch
from nccl_bench.audit.order.races import RaceKind
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.transports.device import Device, open_device
from tests.support.audited import found_at

pytestmark = pytest.mark.timeout(120)
COUNT = 1 << 20
_NEEDS_TRITON = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton, which is not installed")


@pytest.fixture(scope="module")
def device() -> Device:
    return open_device("cuda", 0)


@pytest.fixture
def side(device: Device) -> torch.cuda.Stream:
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


@pytest.fixture
def tensor(device: Device) -> Tensor:
    tensor = torch.zeros(COUNT, device="cuda")
    torch.cuda.synchronize()
    return tensor


def names(watched: Watch) -> set[tuple[str, str]]:
    return {(race.first.work.name, race.second.work.name) for race in watched.races}


def test_every_source_that_a_gpu_needs_is_on(device: Device) -> None:
    with watch() as watched:
        pass
    on = {source.name for source in watched.sources if source.reason_off is None}
    assert {"CUDA streams", "torch operators", "torch.distributed", "NCCL through ctypes", "Python threads"} <= on


@pytest.mark.parametrize(("forks", "joins"), [(True, True), (False, True), (True, False)])
def test_a_side_stream_needs_its_fork_and_its_join(
    side: torch.cuda.Stream, tensor: Tensor, forks: bool, joins: bool
) -> None:
    with watch() as watched:
        tensor.fill_(1)  # producer
        if forks:
            side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            tensor.add_(1)  # side
        if joins:
            torch.cuda.current_stream().wait_stream(side)
        tensor.mul_(2)  # consumer
    expected = set() if forks else {("producer", "side")}
    assert found_at(watched) == (expected if joins else expected | {("side", "consumer")})


def test_an_event_that_was_recorded_before_the_write_orders_nothing(side: torch.cuda.Stream, tensor: Tensor) -> None:
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    with watch() as watched:
        event.record()
        tensor.fill_(1)  # write
        side.wait_event(event)
        with torch.cuda.stream(side):
            tensor.add_(1)  # side
        torch.cuda.synchronize()
    assert found_at(watched) == {("write", "side")}


@pytest.mark.parametrize(
    "wait",
    [
        lambda side, event: torch.cuda.synchronize(),
        lambda side, event: side.synchronize(),
        lambda side, event: event.synchronize(),
        lambda side, event: _until(event.query),
        lambda side, event: _until(side.query),
    ],
    ids=["device", "stream", "event", "event query", "stream query"],
)
def test_every_wait_of_the_host_orders(
    side: torch.cuda.Stream, tensor: Tensor, wait: Callable[[torch.cuda.Stream, torch.cuda.Event], None]
) -> None:
    with watch() as watched:
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            tensor.add_(1)
            event = side.record_event()
        wait(side, event)
        tensor.add_(1)
    assert not watched.races


def _until(query: Callable[[], bool]) -> None:
    while not query():
        pass


def test_an_operator_that_copies_to_the_host_orders_its_stream(side: torch.cuda.Stream, tensor: Tensor) -> None:
    with watch() as watched:
        with torch.cuda.stream(side):
            tensor.fill_(1)
            tensor[0].item()
        tensor.add_(1)
    assert not watched.races


def test_the_host_that_reads_a_copy_before_it_has_ended_is_a_race(tensor: Tensor) -> None:
    host = torch.empty(COUNT, pin_memory=True)
    with watch() as watched:
        host.copy_(tensor, non_blocking=True)  # copy
        host + 1  # read on the host
    assert found_at(watched) == {("copy", "read on the host")}
    with watch() as watched:
        host.copy_(tensor, non_blocking=True)
        torch.cuda.synchronize()
        host + 1
    assert not watched.races


def test_pinned_memory_that_torch_hands_out_again_has_no_race(side: torch.cuda.Stream, tensor: Tensor) -> None:
    with watch() as watched:
        for stream in (torch.cuda.current_stream(), side) * 3:
            stream.wait_stream(torch.cuda.default_stream())
            with torch.cuda.stream(stream):
                host = torch.empty(COUNT, pin_memory=True)
                host.copy_(tensor, non_blocking=True)
            del host
        torch.cuda.synchronize()
    assert not watched.races


@pytest.mark.parametrize("records", [True, False])
def test_memory_that_a_side_stream_still_uses_must_be_recorded(side: torch.cuda.Stream, records: bool) -> None:
    for _ in range(10):
        with watch() as watched:
            temporary = torch.ones(COUNT, device="cuda")
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                torch.cuda._sleep(1_000_000)
                temporary.add_(1)  # side
            if records:
                temporary.record_stream(side)
            del temporary
            reused = torch.ones(COUNT, device="cuda")
        torch.cuda.synchronize()
        assert {race.kind for race in watched.races} == (set() if records else {RaceKind.MEMORY})
        del reused


def test_a_graph_is_ordered_inside_and_its_replay_like_one_work(side: torch.cuda.Stream, tensor: Tensor) -> None:
    capturing: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    graph = torch.cuda.CUDAGraph()
    tensor.add_(1)
    torch.cuda.synchronize()
    with watch() as watched:
        with torch.cuda.graph(graph, stream=capturing):
            tensor.fill_(1)
            side.wait_stream(capturing)
            with torch.cuda.stream(side):
                tensor.add_(1)
            capturing.wait_stream(side)
            tensor.mul_(2)
        graph.replay()
        tensor.add_(1)
        torch.cuda.synchronize()
    assert not watched.races
    other = torch.cuda.CUDAGraph()
    with watch() as watched:
        with torch.cuda.graph(other, stream=capturing):
            tensor.fill_(1)
        other.replay()
        with torch.cuda.stream(side):
            tensor.add_(1)  # beside the replay
        torch.cuda.synchronize()
    assert {second for _, second in found_at(watched)} == {"beside the replay"}


@pytest.mark.parametrize("was_made_before", [True, False])
def test_a_private_stream_without_waits_has_both_races(
    one_rank: dist.ProcessGroup, device: Device, tensor: Tensor, was_made_before: bool
) -> None:
    made: Any = DedicatedStreamCommunicator(one_rank, device) if was_made_before else None
    with watch() as watched:
        communicator = made or DedicatedStreamCommunicator(one_rank, device)
        tensor.fill_(1)  # producer
        communicator.all_reduce(tensor)  # collective
        tensor.add_(1)  # consumer
    torch.cuda.synchronize()
    assert found_at(watched) == {("producer", "collective"), ("collective", "consumer")}


def test_the_stream_free_communicator_has_no_race(one_rank: dist.ProcessGroup, device: Device, tensor: Tensor) -> None:
    communicator = StreamFreeCommunicator(one_rank, device)
    with watch() as watched:
        with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
            torch.cuda.current_stream().wait_stream(torch.cuda.default_stream())
            tensor.fill_(1)
            communicator.all_reduce(tensor)
            tensor.add_(1)
        torch.cuda.synchronize()
    assert not watched.races


@pytest.fixture(scope="module")
def nccl_group(one_rank: dist.ProcessGroup) -> Iterator[dist.ProcessGroup]:
    group = dist.new_group([0], backend="nccl")
    dist.all_reduce(torch.zeros(1, device="cuda"), group=group)
    yield group
    dist.destroy_process_group(group)


@pytest.mark.parametrize("waits", [True, False])
def test_an_asynchronous_collective_of_torch_needs_its_wait(
    nccl_group: dist.ProcessGroup, tensor: Tensor, waits: bool
) -> None:
    with watch() as watched:
        tensor.fill_(1)
        work = dist.all_reduce(tensor, group=nccl_group, async_op=True)  # collective
        assert work is not None
        if waits:
            work.wait()
        tensor.add_(1)  # consumer
        work.wait()
    assert found_at(watched) == (set() if waits else {("collective", "consumer")})


def test_synchronous_and_coalesced_collectives_of_torch_have_no_race(
    nccl_group: dist.ProcessGroup, tensor: Tensor
) -> None:
    other = torch.zeros(COUNT, device="cuda")
    with watch() as watched:
        for _ in range(2):
            tensor.fill_(1)
            dist.all_reduce(tensor, group=nccl_group)
            dist.broadcast(tensor, 0, group=nccl_group)
            with dist._coalescing_manager(group=nccl_group, device=tensor.device):
                dist.all_reduce(tensor, group=nccl_group)
                dist.all_reduce(other, group=nccl_group)
            tensor.add_(other)
    assert not watched.races


def test_a_training_step_has_no_race_and_its_backward_is_seen(device: Device) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.GELU(), torch.nn.Linear(64, 64)).to("cuda")
    optimizer = torch.optim.AdamW(model.parameters())
    with watch() as watched:
        model(torch.ones(8, 64, device="cuda")).sum()
        forward = watched.actions
        for _ in range(2):
            model(torch.ones(8, 64, device="cuda")).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert not watched.races
    assert watched.actions > 3 * forward


def test_the_backward_of_a_tensor_that_a_side_stream_writes_is_a_race_at_the_line_of_backward(
    side: torch.cuda.Stream,
) -> None:
    weight = torch.ones(COUNT, device="cuda", requires_grad=True)
    factor = torch.ones(COUNT, device="cuda")
    torch.cuda.synchronize()
    loss = (weight * factor).sum()
    torch.cuda.synchronize()
    with watch() as watched:
        with torch.cuda.stream(side):
            factor.detach().data.fill_(2)  # write
        loss.backward()  # backward
        torch.cuda.synchronize()
    assert ("write", "backward") in found_at(watched)


def test_distributed_data_parallel_has_no_race(nccl_group: dist.ProcessGroup) -> None:
    from torch.nn.parallel import DistributedDataParallel

    model = DistributedDataParallel(torch.nn.Linear(64, 64, device="cuda"), process_group=nccl_group)
    with watch() as watched:
        for _ in range(3):
            model(torch.ones(8, 64, device="cuda")).sum().backward()
    assert not watched.races


@_NEEDS_TRITON
def test_a_triton_kernel_on_another_stream_is_a_race(side: torch.cuda.Stream, tensor: Tensor) -> None:
    from tests.support import triton_kernel

    triton_kernel.double(tensor)  # compiles
    torch.cuda.synchronize()
    with watch() as watched:
        tensor.fill_(1)  # write
        with torch.cuda.stream(side):
            triton_kernel.double(tensor)  # kernel
        torch.cuda.synchronize()
    assert names(watched) == {("aten::fill_", "triton::double_kernel")}


@_NEEDS_TRITON
def test_a_compiled_function_runs_within_a_watch(tensor: Tensor) -> None:
    compiled = torch.compile(lambda x: (x + 1) * 2)
    compiled(tensor)
    with watch() as watched:
        compiled(tensor)
    assert not watched.races
