"""The state of a communicator: enabled and disabled, the warm-up that makes it available, and its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nccl_bench.catalog.arms import COORDINATORS
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.over_transport import TransportCommunicator
from nccl_bench.communicators.registry import BUILDERS, build
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.errors import DisabledError, NcclError
from nccl_bench.streams import cpu
from nccl_bench.transports.device import Device, open_device
from nccl_bench.transports.gloo import GlooTransport
from tests.support.communicator_calls import (
    CALLS_ON_A_GIVEN_STREAM,
    COMPLETE_CALLS,
    EVERY_CALL,
    tensors_for,
)
from tests.support.communicators import (
    BOTH_POLICIES,
    CommunicatorMaker,
    called_functions,
)
from tests.support.fake_nccl import Call, FakeNccl
from tests.support.stream_control import (
    Gate,
    PlantedError,
    raise_planted_error,
    record_stream_calls,
)

Kind = type[TransportCommunicator]


# Regression tests of the refactor: a changed state is restored on the way out, under an exception, nested, and with
# None.


def check_restores_its_state(communicator: Any) -> None:
    stream = communicator.stream
    assert not communicator.disabled
    with communicator.change_state(False):
        assert communicator.disabled
        with communicator.change_state(True):
            assert not communicator.disabled
            with communicator.change_state(False):
                assert communicator.disabled
            assert not communicator.disabled
        assert communicator.disabled
        with communicator.change_state():
            assert not communicator.disabled
        assert communicator.disabled
    assert not communicator.disabled
    with pytest.raises(PlantedError), communicator.change_state(False):
        raise PlantedError
    assert not communicator.disabled
    if stream is not None:
        with pytest.raises(PlantedError), communicator.change_state(stream=cpu.Stream()):
            raise PlantedError
        assert communicator.stream is stream


class ForgetsOnAnException(StreamFreeCommunicator):
    """Leaves the state changed after an exception, as engines' communicators did."""

    @contextmanager
    def change_state(self, enable: bool | None = None) -> Iterator[None]:
        before, self.disabled = self.disabled, not (self.available if enable is None else enable)
        yield
        self.disabled = before


class ForgetsTheStreamOnAnException(DedicatedStreamCommunicator):
    @contextmanager
    def change_state(self, enable: bool | None = None, stream: Any = None) -> Iterator[None]:
        before = self.stream
        with TransportCommunicator.change_state(self, enable):
            self.stream = before if stream is None else stream
            yield
            self.stream = before


class DisablesOnNone(StreamFreeCommunicator):
    @contextmanager
    def change_state(self, enable: bool | None = None) -> Iterator[None]:
        with super().change_state(bool(enable)):
            yield


@BOTH_POLICIES
def test_change_state_is_undone_whatever_happens_inside(make: CommunicatorMaker, kind: Kind) -> None:
    check_restores_its_state(make(kind))


@pytest.mark.parametrize("mutant", [ForgetsOnAnException, ForgetsTheStreamOnAnException, DisablesOnNone])
def test_the_check_catches_a_state_that_is_not_restored(make: CommunicatorMaker, mutant: Kind) -> None:
    with pytest.raises(AssertionError):
        check_restores_its_state(make(mutant))


# Regression tests of the refactor: a disabled communicator raises, and leaves its output as it was, byte for byte.


@BOTH_POLICIES
@pytest.mark.parametrize("name", EVERY_CALL)
def test_a_disabled_or_closed_communicator_refuses_and_touches_nothing(
    make: CommunicatorMaker, fake: FakeNccl, kind: Kind, name: str
) -> None:
    communicator = make(kind, world_size=1)  # with one rank, the fake library really writes
    tensors = tensors_for(communicator)
    before = tensors.contents()
    stream = {"stream": cpu.Stream()} if name in CALLS_ON_A_GIVEN_STREAM else {}
    with (
        communicator.change_state(False),
        pytest.raises(DisabledError, match=f"{kind.__name__} is disabled: call it inside"),
    ):
        EVERY_CALL[name].call(communicator, tensors, **stream)
    assert fake.calls() == []
    communicator.close()
    fake.reset()
    with pytest.raises(DisabledError, match=f"{kind.__name__} is closed: make a new one"):
        EVERY_CALL[name].call(communicator, tensors, **stream)
    assert fake.calls() == []
    assert tensors.contents() == before


# Every communicator that runs over Gloo and every call that it has; torch.distributed lacks the out-of-place ones.
OVER_GLOO = [
    (builder, name)
    for builder in sorted(BUILDERS.keys() - COORDINATORS - {"nccl4py"})
    for name in COMPLETE_CALLS
    if not (builder.startswith("process-group") and (name.startswith("outplace") or name.endswith("into out")))
]


@pytest.mark.parametrize(("builder", "name"), OVER_GLOO)
def test_over_gloo_a_disabled_or_closed_communicator_refuses_and_touches_nothing(
    one_rank: dist.ProcessGroup, builder: str, name: str
) -> None:
    communicator = build(builder, one_rank, open_device("cpu", 0))
    tensors = tensors_for(communicator)
    before = tensors.contents()
    with communicator.change_state(False), pytest.raises(DisabledError):
        COMPLETE_CALLS[name].call(communicator, tensors)
    communicator.close()
    with pytest.raises(DisabledError):
        COMPLETE_CALLS[name].call(communicator, tensors)
    assert tensors.contents() == before


