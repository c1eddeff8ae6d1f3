"""The memory of arms: what a communicator took on each rank, and what calls with new tensors strand."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist

from nccl_bench.bench.buffers import CaseBuffers
from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.memory_use import case_for_memory, measure_stranded, memory_of_ranks, new_pair, with_growth
from nccl_bench.catalog.collectives import COLLECTIVES, Placement
from nccl_bench.config.run import resolve
from nccl_bench.plan.cases import make_plan
from nccl_bench.plan.memory import Arena
from nccl_bench.ranks.control import Control
from nccl_bench.ranks.progress import Progress
from nccl_bench.streams.base import Streams
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.streams.memory_use import MemoryUse
from tests.support.communicators import nccl_device
from tests.support.fake_nccl import FakeNccl
from tests.support.one_rank_run import run_on_one_rank
from tests.support.synthetic_runs import case

MIB = 1024**2


class FakeStreams:
    """Streams whose memory is what ``device`` and ``stranded`` say. They are the current stream and each event too."""

    def __init__(self) -> None:
        self.device: int | None = 0
        self.stranded = 0
        self.reusable = 0  # bytes that earlier calls left on another stream, and that calls on this stream use again
        self.holds_gates = True
        self.is_held = False

    def memory_use(self) -> MemoryUse:
        return MemoryUse(device_bytes=self.device, host_bytes=7 * MIB)

    def stranded_bytes(self) -> int:
        return self.stranded

    def strand(self, size_bytes: int) -> None:
        reused = min(size_bytes, self.reusable)
        self.reusable -= reused
        self.stranded += size_bytes - reused

    def release_memory(self) -> None:
        self.stranded = self.reusable = 0

    def synchronize(self) -> None:
        self.is_held = False
        self.reusable = self.stranded

    def hold(self, seconds: float) -> None:
        self.is_held = seconds > 0 and self.holds_gates

    def new_event(self) -> FakeStreams:
        return self

    current_stream = new_event

    def record(self, stream: FakeStreams) -> None: ...

    def query(self) -> bool:
        return not self.is_held


def test_a_communicator_took_what_is_in_use_more_than_before() -> None:
    streams = FakeStreams()

    def make() -> str:
        streams.device = 40 * MIB
        return "made"

    made, growth = with_growth(cast(Streams, streams), make)
    assert (made, growth) == ("made", MemoryUse(device_bytes=40 * MIB, host_bytes=0))


@pytest.mark.parametrize(
    ("growth", "alone", "expected"),
    [
        (MemoryUse(device_bytes=3, host_bytes=5), True, {"host_bytes": [5], "device_bytes": [3]}),
        # Other processes make communicators on the same device at the same time.
        (MemoryUse(device_bytes=3, host_bytes=5), False, {"host_bytes": [5]}),
        (MemoryUse(device_bytes=None, host_bytes=5), True, {"host_bytes": [5]}),
        (MemoryUse(device_bytes=0, host_bytes=None), True, {"device_bytes": [0]}),
    ],
)
def test_what_is_unknown_is_absent_and_not_zero(
    growth: MemoryUse, alone: bool, expected: dict[str, list[int]], one_rank: dist.ProcessGroup
) -> None:
    assert memory_of_ranks(Control(one_rank), {"torch": growth}, alone=alone) == {"torch": expected}


@pytest.mark.parametrize(
    ("collective", "placement"), [(name, each) for name, row in COLLECTIVES.items() for each in row.placements]
)
def test_new_tensors_overlap_as_those_of_the_case_do(collective: str, placement: Placement) -> None:
    of_case = case(64, collective, dtype="float32", count=4 if COLLECTIVES[collective].has_blocks else 16)
    of_case = replace(of_case, placement=placement)
    buffers = CaseBuffers(
        of_case, Arena(slots=1, slot_bytes=64, regions=2), 1, 4, torch.device("cpu"), placements=[placement]
    )
    x, y = buffers.pair(0, placement)
    new_x, new_y = new_pair(x, y)
    assert new_x.shape == x.shape
    assert new_x.data_ptr() != x.data_ptr()
    if y is None or new_y is None:
        assert y is new_y
        return
    assert new_y.shape == y.shape
    assert (new_y is new_x) == (y is x)
    if placement is Placement.IN_PLACE:
        assert new_x.data_ptr() - new_y.data_ptr() == x.data_ptr() - y.data_ptr()
        assert new_x.untyped_storage().data_ptr() == new_y.untyped_storage().data_ptr()
    else:
        assert new_x.untyped_storage().data_ptr() != new_y.untyped_storage().data_ptr()


class FakeContext:
    """A context with arms. ``strands`` strands a tensor in each call, and ``refuses`` raises an error."""

    def __init__(self) -> None:
        self.streams = FakeStreams()
        self.arms = self.control = self.buffers = self.config = self
        self.arena = Arena(slots=1, slot_bytes=MIB, regions=1)
        self.user_arms = ()
        self.free = 100 * MIB
        self.made = 0

    def visit(self, names: Sequence[str], _phase: str) -> Iterator[str]:
        yield from names

    def case_of(self, _name: str) -> Any:
        return case(MIB)

    def free_bytes(self) -> int:
        return self.free

    def pair(self, _slot: int, _placement: Placement) -> tuple[torch.Tensor, torch.Tensor]:
        tensor = torch.zeros(MIB // 2, dtype=torch.bfloat16)
        return tensor, tensor

    def __getitem__(self, name: str) -> FakeContext:
        self._name = name
        return self

    def bind(self, _case: object, x: torch.Tensor, y: torch.Tensor) -> Callable[[], None]:
        assert y is x
        self.made += 1
        if self._name == "refuses":
            raise RuntimeError("CUDA out of memory\nIf reserved but unallocated memory is large, ...")

        size_bytes, tensor = x.nbytes, weakref.ref(x)
        del x, y

        def call() -> None:
            # Like a recorded call, this one does not keep its tensors.
            assert tensor() is not None
            if self._name == "strands":
                self.streams.strand(size_bytes)

        return call

    def maximum(self, values: list[float]) -> list[float]:
        return values

    def first_message(self, message: str | None) -> tuple[int, str] | None:
        return None if message is None else (0, message)


def stranded_in(fake: FakeContext, *names: str) -> Any:
    return measure_stranded(cast(CaseContext, fake), names, ())


def test_the_arm_that_strands_memory_is_found() -> None:
    # What an arm has left before its calls does not count, and neither does what the arm before it has left.
    assert stranded_in(FakeContext(), "clean", "strands", "clean too") == {
        "clean": {"stranded_bytes": 0},
        "strands": {"stranded_bytes": 8 * MIB},
        "clean too": {"stranded_bytes": 0},
    }


def test_an_arm_that_refuses_new_tensors_has_the_reason_and_ends_no_run() -> None:
    assert stranded_in(FakeContext(), "refuses", "strands") == {
        "refuses": {"stranded_absent": "RuntimeError: CUDA out of memory"},
        "strands": {"stranded_bytes": 8 * MIB},
    }


def test_an_arm_that_refuses_on_another_rank_is_not_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeContext()
    monkeypatch.setattr(fake, "first_message", lambda _own: (1, "KeyError: 94"))
    assert stranded_in(fake, "clean") == {"clean": {"stranded_absent": "KeyError: 94"}}
    assert fake.made == 1


def test_calls_that_the_gate_did_not_hold_say_nothing() -> None:
    fake = FakeContext()
    fake.streams.holds_gates = False
    assert stranded_in(fake, "strands") == {
        "strands": {"stranded_absent": "its calls took longer than 0.1 s on the host"}
    }


def test_without_memory_for_new_tensors_no_call_is_made() -> None:
    fake = FakeContext()
    fake.free = 31 * MIB
    (reason,) = {each["stranded_absent"] for each in stranded_in(fake, "refuses", "strands").values()}
    assert reason == f"new tensors of its calls need up to {32 * MIB} B, and {31 * MIB} B are free"


@pytest.mark.parametrize("stranded", [0, None])
def test_a_run_records_what_each_arm_strands(
    stranded: int | None, one_rank: dist.ProcessGroup, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CpuStreams, "stranded_bytes", lambda _streams: stranded)
    options = {"arms": "stream-free,dedicated-stream", "sizes": "1K,4K", "rounds": 1, "max_rounds": 1}
    config = resolve("cuda", {**options, "ops_per_batch": 4, "dtypes": "float32", "timings": "eager"})
    record, _ = run_on_one_rank(config, one_rank, nccl_device(fake.path), Progress(None, 0, 0))
    expected: dict[str, Any] = {arm: {"stranded_bytes": 0} for arm in config.measured_arms}
    # The CPU has no such allocator.
    assert record.memory == ({} if stranded is None else expected)


def test_the_largest_case_that_is_not_too_large_is_measured() -> None:
    def chosen(sizes: str) -> int | None:
        planned = case_for_memory(make_plan(resolve("cuda", {"sizes": sizes}), 2).cases)
        return planned and planned.case.size_bytes

    assert chosen("8,1M,16M,1G") == 16 * MIB
    assert chosen("1G") is None
