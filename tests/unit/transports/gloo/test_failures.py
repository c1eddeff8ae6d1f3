"""Failures and ends of operations over Gloo, and tensors that live until their operations are done."""

from __future__ import annotations

import gc
import threading
import weakref
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.errors import TransportError
from nccl_bench.streams import cpu
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.transports.device import Device
from nccl_bench.transports.gloo import GlooTransport
from tests.support.gloo_ranks import FLOAT32, SUM, Rank, copy
from tests.support.stream_control import Gate


def test_a_failure_is_raised_once_by_the_synchronisation(transport: GlooTransport, alone: Rank) -> None:
    x, number = torch.ones(3).to(torch.float8_e5m2), transport.dtypes["float8_e5m2"]
    transport.all_reduce(x.data_ptr(), x.data_ptr(), 3, number, SUM, alone.comm, alone.stream.handle)
    with pytest.raises(TransportError, match=r"^Gloo: Invalid scalar type") as raised:
        alone.stream.synchronize()
    assert isinstance(raised.value.__cause__, (RuntimeError, ValueError))
    y = torch.zeros(3)
    copy(transport, alone, torch.ones(3), y)
    alone.stream.synchronize()
    assert y.tolist() == [1, 1, 1]


def test_a_failure_on_the_default_stream_is_raised_at_once(transport: GlooTransport, alone: Rank) -> None:
    x = torch.ones(3)
    with pytest.raises(TransportError, match=r"^Gloo: "):
        transport.broadcast(x.data_ptr(), x.data_ptr(), 3, FLOAT32, 5, alone.comm, 0)


def test_an_average_of_integers_fails(transport: GlooTransport, alone: Rank) -> None:
    x, number, op = torch.ones(3, dtype=torch.int32), transport.dtypes["int32"], transport.redops[RedOp.AVG]
    with pytest.raises(TransportError, match=r"^Gloo: "):
        transport.all_reduce(x.data_ptr(), x.data_ptr(), 3, number, op, alone.comm, 0)


def test_work_queued_before_an_abort_fails_instead_of_running(transport: GlooTransport, alone: Rank) -> None:
    x, y = torch.ones(3), torch.zeros(3)
    gate = Gate(alone.stream)
    copy(transport, alone, x, y)
    transport.abort(alone.comm)  # does not wait: the gate is closed
    gate.open()
    with pytest.raises(TransportError, match="aborted before the operation ran"):
        alone.stream.synchronize()
    assert y.tolist() == [0, 0, 0]


def test_destroy_waits_for_the_work(transport: GlooTransport, alone: Rank) -> None:
    x, y = torch.ones(3), torch.zeros(3)
    gate = Gate(alone.stream)
    copy(transport, alone, x, y)
    threading.Timer(0.02, gate.open).start()
    transport.destroy(alone.comm)
    assert y.tolist() == [1, 1, 1]


def check_keeps_tensors_until_they_were_used(communicator: Any, in_group: bool) -> None:
    gc.disable()
    try:
        stream = cpu.Stream()
        gate = Gate(stream)
        x, y = torch.ones(3), torch.zeros(3)
        alive = weakref.ref(x), weakref.ref(y)
        with cpu.stream(stream), communicator._transport.group() if in_group else nullcontext():
            communicator.broadcast(x, 0, y)
            communicator.send_recv(y, x, 0, 0)
            del x, y
            assert None not in (ref() for ref in alive)
        assert None not in (ref() for ref in alive)
        gate.open()
        stream.synchronize()
        assert [ref() for ref in alive] == [None, None]
    finally:
        gc.enable()
        gate.open()
        cpu.synchronize()


@pytest.mark.parametrize("in_group", [False, True])
def test_tensors_live_until_their_operations_are_done(transport: GlooTransport, group: Any, in_group: bool) -> None:
    communicator = StreamFreeCommunicator(group, Device(streams=CpuStreams(), transport=transport))
    check_keeps_tensors_until_they_were_used(communicator, in_group)
    communicator.close()


@pytest.mark.parametrize("in_group", [False, True])
def test_the_check_catches_a_communicator_that_retains_nothing(
    transport: GlooTransport, group: Any, in_group: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    communicator = StreamFreeCommunicator(group, Device(streams=CpuStreams(), transport=transport))
    # The operations would read freed memory, so they are not run.
    monkeypatch.setattr("nccl_bench.transports.gloo.run_group", lambda operations: None)
    monkeypatch.setattr(communicator, "_retain", None)
    with pytest.raises(AssertionError):
        check_keeps_tensors_until_they_were_used(communicator, in_group)
    communicator.close()


def test_unique_ids_are_unique(transport: GlooTransport) -> None:
    ids = {transport.unique_id() for _ in range(10)}
    assert (len(ids), {len(unique_id) for unique_id in ids}) == (10, {128})


def test_gloo_refuses_to_allocate_and_registers_nothing(transport: GlooTransport, alone: Rank) -> None:
    assert transport.window_register(alone.comm, 64, 8) is None
    assert transport.register(alone.comm, 64, 8) == 0
    with pytest.raises(TransportError, match=r"^gloo cannot allocate 8 bytes"):
        transport.mem_alloc(8)


def test_the_transport_describes_itself(transport: GlooTransport) -> None:
    assert transport.describe() == {"name": "gloo", "version": torch.__version__}
