"""Calls in three steps: other work of the caller runs beside the collective, and is ordered with it at both ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.arms import ARMS, Order
from nccl_bench.catalog.collectives import Placement
from nccl_bench.streams import cpu
from tests.support.stream_control import PATIENCE_S, Gate, Silent, finishes_within
from tests.support.synthetic_runs import case

COUNT = 6
GATHER = case(4 * COUNT, "all_gather", dtype="float32", placement=Placement.OUT_OF_PLACE, count=COUNT)
ORDERED = [name for name, arm in ARMS.items() if "gloo" in arm.transports and arm.order is not Order.BARE]


def split_gather(arm: Arm, caller: cpu.Stream) -> tuple[Any, torch.Tensor, torch.Tensor]:
    given, output = torch.zeros(COUNT), torch.zeros(COUNT)
    with cpu.stream(caller):
        return arm.split(GATHER, given, output, cpu.Stream()), given, output


def check_waits_for_the_caller(arm: Arm, patience_s: float = 0.03) -> None:
    caller = cpu.Stream()
    split, given, output = split_gather(arm, caller)
    with cpu.stream(caller):
        gate = Gate(caller)
        caller.submit(given.fill_, 7)
        split.fork()
        split.call()
        split.join()
    overtook = split.stream is not None and finishes_within(split.stream, patience_s)
    gate.open()
    cpu.synchronize()
    assert not overtook
    assert output.tolist() == [7] * COUNT


def check_is_joined(arm: Arm, patience_s: float = 0.03) -> None:
    caller = cpu.Stream()
    split, given, output = split_gather(arm, caller)
    seen = torch.zeros(COUNT)
    gate = Gate(split.stream or caller)
    with cpu.stream(caller):
        caller.submit(given.fill_, 7)
        split.fork()
        split.call()
        split.join()
        caller.submit(seen.copy_, output)
    overtook = finishes_within(caller, patience_s)
    gate.open()
    cpu.synchronize()
    assert not overtook
    assert seen.tolist() == [7] * COUNT


@pytest.mark.parametrize("name", ORDERED)
def test_a_split_call_is_ordered_with_what_surrounds_it(make: Callable[[str], Arm], name: str) -> None:
    arm = make(name)
    check_waits_for_the_caller(arm)
    check_is_joined(arm)


@pytest.mark.parametrize("name", [name for name in ORDERED if name != "torch-async"])
def test_work_of_the_caller_runs_while_the_collective_waits(make: Callable[[str], Arm], name: str) -> None:
    arm, caller = make(name), cpu.Stream()
    split, _, _ = split_gather(arm, caller)
    gate = Gate(split.stream)
    with cpu.stream(caller):
        split.fork()
        split.call()
        done = caller.record_event()
        done.synchronize()
        assert not split.stream.query()
        split.join()
    gate.open()
    cpu.synchronize()


def test_a_private_stream_is_used_as_it_is_and_other_arms_get_a_stream_of_the_caller(
    make: Callable[[str], Arm],
) -> None:
    with_own = [
        arm.name for arm in map(make, ORDERED) if split_gather(arm, cpu.Stream())[0].stream is arm.communicator.stream
    ]
    assert with_own == ["dedicated-stream", "torch-async", "dedicated-stream-wait-stream"]
    assert split_gather(make("torch-async"), cpu.Stream())[0].stream is None


@pytest.mark.parametrize(
    ("name", "changes_stream"), [("stream-free", False), ("transport", False), ("torch", True), ("coordinator", True)]
)
def test_a_gather_takes_the_caller_s_second_stream_as_an_argument_if_it_can(
    make: Callable[[str], Arm], name: str, changes_stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm, caller = make(name), cpu.Stream()
    made_current: list[cpu.Stream] = []

    def stream(stream: cpu.Stream) -> Any:
        made_current.append(stream)
        return cpu.stream(stream)

    monkeypatch.setattr(arm.streams, "stream", stream, raising=False)
    split, given, output = split_gather(arm, caller)
    made_current.clear()
    with cpu.stream(caller):
        caller.submit(given.fill_, 7)
        split.fork()
        split.call()
        split.join()
    cpu.synchronize()
    assert output.tolist() == [7] * COUNT
    assert made_current == ([split.stream] if changes_stream else [])


class Work:
    """An operation of torch.distributed that ends when the test says so."""

    def __init__(self) -> None:
        self.waits = 0

    def wait(self) -> None:
        self.waits += 1


def test_an_asynchronous_call_of_torch_is_waited_for_in_the_join_and_only_there(
    make: Callable[[str], Arm], monkeypatch: pytest.MonkeyPatch
) -> None:
    arm, work, caller = make("torch-async"), Work(), cpu.Stream()
    split, _, _ = split_gather(arm, caller)
    monkeypatch.setattr("nccl_bench.communicators.torch_distributed._all_gather", lambda *args, **options: work)
    with cpu.stream(caller):
        for joined in range(3):
            split.call()
            caller.synchronize()
            assert work.waits == joined
            split.join()
            caller.synchronize()
            assert work.waits == joined + 1
        # The usual calls of the arm still wait at once.
        arm.bind(GATHER, torch.zeros(COUNT), torch.zeros(COUNT))()
        caller.synchronize()
    assert work.waits == 4


class Writing:
    """An operation of torch.distributed that has written its result when the wait for it is over."""

    def __init__(self, block: torch.Tensor, number: int) -> None:
        self.wait = lambda: block.fill_(number)


def test_work_behind_an_asynchronous_call_of_torch_is_deferred_with_it(
    make: Callable[[str], Arm], monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter(range(1, 9))
    monkeypatch.setattr(dist, "reduce", lambda block, **options: Writing(block, next(numbers)))
    deferring = make("torch-async").communicator.deferring()
    assert deferring is not None
    communicator, wait = deferring
    given, output, caller = torch.zeros(COUNT), torch.zeros(COUNT), cpu.Stream()
    seen = [torch.zeros(COUNT) for _ in range(8)]
    with cpu.stream(caller):
        # The host is far ahead of the stream.
        gate = Gate(caller)
        for copy in seen:
            communicator.reduce_scatter(output, given, sizes=[COUNT])
            wait()
            caller.submit(copy.copy_, output)
    gate.open()
    cpu.synchronize()
    assert [copy.tolist() for copy in seen] == [[number] * COUNT for number in range(1, 9)]


@pytest.mark.parametrize("name", ["stream-free", "dedicated-stream"])
def test_the_checks_catch_a_missing_fork_and_a_missing_join(make: Callable[[str], Arm], name: str) -> None:
    arm = make(name)
    arm._fork = Silent()
    with pytest.raises(AssertionError):
        check_waits_for_the_caller(arm, PATIENCE_S)
    arm = make(name)
    arm._join = Silent()
    with pytest.raises(AssertionError):
        check_is_joined(arm, PATIENCE_S)
