"""A communicator that calls libnccl through ctypes, with a private stream, as engines do."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nccl_bench.audit import watch
from nccl_bench.audit.order.actions import WorkLaunched
from nccl_bench.audit.order.races import RaceKind
from nccl_bench.streams import cpu
from nccl_bench.transports.nccl import DataType, UniqueId
from tests.support.audited import found_at

FLOAT = DataType.FLOAT32.value
pytestmark = pytest.mark.timeout(60)


class PrivateStreamCommunicator:
    """The classes of the engines in a few lines. Functions are fetched once; arguments are objects of ctypes."""

    def __init__(self, path: Path, world_size: int = 1, rank: int = 0) -> None:
        self.library = ctypes.CDLL(str(path))
        self.functions = {
            name: getattr(self.library, name)
            for name in ("ncclAllReduce", "ncclAllGather", "ncclBroadcast", "ncclReduce", "ncclReduceScatter")
        }
        self.comm = ctypes.c_void_p()
        self.library.ncclCommInitRank(ctypes.byref(self.comm), world_size, UniqueId(), rank)
        self.stream = cpu.Stream()

    def all_reduce(self, tensor: Tensor) -> None:
        pointer, stream = ctypes.c_void_p(tensor.data_ptr()), ctypes.c_void_p(self.stream.handle)
        self.functions["ncclAllReduce"](pointer, pointer, ctypes.c_size_t(tensor.numel()), FLOAT, 0, self.comm, stream)

    def call(self, name: str, *args: Any) -> None:
        """Call a function with the communicator and the private stream."""
        converted = [ctypes.c_size_t(arg) if isinstance(arg, int) else arg for arg in args]
        self.functions[name](*converted, self.comm, ctypes.c_void_p(self.stream.handle))


@pytest.fixture
def communicator(fake_nccl_path: Path) -> PrivateStreamCommunicator:
    return PrivateStreamCommunicator(fake_nccl_path)


def step(communicator: PrivateStreamCommunicator, *, forks: bool, joins: bool) -> None:
    caller = cpu.Stream()
    tensor = torch.zeros(8)
    with watch() as watched:
        caller.submit(tensor.fill_, 1)  # producer
        if forks:
            communicator.stream.wait_stream(caller)
        communicator.all_reduce(tensor)  # collective
        if joins:
            caller.wait_stream(communicator.stream)
        caller.submit(tensor.add_, 1)  # consumer
    expected = set()
    if not forks:
        expected.add(("producer", "collective"))
    if not joins:
        expected.add(("collective", "consumer"))
    assert found_at(watched) == expected


@pytest.mark.parametrize("joins", [True, False])
@pytest.mark.parametrize("forks", [True, False])
def test_each_missing_half_of_the_order_is_named_with_the_lines_of_the_caller(
    communicator: PrivateStreamCommunicator, forks: bool, joins: bool
) -> None:
    step(communicator, forks=forks, joins=joins)


def test_functions_of_the_library_are_as_before_after_the_watch(communicator: PrivateStreamCommunicator) -> None:
    kind = type(communicator.functions["ncclAllReduce"])
    with watch():
        assert "__call__" in vars(kind)
    assert "__call__" not in vars(kind)
    assert "watched" not in vars(ctypes.CDLL)["__getattr__"].__qualname__


def test_a_library_that_is_loaded_within_the_watch_is_watched(fake_nccl_path: Path) -> None:
    with watch() as watched:
        communicator = PrivateStreamCommunicator(fake_nccl_path)
        tensor = torch.zeros(8)
        communicator.all_reduce(tensor)  # collective
        tensor + 1  # read
    assert found_at(watched) == {("collective", "read")}


def test_a_failed_call_is_no_work(communicator: PrivateStreamCommunicator, fake: Any) -> None:
    tensor = torch.zeros(8)
    fake.fail_next("ncclAllReduce", 5)
    with watch() as watched:
        communicator.all_reduce(tensor)
        tensor + 1
    assert not watched.races


@pytest.mark.parametrize(
    ("name", "args", "reads", "writes"),
    [
        ("ncclAllGather", (1000, 2000, 4, FLOAT), {1000: 16}, {2000: 48}),
        ("ncclReduceScatter", (1000, 2000, 4, FLOAT, 0), {1000: 48}, {2000: 16}),
        ("ncclBroadcast", (1000, 2000, 4, FLOAT, 1), {1000: 16}, {2000: 16}),
        ("ncclBroadcast", (1000, 2000, 4, FLOAT, 0), {}, {2000: 16}),
        ("ncclReduce", (1000, 2000, 4, FLOAT, 0, 1), {1000: 16}, {2000: 16}),
        ("ncclReduce", (1000, 2000, 4, FLOAT, 0, 2), {1000: 16}, {}),
        ("ncclAllReduce", (1000, 2000, 4, DataType.FLOAT16.value, 0), {1000: 8}, {2000: 8}),
    ],
)
def test_the_buffers_of_a_call_have_the_lengths_of_nccl_h(
    fake_nccl_path: Path,
    launched: list[WorkLaunched],
    name: str,
    args: tuple[int, ...],
    reads: dict[int, int],
    writes: dict[int, int],
) -> None:
    communicator = PrivateStreamCommunicator(fake_nccl_path, world_size=3, rank=1)
    with watch():
        communicator.call(name, *args)
    (work,) = launched
    assert {each.address: each.length for each in work.reads} == reads
    assert {each.address: each.length for each in work.writes} == writes
    assert work.communicator == communicator.comm.value


def test_the_calls_of_a_group_run_at_its_end(fake_nccl_path: Path, launched: list[WorkLaunched]) -> None:
    communicator = PrivateStreamCommunicator(fake_nccl_path, world_size=3)
    with watch():
        communicator.library.ncclGroupStart()
        communicator.call("ncclAllGather", 1000, 2000, 4, FLOAT)
        communicator.call("ncclAllGather", 3000, 4000, 4, FLOAT)
        assert not launched
        communicator.library.ncclGroupEnd()
    assert len(launched) == 2


def test_a_group_on_two_streams_is_ordered_with_both(communicator: PrivateStreamCommunicator) -> None:
    first, second = communicator.stream, cpu.Stream()
    tensor, other = torch.zeros(8), torch.zeros(8)
    with watch() as watched:
        second.submit(other.fill_, 1)
        communicator.library.ncclGroupStart()
        communicator.all_reduce(tensor)
        communicator.stream = second
        communicator.all_reduce(tensor)
        communicator.library.ncclGroupEnd()
        first.submit(other.add_, 1)
    assert not watched.races


def test_the_callers_line_is_the_one_outside_the_class_that_calls_nccl(communicator: PrivateStreamCommunicator) -> None:
    def layer(reduce: Callable[[Tensor], None], tensor: Tensor) -> None:
        reduce(tensor)  # collective in a layer

    tensor = torch.zeros(8)
    with watch() as watched:
        layer(communicator.all_reduce, tensor)
        tensor + 1  # read
    assert found_at(watched) == {("collective in a layer", "read")}


@pytest.mark.parametrize("retains", [True, False])
def test_memory_that_the_private_stream_still_uses_must_be_kept(
    communicator: PrivateStreamCommunicator, retains: bool
) -> None:
    for _ in range(10):
        with watch() as watched:
            tensor = torch.ones(1000)
            communicator.all_reduce(tensor)
            if retains:
                communicator.stream.submit(lambda *kept: None, tensor)
            del tensor
            torch.ones(1000)
        assert {race.kind for race in watched.races} == (set() if retains else {RaceKind.MEMORY})
