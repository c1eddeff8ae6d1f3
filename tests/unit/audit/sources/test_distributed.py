"""torch.distributed over Gloo: a collective runs beside the host until its Work is waited for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from nccl_bench.audit import watch
from tests.support.audited import found_at

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.usefixtures("one_rank"),
    # torch 2.13 renames some collectives; older versions have only the old names.
    pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.distributed._all_gather_base:UserWarning"),
]


def test_an_asynchronous_collective_that_is_never_waited_for_is_a_race() -> None:
    tensor = torch.zeros(8)
    with watch() as watched:
        tensor.fill_(1)
        dist.all_reduce(tensor, async_op=True)  # collective
        tensor.add_(1)  # consumer
    assert found_at(watched) == {("collective", "consumer")}


def test_a_read_beside_a_collective_that_only_reads_is_no_race() -> None:
    tensor, output = torch.zeros(8), torch.zeros(8)
    with watch() as watched:
        work = dist.all_gather_into_tensor(output, tensor, async_op=True)
        tensor + 1
        assert work is not None
        work.wait()
        output + 1
    assert not watched.races


def test_a_wait_for_another_work_does_not_help() -> None:
    first, second = torch.zeros(8), torch.zeros(8)
    with watch() as watched:
        dist.all_reduce(first, async_op=True)
        work = dist.all_reduce(second, async_op=True)  # second collective
        early = dist.all_reduce(torch.zeros(8), async_op=True)
        assert early is not None
        assert work is not None
        second.add_(1)  # before the wait
        early.wait()
        work.wait()
        second.add_(1)
    assert found_at(watched) == {("second collective", "before the wait")}


def test_synchronous_and_coalesced_collectives_are_ordered_when_they_return() -> None:
    first, second = torch.zeros(8), torch.zeros(8)
    with watch() as watched:
        dist.all_reduce(first)
        first.add_(1)
        with dist._coalescing_manager():
            dist.all_reduce(first)
            dist.all_reduce(second)
        first.add_(1)
        second.add_(1)
        dist.broadcast(first, src=0)
        first.add_(1)
        dist.barrier()
    assert not watched.races


def test_a_coalesced_collective_that_is_not_waited_for_is_a_race() -> None:
    first, second = torch.zeros(8), torch.zeros(8)
    with watch() as watched:
        with dist._coalescing_manager(async_ops=True) as coalesced:  # coalesced
            dist.all_reduce(first)
            dist.all_reduce(second)
        second.add_(1)  # consumer
        coalesced.wait()
        first.add_(1)
    assert found_at(watched) == {("coalesced", "consumer")}


def test_a_functional_collective_is_ordered_by_the_use_of_its_result(one_rank: dist.ProcessGroup) -> None:
    tensor = torch.zeros(8)
    with watch() as watched:
        reduced = functional.all_reduce(tensor, "sum", one_rank)
        reduced + 1
    assert not watched.races


def data_parallel(model: torch.nn.Module) -> torch.nn.Module:
    return DistributedDataParallel(model)


def fully_sharded(model: torch.nn.Module) -> torch.nn.Module:
    # Every process of the tests imports this module, and the next import takes a second.
    from torch.distributed.fsdp import fully_shard

    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    return model


def tensor_parallel(model: torch.nn.Module) -> torch.nn.Module:
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    plan = {"0": ColwiseParallel(), "1": RowwiseParallel()}
    return parallelize_module(model, init_device_mesh("cpu", (1,)), plan)


_TORCH_2_6 = pytest.mark.skipif(
    torch.__version__ < "2.6",
    reason="torch 2.5 has no fully_shard here, and its tensor parallelism fails on a mesh of one rank",
)


@pytest.mark.parametrize(
    "parallel",
    [
        data_parallel,
        pytest.param(fully_sharded, marks=_TORCH_2_6),
        pytest.param(tensor_parallel, marks=_TORCH_2_6),
    ],
)
def test_torchs_own_ways_to_train_in_parallel_have_no_race(
    parallel: Callable[[torch.nn.Module], torch.nn.Module],
) -> None:
    model = parallel(torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)))
    optimizer = torch.optim.AdamW(model.parameters())
    with watch() as watched:
        for _ in range(2):
            model(torch.ones(4, 8)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert not watched.races


def test_the_methods_of_torch_are_as_before_after_the_watch() -> None:
    wait, all_reduce = dist.Work.wait, dist.ProcessGroup.allreduce
    with watch():
        assert dist.Work.wait is not wait
    assert dist.Work.wait is wait
    assert dist.ProcessGroup.allreduce is all_reduce
    dist.all_reduce(torch.zeros(8))
