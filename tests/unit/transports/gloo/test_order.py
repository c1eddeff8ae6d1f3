"""The order in which operations over Gloo run: that of the streams, and that of the calls on one communicator."""

from __future__ import annotations

import threading

import pytest
import torch

from nccl_bench.streams import cpu
from nccl_bench.transports.gloo import GlooTransport
from tests.support.gloo_ranks import FLOAT32, SUM, Rank, all_reduce, connect, copy, inputs
from tests.support.stream_control import PATIENCE_S, Gate, finishes_within


def test_an_operation_runs_when_its_stream_reaches_it(transport: GlooTransport, alone: Rank) -> None:
    x, y = torch.ones(3), torch.zeros(3)
    gate = Gate(alone.stream)
    alone.stream.submit(x.fill_, 5.0)
    copy(transport, alone, x, y)
    copied = torch.zeros(3)
    alone.stream.submit(copied.copy_, y)
    assert y.tolist() == [0, 0, 0]
    gate.open()
    alone.stream.synchronize()
    assert copied.tolist() == [5, 5, 5]


def check_runs_in_program_order(transport: GlooTransport, rank: Rank, patience_s: float) -> None:
    first, second = cpu.Stream(), cpu.Stream()
    ones, twos, y = torch.ones(3), torch.full((3,), 2.0), torch.zeros(3)
    gate = Gate(first)
    copy(transport, rank, ones, y, first)
    copy(transport, rank, twos, y, second)
    overtook = finishes_within(second, patience_s)
    gate.open()
    cpu.synchronize()
    assert not overtook
    assert y.tolist() == [2, 2, 2]


def test_operations_of_one_communicator_run_in_program_order_across_streams(
    transport: GlooTransport, alone: Rank
) -> None:
    check_runs_in_program_order(transport, alone, 0.05)
    check_runs_in_program_order(transport, alone, 0.05)


def test_the_check_of_program_order_catches_a_transport_without_it(
    transport: GlooTransport, alone: Rank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu.Stream, "wait_event", lambda self, event: None)
    with pytest.raises(AssertionError):
        check_runs_in_program_order(transport, alone, PATIENCE_S)


def test_the_default_stream_waits_for_other_streams_of_the_communicator(transport: GlooTransport, alone: Rank) -> None:
    ones, twos, y = torch.ones(3), torch.full((3,), 2.0), torch.zeros(3)
    gate = Gate(alone.stream)
    copy(transport, alone, ones, y)
    threading.Timer(0.02, gate.open).start()
    copy(transport, alone, twos, y, cpu.default_stream())
    cpu.synchronize()
    assert y.tolist() == [2, 2, 2]


def test_ranks_match_operations_by_program_order_even_if_streams_are_held(
    transport: GlooTransport, pair: list[Rank]
) -> None:
    firsts, seconds = inputs(3), inputs(5)
    gates = []
    for r, rank in enumerate(pair):
        streams = cpu.Stream(), cpu.Stream()
        gates.append(Gate(streams[r]))  # rank 0's first operation is held, and rank 1's second
        for x, stream in zip((firsts[r], seconds[r]), streams, strict=True):
            transport.all_reduce(x.data_ptr(), x.data_ptr(), x.numel(), FLOAT32, SUM, rank.comm, stream.handle)
    for gate in gates:
        gate.open()
    cpu.synchronize()
    assert firsts[0].tolist() == firsts[1].tolist() == [3, 5, 7]
    assert seconds[0].tolist() == seconds[1].tolist() == [3, 5, 7, 3, 5]


def test_operations_of_two_communicators_are_not_ordered(transport: GlooTransport) -> None:
    held, free = connect(transport, 1)[0], connect(transport, 1)[0]
    x, y = torch.ones(3), torch.zeros(3)
    gate = Gate(held.stream)
    all_reduce(transport, held, torch.ones(3))
    copy(transport, free, x, y)
    assert finishes_within(free.stream, PATIENCE_S)
    assert y.tolist() == [1, 1, 1]
    gate.open()
