"""torch.distributed behind the protocol, over Gloo."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.communicators.torch_distributed import _DST, ProcessGroupCommunicator
from nccl_bench.errors import DisabledError
from nccl_bench.streams import cpu
from nccl_bench.transports.device import open_device
from tests.support.communicator_calls import (
    HALF_CALLS,
    tensors_for,
)
from tests.support.stream_control import (
    Gate,
)


@pytest.fixture
def process_group(one_rank: dist.ProcessGroup) -> Iterator[ProcessGroupCommunicator]:
    communicator = ProcessGroupCommunicator(one_rank, open_device("cpu", 0))
    yield communicator
    communicator.close()


@pytest.mark.parametrize("name", HALF_CALLS)
def test_send_and_recv_are_refused_when_disabled_or_closed(process_group: ProcessGroupCommunicator, name: str) -> None:
    tensors = tensors_for(process_group)
    before = tensors.contents()
    with process_group.change_state(False), pytest.raises(DisabledError, match="is disabled"):
        HALF_CALLS[name].call(process_group, tensors)
    process_group.close()
    with pytest.raises(DisabledError, match="is closed"):
        HALF_CALLS[name].call(process_group, tensors)
    assert tensors.contents() == before


@pytest.mark.parametrize(("name", "function"), [("send", dist.isend), ("recv", dist.irecv)])
def test_send_and_recv_run_in_the_order_of_the_current_stream_and_are_joined(
    process_group: ProcessGroupCommunicator, monkeypatch: pytest.MonkeyPatch, name: str, function: object
) -> None:
    events: list[object] = []

    class Work:
        def wait(self) -> None:
            events.append("joined")

    def begin(operations: list[dist.P2POp]) -> list[Work]:
        events.extend((o.op, o.tensor.data_ptr(), o.peer, o.group) for o in operations)
        return [Work()]

    monkeypatch.setattr(dist, "batch_isend_irecv", begin)
    caller, tensor = cpu.Stream(), torch.ones(3)
    gate = Gate(caller)
    with cpu.stream(caller):
        getattr(process_group, name)(tensor, 0)
    before = list(events)
    gate.open()
    caller.synchronize()
    assert before == []
    assert events == [(function, tensor.data_ptr(), 0, process_group._group), "joined"]


def test_gather_hands_views_of_the_output_to_torch_on_the_root_and_nothing_elsewhere(
    process_group: ProcessGroupCommunicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(dist, "gather", lambda *tensors, **options: calls.append((*tensors, options[_DST])))
    output, given = torch.zeros(6), torch.ones(2)
    process_group.world_size, process_group._numbers = 3, range(3)
    for rank in (0, 1):
        process_group.rank = rank
        process_group.gather(output, given, 1)
    cpu.synchronize()
    elsewhere, (source, blocks, root) = calls
    assert elsewhere == (given, None, 1)
    assert (source is given, root) == (True, 1)
    assert [(block.data_ptr(), block.shape) for block in blocks] == [
        (output.data_ptr() + 8 * rank, given.shape) for rank in range(3)
    ]


def test_reduce_scatter_with_sizes_does_not_change_its_input(
    process_group: ProcessGroupCommunicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With one rank a reduction changes nothing, so this one leaves a partial result.
    monkeypatch.setattr(dist, "reduce", lambda block, **_options: block.add_(1))
    given, output = torch.arange(6.0).view(2, 3), torch.zeros(2, 3)
    process_group.reduce_scatter(output, given, RedOp.SUM, [2])
    assert output.flatten().tolist() == [1, 2, 3, 4, 5, 6]
    assert given.flatten().tolist() == [0, 1, 2, 3, 4, 5]
