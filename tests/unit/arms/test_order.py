"""The order of an arm's calls with the work of the caller's stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.arms import ARMS, Order
from nccl_bench.catalog.cases import Case
from nccl_bench.streams import cpu
from tests.support.arm_cases import COUNT, EVERY_COLLECTIVE, ORDERED, OVER_GLOO, UNORDERED, buffers, case, placed
from tests.support.stream_control import PATIENCE_S, Gate, Silent, finishes_within

WITH_PRIVATE_STREAM = [name for name in ORDERED if ARMS[name].communicator == "dedicated-stream"]


def check_sees_the_producer(arm: Arm, what: Case, patience_s: float = 0.03) -> None:
    """Expect the operation after earlier work of the caller's stream."""
    caller, (x, y) = cpu.Stream(), buffers(what)
    with cpu.stream(caller):
        operation = arm.bind(what, x, y)
        gate = Gate(caller)
        caller.submit(x.fill_, 7)
        result: Any = operation()
    private = arm.communicator.stream
    overtook = private is not None and finishes_within(private, patience_s)
    gate.open()
    cpu.synchronize()
    assert not overtook
    output = result if y is None else y
    assert output.tolist() == [7] * output.numel()


def check_is_seen_by_the_consumer(arm: Arm, what: Case, patience_s: float = 0.03) -> None:
    """Expect later work of the caller's stream after the operation."""
    caller, (x, y) = cpu.Stream(), buffers(what)
    private, seen = arm.communicator.stream, torch.zeros_like(x if y is None else y)
    gate = Gate(private or caller)
    with cpu.stream(caller):
        caller.submit(x.fill_, 7)
        result: Any = arm.bind(what, x, y)()
        caller.submit(seen.copy_, result if y is None else y)
    overtook = finishes_within(caller, patience_s)
    gate.open()
    cpu.synchronize()
    assert not overtook
    assert seen.tolist() == [7] * seen.numel()


def check_calls_in_a_row(arm: Arm, what: Case) -> None:
    """Expect each of many calls to see its own producer and be seen by its own consumer; nothing waits in between."""
    caller, (x, y) = cpu.Stream(), buffers(what)
    seen = [torch.zeros_like(x if y is None else y) for _ in range(20)]
    with cpu.stream(caller):
        operation = arm.bind(what, x, y)
        gate = Gate(caller)
        for number, copy in enumerate(seen):
            caller.submit(x.fill_, number)
            result: Any = operation()
            caller.submit(copy.copy_, result if y is None else y)
    gate.open()
    cpu.synchronize()
    assert [copy.tolist() for copy in seen] == [[number] * seen[0].numel() for number in range(len(seen))]


@pytest.mark.parametrize("name", ORDERED)
@EVERY_COLLECTIVE
def test_a_call_is_ordered_with_what_surrounds_it(make: Callable[[str], Arm], name: str, collective: str) -> None:
    arm = make(name)
    for what in placed(name, collective):
        check_sees_the_producer(arm, what)
        check_is_seen_by_the_consumer(arm, what)
        check_calls_in_a_row(arm, what)


@pytest.mark.parametrize("name", ORDERED)
def test_order_also_orders_an_operation_that_belongs_to_no_case(make: Callable[[str], Arm], name: str) -> None:
    arm, caller = make(name), cpu.Stream()
    given, output, seen = torch.zeros(COUNT), torch.zeros(COUNT), torch.zeros(COUNT)
    with cpu.stream(caller):
        operation = arm.order(lambda: arm.communicator.all_gather(output, given, [COUNT]))
        gate = Gate(caller)
        caller.submit(given.fill_, 7)
        operation()
        caller.submit(seen.copy_, output)
    private = arm.communicator.stream
    overtook = private is not None and finishes_within(private)
    gate.open()
    cpu.synchronize()
    assert not overtook
    assert seen.tolist() == [7] * COUNT


def test_only_an_arm_that_forks_and_joins_wraps_an_operation(make: Callable[[str], Arm]) -> None:
    arms = [make(name) for name in OVER_GLOO if name != "transport"]  # that arm records the operation
    assert [arm.name for arm in arms if arm.order(print) is not print] == WITH_PRIVATE_STREAM


