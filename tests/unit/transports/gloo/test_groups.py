"""Groups of calls over Gloo, and messages of a rank to itself."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from nccl_bench.errors import TransportError
from nccl_bench.streams import cpu
from nccl_bench.transports.gloo import GlooTransport
from tests.support.gloo_ranks import FLOAT32, Rank, connect, copy, inputs
from tests.support.stream_control import PATIENCE_S, Gate


def test_a_group_holds_operations_back_until_its_outermost_end(transport: GlooTransport, alone: Rank) -> None:
    y = torch.zeros(3)
    transport.group_start()
    transport.group_start()
    copy(transport, alone, torch.ones(3), y, cpu.default_stream())
    transport.group_end()
    assert y.tolist() == [0, 0, 0]
    transport.group_end()
    assert y.tolist() == [1, 1, 1]
    with pytest.raises(TransportError, match="without an open group: call group_start first"):
        transport.group_end()


def test_a_group_belongs_to_its_thread(transport: GlooTransport, alone: Rank) -> None:
    x, y = torch.ones(3), torch.zeros(3)
    with transport.group():
        thread = threading.Thread(target=copy, args=(transport, alone, x, y, cpu.default_stream()))
        thread.start()
        thread.join(PATIENCE_S)
        assert y.tolist() == [1, 1, 1]


def test_a_group_over_two_streams_and_two_communicators_runs_on_each_stream(transport: GlooTransport) -> None:
    ranks = [connect(transport, 1)[0], connect(transport, 1)[0]]
    xs, ys = inputs(3), [torch.zeros(3), torch.zeros(3)]
    gates = [Gate(rank.stream) for rank in ranks]
    with transport.group():
        for rank, x, y in zip(ranks, xs, ys, strict=True):
            copy(transport, rank, x, y)
    gates[1].open()
    ranks[1].stream.synchronize()
    assert [ys[0].tolist(), ys[1].tolist()] == [[0, 0, 0], xs[1].tolist()]
    gates[0].open()
    ranks[0].stream.synchronize()
    assert ys[0].tolist() == xs[0].tolist()


def exchange_with_itself(transport: GlooTransport, rank: Rank, calls: list[tuple[str, Tensor]]) -> None:
    with transport.group():
        for method, tensor in calls:
            getattr(transport, method)(tensor.data_ptr(), tensor.numel(), FLOAT32, 0, rank.comm, rank.stream.handle)


@pytest.mark.parametrize("order", ["send first", "recv first"])
def test_a_rank_sends_to_itself(transport: GlooTransport, pair: list[Rank], order: str) -> None:
    sent, received = inputs(3), [torch.zeros(3), torch.zeros(3)]
    ends = [*(("send", x) for x in sent), *(("recv", y) for y in received)]
    exchange_with_itself(transport, pair[0], ends if order == "send first" else ends[2:] + ends[:2])
    pair[0].stream.synchronize()
    assert [y.tolist() for y in received] == [x.tolist() for x in sent]


@pytest.mark.parametrize("method", ["send", "recv"])
def test_a_message_to_itself_with_only_one_end_is_an_error(transport: GlooTransport, alone: Rank, method: str) -> None:
    x, y = torch.ones(3), torch.zeros(3)
    exchange_with_itself(transport, alone, [(method, x)])
    with pytest.raises(
        TransportError, match=r"^Gloo: rank 0 sends .* to itself .* issue each send and its receive in one group"
    ):
        alone.stream.synchronize()
    exchange_with_itself(transport, alone, [("send", x), ("recv", y)])
    alone.stream.synchronize()
    assert y.tolist() == [1, 1, 1]
