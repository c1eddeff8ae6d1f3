"""The scenario contended: the collectives of two communicators, one after the other or at once."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist

from nccl_bench.arms.arm import Arm
from nccl_bench.bench.buffers import CaseBuffers
from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.scenarios.contended import ContendedWork
from nccl_bench.bench.scenarios.work import Surroundings
from nccl_bench.bench.timing import Clock
from nccl_bench.catalog.cases import Case
from nccl_bench.config.run import RunConfig, resolve
from nccl_bench.plan.cases import make_plan
from nccl_bench.plan.memory import Arena
from nccl_bench.ranks.control import Control
from nccl_bench.streams import cpu
from nccl_bench.streams.base import Streams
from nccl_bench.transports.device import open_device
from tests.support.stream_control import PATIENCE_S, Gate

ARMS = ("stream-free", "dedicated-stream", "torch-async")


def planned(streams: int) -> tuple[RunConfig, Case]:
    few = {"sizes": "1K", "dtypes": "float32", "placements": "out-of-place", "collectives": "all_gather"}
    config = resolve("cpu", {"scenario": "contended", "streams": streams, **few})
    (case,) = (each.case for each in make_plan(config, 1).cases)
    return config, case


def made(
    one_rank: dist.ProcessGroup, config: RunConfig, case: Case, streams: Streams, caller: cpu.Stream, **more: Any
) -> ContendedWork:
    return ContendedWork(
        Surroundings(
            config=config,
            case=case,
            plan=make_plan(config, 1).cases[0].work,
            own_set=Control(one_rank),
            streams=streams,
            clock=Clock(streams, caller, lambda: None),
            **more,
        )
    )


def contended(one_rank: dist.ProcessGroup, name: str, streams: int) -> tuple[Any, ...]:
    """Return a call, the outputs of its two collectives, the caller's streams, and the arms to close."""
    device, caller, side = open_device("cpu", 0), cpu.Stream(), cpu.Stream()
    config, case = planned(streams)
    arm, second = Arm(name, one_rank, device), Arm(name, one_rank, device)
    work = made(one_rank, config, case, device.streams, caller, side=side, second_arms={name: second})
    buffers = CaseBuffers(case, Arena(slots=1, slot_bytes=1024, regions=2), 0, 1, torch.device("cpu"))
    with cpu.stream(caller):
        (call,) = work.calls(arm, case, buffers, 1)
    of_second = work._buffers[case.placement]
    outputs = (buffers.pair(0, case.placement)[1], of_second.pair(0, case.placement)[1])
    return call, outputs, caller, side, (arm, second), buffers


def test_the_buffers_of_the_second_collective_are_made_before_a_capture(one_rank: dist.ProcessGroup) -> None:
    config, case = planned(streams=1)
    work = made(one_rank, config, case, open_device("cpu", 0).streams, cpu.Stream())
    buffers = CaseBuffers(case, Arena(slots=1, slot_bytes=1024, regions=2), 0, 1, torch.device("cpu"))
    arms = SimpleNamespace(present=lambda names: names)
    context = SimpleNamespace(arms=arms, buffers=buffers, case_of=lambda _name: case)
    work.prepare(cast(CaseContext, context), ["stream-free"])
    before = work._buffers[case.placement]
    assert work._buffers_of(case, buffers) is before


def is_poisoned(output: torch.Tensor) -> bool:
    return bool(torch.isnan(output).any())


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("streams", [1, 2])
def test_both_communicators_send_and_the_caller_s_stream_waits_for_both(
    one_rank: dist.ProcessGroup, name: str, streams: int
) -> None:
    call, outputs, caller, _side, arms, buffers = contended(one_rank, name, streams)
    seen = [torch.zeros_like(output) for output in outputs]
    with cpu.stream(caller):
        call()
        for copy, output in zip(seen, outputs, strict=True):
            caller.submit(copy.copy_, output)
        caller.synchronize()
    for copy in seen:
        assert torch.equal(copy, buffers.expected)
    assert outputs[0].data_ptr() != outputs[1].data_ptr()
    for arm in arms:
        arm.close()


@pytest.mark.parametrize(("streams", "is_free"), [(1, False), (2, True)])
def test_only_on_two_streams_the_second_collective_can_pass_the_first(
    one_rank: dist.ProcessGroup, streams: int, is_free: bool
) -> None:
    call, outputs, caller, side, arms, _ = contended(one_rank, "stream-free", streams)
    # The first collective is held back: on the caller's second stream, or on its only one.
    gate = Gate(side if streams == 2 else caller)
    with cpu.stream(caller):
        call()
    give_up = time.monotonic() + (PATIENCE_S / 2 if is_free else 0.03)
    # Poison is NaN.
    while is_poisoned(outputs[1]) and time.monotonic() < give_up:
        time.sleep(0.001)
    passed = not is_poisoned(outputs[1])
    gate.open()
    cpu.synchronize()
    assert passed is is_free
    for arm in arms:
        arm.close()


def test_one_stream_comes_before_two_in_the_plan() -> None:
    config = resolve("cpu", {"scenario": "contended", "sizes": "8,64"})
    cases = [(each.case.streams, each.case.size_bytes) for each in make_plan(config, 2).cases]
    assert cases == [(1, 8), (1, 64), (2, 8), (2, 64)]
