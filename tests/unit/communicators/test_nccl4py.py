"""The arm that calls nccl4py's own communicator, over a stand-in for nccl4py."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.communicators.nccl4py import Nccl4pyCommunicator
from nccl_bench.communicators.over_transport import TransportCommunicator
from nccl_bench.communicators.protocol import Communicator
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.errors import DisabledError, InvalidArgumentError, NcclError, SetupError
from nccl_bench.streams import cpu
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.transports.nccl import NcclTransport
from nccl_bench.transports.nccl4py import Nccl4pyTransport
from tests.experiments import binding_cost
from tests.support import fake_nccl4py
from tests.support.communicator_calls import COMPLETE_CALLS, raw_bytes, tensors_for
from tests.support.communicators import (
    BOTH_POLICIES,
    CommunicatorMaker,
    assert_follows_the_current_stream,
    nccl_device,
    one_rank_group,
    pretend_ranks,
)
from tests.support.fake_nccl import Call, FakeNccl

EVERY_CALL = pytest.mark.parametrize("name", [name for name in COMPLETE_CALLS if name != "gather"])


@pytest.fixture
def stand_in(fake: FakeNccl, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Install the stand-in for nccl4py and return ``monkeypatch``."""
    fake_nccl4py.install(monkeypatch, fake.path)
    return monkeypatch


@pytest.fixture(scope="module")
def group() -> Iterator[dist.ProcessGroup]:
    with one_rank_group() as group:
        yield group


@pytest.fixture
def make(group: dist.ProcessGroup, fake: FakeNccl, stand_in: pytest.MonkeyPatch) -> CommunicatorMaker:
    return CommunicatorMaker(group, fake, stand_in)


@EVERY_CALL
def test_every_operation_runs_on_the_current_stream(make: CommunicatorMaker, fake: FakeNccl, name: str) -> None:
    assert_follows_the_current_stream(make(Nccl4pyCommunicator), name, fake)


@pytest.mark.parametrize("op", RedOp)
@EVERY_CALL
def test_the_arm_makes_the_same_nccl_calls_as_the_stream_free_communicator(
    make: CommunicatorMaker, fake: FakeNccl, name: str, op: RedOp
) -> None:
    calls = []
    for kind in (Nccl4pyCommunicator, StreamFreeCommunicator):
        communicator = make(kind)
        tensors = tensors_for(communicator, op=op)
        COMPLETE_CALLS[name].call(communicator, tensors)
        names = {getattr(tensors, tensor).data_ptr(): tensor for tensor in ("part", "out_part", "whole", "out_whole")}
        calls.append([_without_ignored_pointers(call, names) for call in fake.calls()])
    assert calls[0] == calls[1]
    assert calls[0]


def _without_ignored_pointers(call: Call, names: dict[int, str]) -> tuple[object, ...]:
    """Return the call without the pointers that only the root uses, if this rank is not the root."""
    is_ignored = call.root not in (None, 1)
    send = None if is_ignored and call.function == "ncclBroadcast" else names.get(call.send or 0, "within")
    recv = None if is_ignored and call.function == "ncclReduce" else names.get(call.recv or 0, "within")
    return call.function, call.depth, send, recv, call.count, call.dtype, call.op, call.root, call.peer, call.stream


@EVERY_CALL
def test_on_one_rank_the_arm_copies(make: CommunicatorMaker, name: str) -> None:
    communicator: Communicator = make(Nccl4pyCommunicator, world_size=1)
    tensors = tensors_for(communicator)
    operation = COMPLETE_CALLS[name]
    given = raw_bytes(getattr(tensors, operation.source))
    made = operation.call(communicator, tensors)
    assert raw_bytes(getattr(tensors, operation.target)) == given
    assert not isinstance(made, torch.Tensor) or raw_bytes(made) == given


@EVERY_CALL
def test_a_disabled_or_closed_arm_refuses(make: CommunicatorMaker, fake: FakeNccl, name: str) -> None:
    communicator = make(Nccl4pyCommunicator)
    with communicator.change_state(False), pytest.raises(DisabledError, match="is disabled"):
        COMPLETE_CALLS[name].call(communicator, tensors_for(communicator))
    COMPLETE_CALLS[name].call(communicator, tensors_for(communicator))
    communicator.close()
    communicator.close()
    assert len(fake.calls("ncclCommDestroy")) == 1
    fake.reset()
    with pytest.raises(DisabledError, match="is closed: make a new one"):
        COMPLETE_CALLS[name].call(communicator, tensors_for(communicator))
    assert fake.calls() == []


@pytest.mark.parametrize(
    ("name", "function", "method"),
    [
        ("all_reduce", "ncclAllReduce", "allreduce"),
        ("all_gather", "ncclAllGather", "allgather"),
        ("all_gather with sizes", "ncclGroupEnd", "gather_blocks"),
    ],
)
def test_a_failing_call_of_the_arm_is_an_error_in_one_line(
    make: CommunicatorMaker, fake: FakeNccl, name: str, function: str, method: str
) -> None:
    communicator = make(Nccl4pyCommunicator)
    fake.fail_next(function, 5)
    fake.set_last_error("peer 3 is gone")
    message = rf"^{method} returned 5 \(invalid usage\): peer 3 is gone$"
    with pytest.raises(NcclError, match=message):
        COMPLETE_CALLS[name].call(communicator, tensors_for(communicator))