@EVERY_COLLECTIVE
def test_the_check_catches_a_missing_fork(make: Callable[[str], Arm], collective: str) -> None:
    arm = make("dedicated-stream")
    arm._fork = Silent()
    for what in placed("dedicated-stream", collective):
        with pytest.raises(AssertionError):
            check_sees_the_producer(arm, what, PATIENCE_S)
    check_is_seen_by_the_consumer(arm, case(collective))


@EVERY_COLLECTIVE
def test_the_check_catches_a_missing_join(make: Callable[[str], Arm], collective: str) -> None:
    arm = make("dedicated-stream")
    arm._join = Silent()
    for what in placed("dedicated-stream", collective):
        with pytest.raises(AssertionError):
            check_is_seen_by_the_consumer(arm, what, PATIENCE_S)
    check_sees_the_producer(arm, case(collective))


@EVERY_COLLECTIVE
def test_the_unordered_arm_really_is_unordered(make: Callable[[str], Arm], collective: str) -> None:
    arm = make(UNORDERED)
    for what in placed(UNORDERED, collective):
        for check in (check_sees_the_producer, check_is_seen_by_the_consumer):
            with pytest.raises(AssertionError):
                check(arm, what, PATIENCE_S)


@pytest.mark.parametrize("name", [name for name in ORDERED if name != "transport"])
def test_a_call_runs_on_the_stream_that_is_current_at_the_call(make: Callable[[str], Arm], name: str) -> None:
    check_follows_the_caller(make(name))


def check_follows_the_caller(arm: Arm) -> None:
    bound_on, called_on = cpu.Stream(), cpu.Stream()
    what = case("all_gather")
    x, y = buffers(what)
    with cpu.stream(bound_on):
        operation = arm.bind(what, x, y)
    gate = Gate(called_on)
    with cpu.stream(called_on):
        called_on.submit(x.fill_, 7)
        operation()
    before = y.tolist() if finishes_within(bound_on, PATIENCE_S) else []
    gate.open()
    cpu.synchronize()
    assert before == [100] * COUNT
    assert y.tolist() == [7] * COUNT


def test_the_transport_arm_runs_on_the_stream_that_was_current_at_bind(make: Callable[[str], Arm]) -> None:
    with pytest.raises(AssertionError):
        check_follows_the_caller(make("transport"))


def test_the_transport_arm_retains_tensors_again_after_a_recording(make: Callable[[str], Arm]) -> None:
    arm, what = make("transport"), case("all_gather")
    communicator: Any = arm.communicator
    before = communicator._transport, communicator._retain
    arm.bind(what, *buffers(what))
    assert (communicator._transport, communicator._retain) == before
    assert communicator._retain is not None


@pytest.mark.parametrize("name", WITH_PRIVATE_STREAM)
def test_the_fork_and_join_make_no_event_and_wait_stream_does(
    make: Callable[[str], Arm], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    operation = make(name).bind(case("all_gather"), *buffers(case("all_gather")))
    made: list[object] = []
    original = cpu.Event.__init__

    def recorded(self: cpu.Event, enable_timing: bool = False) -> None:
        made.append(self)
        original(self, enable_timing)

    with monkeypatch.context() as patched:
        patched.setattr(cpu.Event, "__init__", recorded)
        with cpu.stream(cpu.Stream()):
            operation()
    cpu.synchronize()
    assert len(made) == (0 if ARMS[name].order is Order.FORK_JOIN else 2)


def test_no_two_arms_share_a_communicator_or_a_stream(make: Callable[[str], Arm]) -> None:
    arms = [make(name) for name in [*OVER_GLOO, *OVER_GLOO]]
    assert len({id(arm.communicator) for arm in arms}) == len(arms)
    private = [arm.communicator.stream for arm in arms if arm.communicator.stream is not None]
    assert len({stream.handle for stream in private}) == len(private) == 6


@pytest.mark.parametrize("name", OVER_GLOO)
def test_an_arm_has_as_many_private_streams_as_its_row_says(make: Callable[[str], Arm], name: str) -> None:
    arm = make(name)
    private = arm.private_streams()
    assert len({stream.handle for stream in private}) == len(private) == ARMS[name].private_streams
    assert arm.communicator.stream is None or arm.communicator.stream in private
