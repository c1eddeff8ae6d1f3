"""The calls that arms make to NCCL's library, on rank 1 of 4, over a fake library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch.distributed as dist
from torch import Tensor

from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import COLLECTIVES, RedOp
from nccl_bench.streams import cpu
from tests.support.arm_cases import COUNT, EVERY_COLLECTIVE, UNORDERED, buffers, case, placed
from tests.support.communicators import PRETENDED_RANK, nccl_device, pretend_ranks
from tests.support.fake_nccl import Call, FakeNccl


@pytest.fixture
def make_nccl(one_rank: dist.ProcessGroup, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Arm]:
    pretend_ranks(monkeypatch)
    device = nccl_device(fake.path)
    return lambda name: Arm(name, one_rank, device)


def calls_of(arm: Arm, what: Case, x: Tensor, y: Any, fake: FakeNccl) -> list[Call]:
    """Return the library's calls of one bound operation, without the communicator's handle."""
    operation = arm.bind(what, x, y)
    fake.reset()
    operation()
    return [replace(call, comm=None) for call in fake.calls()]


@EVERY_COLLECTIVE
def test_the_transport_arm_makes_the_calls_of_the_stream_free_one(
    make_nccl: Callable[[str], Arm], fake: FakeNccl, collective: str
) -> None:
    stream_free, transport = make_nccl("stream-free"), make_nccl("transport")
    stream = cpu.Stream()
    for each in placed("transport", collective):
        what = case(collective, placement=each.placement, redop=RedOp.MAX, root=2, world_size=4)
        x, y = buffers(what, 4, PRETENDED_RANK)
        with cpu.stream(stream):
            expected = calls_of(stream_free, what, x, y, fake)
            assert calls_of(transport, what, x, y, fake) == expected
            fake.reset()
            operation = transport.bind(what, x, y)
            assert fake.calls() == []  # recording calls nothing
        operation()  # another stream is current, and the arm does not ask for it
        assert [replace(call, comm=None) for call in fake.calls()] == expected
        assert {call.stream for call in expected} - {None} == {stream.handle}
        # The communicator still works without a recording.
        fake.reset()
        transport.communicator.all_reduce(x)
        assert [call.function for call in fake.calls()] == ["ncclAllReduce"]


@pytest.mark.parametrize("name", ["stream-free", "dedicated-stream", "transport", UNORDERED])
@EVERY_COLLECTIVE
def test_the_case_decides_the_arguments_of_the_library_s_calls(
    make_nccl: Callable[[str], Arm], fake: FakeNccl, name: str, collective: str
) -> None:
    arm = make_nccl(name)
    row = COLLECTIVES[collective]
    for each in placed(name, collective):
        what = case(collective, placement=each.placement, dtype="bfloat16", redop=RedOp.MIN, root=2, world_size=4)
        x, y = buffers(what, 4, PRETENDED_RANK)
        calls = [call for call in calls_of(arm, what, x, y, fake) if call.count is not None]
        if row.uneven_form_of is not None:
            # A call for each rank's block, in one group.
            assert [call.count for call in calls] == row.block_counts(COUNT, 4)
            assert [(call.root, call.op) for call in calls] == [(root, 3 if row.reduces else None) for root in range(4)]
            continue
        assert len(calls) == (2 if collective == "send_recv" else 1)
        for call in calls:
            assert (call.count, call.dtype) == (COUNT, 9)
            assert call.send in (x.data_ptr(), None)
            assert y is None or call.recv in (y.data_ptr(), None)
            assert y is not None or call.recv != x.data_ptr()
            assert call.op == (3 if row.reduces else None)
            assert call.root == (2 if row.rooted and collective != "gather" else None)
        if collective == "gather":
            assert [(call.function, call.peer) for call in calls] == [("ncclSend", 2)]
        if collective == "send_recv":
            assert [(call.function, call.peer) for call in calls] == [("ncclSend", 2), ("ncclRecv", 0)]