def test_a_call_that_nccl4py_refuses_is_an_argument_error(make: CommunicatorMaker) -> None:
    communicator = make(Nccl4pyCommunicator)
    with pytest.raises(InvalidArgumentError, match=r"^nccl4py refused allgather: Buffer count mismatch"):
        communicator.all_gather(torch.zeros(3), torch.zeros(2))


def test_an_arm_that_cannot_be_made_is_an_error_in_one_line(make: CommunicatorMaker, fake: FakeNccl) -> None:
    fake.fail_next("ncclCommInitRank", 2)
    with pytest.raises(NcclError, match=r"^making a communicator returned 2 \(unhandled system error\)$"):
        make(Nccl4pyCommunicator)


def test_every_rank_gets_the_unique_id_of_rank_0(
    make: CommunicatorMaker, fake: FakeNccl, group: dist.ProcessGroup
) -> None:
    Nccl4pyCommunicator(group, make.device)
    [made] = fake.calls("ncclCommInitRank")
    assert (made.nranks, made.rank, made.id) == (1, 0, bytes(0 if i == 64 else i + 1 for i in range(128)))


def test_ranks_after_the_first_make_no_unique_id(
    make: CommunicatorMaker, fake: FakeNccl, group: dist.ProcessGroup, stand_in: pytest.MonkeyPatch
) -> None:
    pretend_ranks(stand_in)
    Nccl4pyCommunicator(group, make.device)
    assert fake.calls("ncclGetUniqueId") == []
    assert [(call.nranks, call.rank) for call in fake.calls("ncclCommInitRank")] == [(4, 1)]


def test_an_arm_whose_work_failed_is_aborted(
    make: CommunicatorMaker, fake: FakeNccl, stand_in: pytest.MonkeyPatch
) -> None:
    communicator = make(Nccl4pyCommunicator)

    def fail() -> None:
        raise ZeroDivisionError

    stand_in.setattr(CpuStreams, "synchronize", staticmethod(fail))
    with pytest.raises(ZeroDivisionError):
        communicator.close()
    assert [call.function for call in fake.calls()] == ["ncclCommAbort"]


# The experiment


def test_a_missing_part_of_nccl4py_is_an_error_in_one_line(
    group: dist.ProcessGroup, fake: FakeNccl, stand_in: pytest.MonkeyPatch
) -> None:
    stand_in.setitem(sys.modules, "nccl.core", None)
    with pytest.raises(SetupError, match=r"^nccl4py .* cannot be imported \(.*nccl\.core.*\): pip install"):
        Nccl4pyCommunicator(group, nccl_device(fake.path))


@BOTH_POLICIES
def test_a_failed_all_reduce_over_the_nccl4py_transport_is_our_error(
    group: dist.ProcessGroup, fake: FakeNccl, stand_in: pytest.MonkeyPatch, kind: type[TransportCommunicator]
) -> None:
    device = nccl_device(fake.path)
    assert isinstance(device.transport, NcclTransport)
    communicator: Any = kind(group, replace(device, transport=Nccl4pyTransport(device.transport.library)))
    fake.fail_next("ncclAllReduce", 6)
    with pytest.raises(NcclError, match=r"^ncclAllReduce returned 6"):
        communicator.all_reduce(torch.ones(2))
    with communicator.traced() as calls:
        communicator.all_reduce(torch.ones(2))
    assert [name for name, _ in calls] == ["all_reduce"]


def test_the_binding_experiment_measures_c_and_every_binding_on_the_current_stream(
    group: dist.ProcessGroup, fake: FakeNccl, stand_in: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    device = nccl_device(fake.path)
    stream = cpu.Stream()
    with cpu.stream(stream):
        measured = binding_cost.calls(group, device, tmp_path)
        fake.reset()
        times, lost = binding_cost.measure(device, measured, batches=2, count=3, gate=1)
    bindings = [name.partition(":")[0] for name in times]
    assert lost + sum(map(len, times.values())) == 2 * len(times)
    assert bindings.count("nccl") == bindings.count("nccl4py") > 0
    assert bindings.count("C") == 2
    # Everything runs in two pilots and two batches of three.
    all_reduces = fake.calls("ncclAllReduce")
    assert len(all_reduces) == 4 * 3 * sum("all_reduce" in name for name in times)
    assert {(call.count, call.dtype, call.op) for call in all_reduces} == {(2, 7, 0)}
    on_current_stream = [call for call in all_reduces if call.stream == stream.handle]
    assert len(on_current_stream) == 4 * 3 * sum("all_reduce" in name and "dedicated" not in name for name in times)