@BOTH_POLICIES
def test_registrations_are_refused_when_disabled_or_closed(
    make: Callable[..., Any], fake: FakeNccl, kind: Kind
) -> None:
    communicator = make(kind)
    with communicator.change_state(False):
        for call in (
            lambda: communicator.register_comm_window_raw(64, 8),
            lambda: communicator.register_comm_memory(64, 8),
        ):
            with pytest.raises(DisabledError, match="is disabled: call it inside"):
                call()
        communicator.deregister_comm_window(64)  # a disabled communicator may still deregister
        communicator.deregister_comm_memory(64)
    communicator.close()
    fake.reset()
    for call in (
        lambda: communicator.register_comm_window_raw(64, 8),
        lambda: communicator.deregister_comm_window(64),
        lambda: communicator.register_comm_memory(64, 8),
        lambda: communicator.deregister_comm_memory(64),
    ):
        with pytest.raises(DisabledError, match="is closed"):
            call()
    assert fake.calls() == []


@BOTH_POLICIES
def test_a_closed_communicator_cannot_be_enabled(make: Callable[..., Any], kind: Kind) -> None:
    communicator = make(kind)
    communicator.close()
    with pytest.raises(DisabledError, match="is closed and cannot be enabled"), communicator.change_state(True):
        pytest.fail("the body ran")
    with communicator.change_state():
        assert communicator.disabled


@BOTH_POLICIES
@pytest.mark.parametrize("enable", [None, True, False])
def test_a_communicator_closed_inside_change_state_stays_closed(
    make: Callable[..., Any], kind: Kind, enable: bool | None
) -> None:
    communicator = make(kind)
    with communicator.change_state(enable):
        communicator.close()
        assert communicator.disabled
    assert communicator.disabled
    with pytest.raises(DisabledError, match="is closed"):
        communicator.all_reduce(torch.ones(1))


# The end


@BOTH_POLICIES
@pytest.mark.parametrize(("end", "function"), [("close", "ncclCommDestroy"), ("abort", "ncclCommAbort")])
def test_close_and_abort_destroy_the_communicator_once(
    make: Callable[..., Any], fake: FakeNccl, kind: Kind, end: str, function: str
) -> None:
    communicator = make(kind)
    getattr(communicator, end)()
    communicator.close()
    communicator.abort()
    assert called_functions(fake) == [function]


@BOTH_POLICIES
def test_close_does_not_repeat_a_destroy_that_failed(make: Callable[..., Any], fake: FakeNccl, kind: Kind) -> None:
    communicator = make(kind)
    fake.fail_next("ncclCommDestroy", 3)
    with pytest.raises(NcclError, match="ncclCommDestroy returned 3"):
        communicator.close()
    communicator.close()
    assert called_functions(fake) == ["ncclCommDestroy"]
    assert communicator.disabled


@BOTH_POLICIES
def test_close_waits_for_queued_work(make: Callable[..., Any], kind: Kind) -> None:
    communicator, stream = make(kind), cpu.Stream()
    gate = Gate(stream)
    threading.Timer(0.02, gate.open).start()
    communicator.close()
    assert stream.query()


@BOTH_POLICIES
def test_close_raises_the_error_of_queued_work_and_aborts(make: Callable[..., Any], fake: FakeNccl, kind: Kind) -> None:
    communicator, stream = make(kind), cpu.Stream()
    stream.submit(raise_planted_error)
    with pytest.raises(PlantedError):
        communicator.close()
    assert called_functions(fake) == ["ncclCommAbort"]
    communicator.close()


# The warm-up


@BOTH_POLICIES
def test_the_warm_up_is_one_tiny_all_reduce_ordered_with_its_input(
    one_rank: dist.ProcessGroup, device: Device, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    zeros, written_on = torch.zeros, []

    def recorded(*size: int, **options: Any) -> torch.Tensor:
        if size == (1,):
            written_on.append(cpu.current_stream().handle)
        return zeros(*size, **options)

    monkeypatch.setattr(torch, "zeros", recorded)
    ordering = record_stream_calls(monkeypatch)
    communicator = kind(one_rank, device)
    assert called_functions(fake) == ["ncclGetUniqueId", "ncclCommInitRank", "ncclAllReduce"]
    [warm_up] = fake.calls("ncclAllReduce")
    assert (warm_up.count, warm_up.send) == (1, warm_up.recv)
    assert [warm_up.stream] == written_on
    assert ordering == ["Stream.synchronize"]
    if kind is DedicatedStreamCommunicator:
        assert warm_up.stream == communicator.stream.handle
    assert warm_up.stream != 0


@BOTH_POLICIES
def test_a_warm_up_that_fails_aborts_and_raises(
    one_rank: dist.ProcessGroup, device: Device, fake: FakeNccl, kind: Kind
) -> None:
    fake.fail_next("ncclAllReduce", 6)
    with pytest.raises(NcclError, match="ncclAllReduce returned 6"):
        kind(one_rank, device)
    [warm_up] = fake.calls("ncclAllReduce")
    assert fake.calls()[-1] == Call(function="ncclCommAbort", depth=0, comm=warm_up.comm)


@BOTH_POLICIES
def test_a_warm_up_that_fails_in_its_stream_aborts_and_raises(
    one_rank: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    aborted: list[int] = []
    monkeypatch.setattr(GlooTransport, "abort", lambda self, comm: aborted.append(comm))
    monkeypatch.setattr(
        GlooTransport, "all_reduce", lambda self, *args: cpu.from_handle(args[-1]).submit(raise_planted_error)
    )
    with pytest.raises(PlantedError):
        kind(one_rank, open_device("cpu", 0))
    assert len(aborted) == 1
