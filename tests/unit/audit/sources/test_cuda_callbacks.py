"""torch's callbacks about CUDA, and the place of works between them, with a pretended GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.cuda._gpu_trace as gpu_trace
import torch.distributed as dist

from nccl_bench.audit import Watch, watch
from nccl_bench.audit.sources.operators import Operators
from tests.support.audited import found_at
from tests.support.pretended_gpu import PretendedGpu, pretend

pytestmark = pytest.mark.timeout(60)
PRIVATE, FORK, END, FUTURE = 7, 100, 101, 102  # a stream and three events


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> PretendedGpu:
    return pretend(monkeypatch)


def test_events_order_streams(gpu: PretendedGpu) -> None:
    tensor = torch.zeros(8)
    with watch() as watched:
        tensor.fill_(1)
        gpu.record(FORK, 0)
        gpu.wait(FORK, PRIVATE)
        with gpu.on(PRIVATE):
            tensor.add_(1)  # on a side stream
        tensor.mul_(2)  # without a join
    assert found_at(watched) == {("on a side stream", "without a join")}


def test_a_wait_of_the_host_within_an_operator_follows_its_work(
    gpu: PretendedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `item` copies to the host, and torch reports the synchronisation before the operator returns.
    call = Operators.call

    def synchronizing(operators: Operators, func: Any, args: Any, kwargs: Any) -> Any:
        def also(*args: Any, **kwargs: Any) -> Any:
            result = func(*args, **kwargs)
            gpu.synchronize(PRIVATE)
            return result

        also._schema = func._schema  # type: ignore[attr-defined]
        return call(operators, also if "_local_scalar_dense" in func._schema.name else func, args, kwargs)

    monkeypatch.setattr(Operators, "call", synchronizing)
    tensor = torch.zeros(1)
    with watch() as watched:
        with gpu.on(PRIVATE):
            tensor.fill_(1)
            tensor.item()
        tensor.add_(1)
    assert not watched.races


def nccl(gpu: PretendedGpu, monkeypatch: pytest.MonkeyPatch, *, private: bool) -> None:
    """Let the all-reduces of torch.distributed report what ProcessGroupNCCL does."""
    call = Operators.call

    def forking(operators: Operators, func: Any, args: Any, kwargs: Any) -> Any:
        if func._schema.name != "c10d::allreduce_":
            return call(operators, func, args, kwargs)

        def also(*args: Any, **kwargs: Any) -> Any:
            if private:
                gpu.record(FORK, gpu.current)
                gpu.wait(FORK, PRIVATE)
            result = func(*args, **kwargs)
            for event in (END, FUTURE):
                gpu.record(event, PRIVATE if private else gpu.current)
            return result

        also._schema = func._schema  # type: ignore[attr-defined]
        return call(operators, also, args, kwargs)

    monkeypatch.setattr(Operators, "call", forking)


def names(watched: Watch) -> list[tuple[str, str]]:
    return [(race.first.work.name, race.second.work.name) for race in watched.races]


@pytest.mark.parametrize("waits", [True, False])
def test_an_asynchronous_collective_runs_on_the_stream_of_its_end(
    gpu: PretendedGpu, monkeypatch: pytest.MonkeyPatch, one_rank: dist.ProcessGroup, waits: bool
) -> None:
    nccl(gpu, monkeypatch, private=True)
    tensor = torch.zeros(8)
    with watch() as watched:
        tensor.fill_(1)
        dist.all_reduce(tensor, async_op=True)
        if waits:
            gpu.wait(END, 0)
        tensor.add_(1)
    assert names(watched) == ([] if waits else [("c10d::allreduce_", "aten::add_")])


def test_a_synchronous_collective_runs_on_the_current_stream(
    gpu: PretendedGpu, monkeypatch: pytest.MonkeyPatch, one_rank: dist.ProcessGroup
) -> None:
    nccl(gpu, monkeypatch, private=False)
    tensor = torch.zeros(8)
    with watch() as watched:
        with gpu.on(PRIVATE):
            tensor.fill_(1)
            dist.all_reduce(tensor)
        tensor.add_(1)
    assert names(watched) == [("c10d::allreduce_", "aten::add_")]


def test_the_callbacks_are_gone_after_the_watch(gpu: PretendedGpu) -> None:
    registries: list[Callable[..., Any]] = gpu_trace.EventRecordCallbacks.callback_list
    before = list(registries)
    with watch():
        assert len(registries) == len(before) + 1
    assert registries == before


def test_the_actions_of_an_operator_that_fails_are_kept(gpu: PretendedGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Operators.call

    def failing(operators: Operators, func: Any, args: Any, kwargs: Any) -> Any:
        def waits_and_fails(*args: Any, **kwargs: Any) -> Any:
            gpu.synchronize(PRIVATE)
            raise RuntimeError

        waits_and_fails._schema = func._schema  # type: ignore[attr-defined]
        return call(operators, waits_and_fails if func._schema.name == "aten::neg" else func, args, kwargs)

    monkeypatch.setattr(Operators, "call", failing)
    tensor = torch.zeros(8)
    with watch() as watched:
        with gpu.on(PRIVATE):
            tensor.fill_(1)
            with pytest.raises(RuntimeError):
                tensor.neg()
        tensor.add_(1)
    assert not watched.races
