"""Arms: every collective they bind, and how their calls are ordered with the caller's stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.arms import ARMS, COORDINATORS, Order
from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.support import unsupported
from nccl_bench.communicators.protocol import CALLS
from nccl_bench.communicators.registry import BUILDERS
from nccl_bench.communicators.torch_distributed import ProcessGroupCommunicator
from nccl_bench.config.routes import override
from nccl_bench.errors import DisabledError, NcclBenchError
from nccl_bench.streams import cpu
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.transports.device import Device, open_device, refusal
from nccl_bench.transports.gloo import GlooTransport
from tests.support.communicator_calls import raw_bytes
from tests.support.communicators import PRETENDED_RANK, nccl_device, one_rank_group, pretend_ranks
from tests.support.fake_nccl import Call, FakeNccl
from tests.support.stream_control import PATIENCE_S, Gate, finishes_within

COUNT = 6
CPU = DEVICES["cpu"]
OVER_GLOO = [name for name, arm in ARMS.items() if "gloo" in arm.transports]
ORDERED = [name for name in OVER_GLOO if ARMS[name].order is not Order.BARE]
WITH_PRIVATE_STREAM = [name for name in ORDERED if ARMS[name].communicator == "dedicated-stream"]
UNORDERED = "dedicated-stream-unordered"
ABSENT = {("torch", "send_recv"), *((name, "gather") for name in COORDINATORS)}
EVERY_COLLECTIVE = pytest.mark.parametrize("collective", COLLECTIVES)


@pytest.fixture(scope="module", autouse=True)
def group() -> Iterator[dist.ProcessGroup]:
    with one_rank_group() as group:
        yield group


@pytest.fixture
def device() -> Device:
    return open_device("cpu", 0)


@pytest.fixture
def make(group: dist.ProcessGroup, device: Device) -> Iterator[Callable[[str], Arm]]:
    """Yield a maker of arms with one rank, over Gloo, and close what it made."""
    arms: list[Arm] = []

    def make(name: str) -> Arm:
        arms.append(Arm(name, group, device))
        return arms[-1]

    yield make
    for arm in arms:
        arm.close()


def case(
    collective: str,
    *,
    dtype: str = "float32",
    redop: RedOp | None = None,
    placement: Placement = Placement.OUT_OF_PLACE,
    root: int = 0,
    world_size: int = 1,
) -> Case:
    row = COLLECTIVES[collective]
    return Case(
        scenario=Scenario.ISOLATED,
        collective=collective,
        dtype=dtype,
        redop=(redop or RedOp.SUM) if row.reduces else None,
        placement=placement,
        root=root if row.rooted else None,
        size_bytes=row.size_bytes(COUNT, DTYPES[dtype].itemsize, world_size),
        count=COUNT,
    )


def cases(collective: str) -> Iterator[Case]:
    """Yield a collective with every data type, reduction and placement."""
    row = COLLECTIVES[collective]
    for dtype in DTYPES:
        for redop in RedOp if row.reduces else [None]:
            for placement in row.placements:
                yield case(collective, dtype=dtype, redop=redop, placement=placement)


def supports(arm: str, what: Case) -> bool:
    reason = unsupported(ARMS[arm], CPU, what.collective, what.dtype, what.redop, what.placement)
    return reason is None and refusal(open_device("cpu", 0), what) is None


def buffers(what: Case, world_size: int = 1, rank: int = 0) -> tuple[Tensor, Any]:
    """Return input and poisoned output: in place the same tensor, or the smaller one as a block of the larger.

    If the call returns its output, the output is ``None``.
    """
    dtype = getattr(torch, what.dtype)
    counts = what.row.block_counts(COUNT, world_size)
    send = sum(counts) if what.row.sends_all_blocks else counts[rank]
    receive = sum(counts) if what.row.receives_all_blocks else counts[rank]
    if what.placement is Placement.OUT_OF_PLACE:
        return torch.arange(1, send + 1).to(dtype), torch.full((receive,), 100.0).to(dtype)
    if what.placement is Placement.RETURNED:
        return torch.arange(1, send + 1).to(dtype), None
    both = torch.arange(1, max(send, receive) + 1).to(dtype)
    block = both[sum(counts[:rank]) :][: counts[rank]]
    return (both if send >= receive else block), (both if receive >= send else block)


def test_every_arm_has_a_builder_and_every_collective_a_call() -> None:
    assert set(CALLS) == set(COLLECTIVES)
    assert {arm.communicator for arm in ARMS.values()} == set(BUILDERS)


@pytest.mark.parametrize("name", OVER_GLOO)
@EVERY_COLLECTIVE
def test_an_arm_runs_every_case_that_it_supports(make: Callable[[str], Arm], name: str, collective: str) -> None:
    """The output of a collective equals its input, because there is one rank."""
    arm, caller = make(name), cpu.Stream()
    ran = 0
    for what in cases(collective):
        if not supports(name, what):
            continue
        x, y = buffers(what)
        source = raw_bytes(x)
        with cpu.stream(caller):
            operation = arm.bind(what, x, y)
            operation()
            result: Any = operation()
        cpu.synchronize()
        assert raw_bytes(result if y is None else y) == source, what.label
        assert (raw_bytes(x), x is result) == (source, False), what.label
        ran += 1
    assert ran >= (0 if (name, collective) in ABSENT else len(DTYPES) - 2)


@pytest.mark.parametrize("name", OVER_GLOO)
@EVERY_COLLECTIVE
def test_a_case_that_an_arm_does_not_support_really_fails(
    make: Callable[[str], Arm], name: str, collective: str
) -> None:
    arm, caller = make(name), cpu.Stream()
    for what in cases(collective):
        if supports(name, what):
            continue
        if (name, collective) == ("torch", "send_recv"):
            continue
        if collective == "reduce_scatter" and torch.__version__ < "2.9":
            continue  # with one rank, Gloo only copied
        x, y = buffers(what)
        with pytest.raises((NcclBenchError, RuntimeError, ValueError)), cpu.stream(caller):  # noqa: PT012
            arm.bind(what, x, y)()
            cpu.synchronize()


def test_only_the_torch_arm_lacks_send_recv_because_it_would_equal_torch_async(
    make: Callable[[str], Arm], monkeypatch: pytest.MonkeyPatch
) -> None:
    what = case("send_recv")
    assert [name for name in OVER_GLOO if not supports(name, what)] == ["torch"]
    called: list[str] = []
    monkeypatch.setattr(ProcessGroupCommunicator, "_exchange", lambda self, *args: called.append("the same"))
    for name in ("torch", "torch-async"):
        make(name).bind(what, *buffers(what))()
    assert called == ["the same"] * 2


def test_a_closed_arm_refuses_its_operations(make: Callable[[str], Arm]) -> None:
    for name in OVER_GLOO:
        arm = make(name)
        operation = arm.bind(case("all_to_all"), *buffers(case("all_to_all")))
        arm.close()
        arm.close()
        if name != "transport":  # its calls have no communicator around them
            with pytest.raises(DisabledError):
                operation()
        with pytest.raises(DisabledError):
            arm.bind(case("all_to_all"), *buffers(case("all_to_all")))()


# Order with the caller's stream


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


def placed(name: str, collective: str) -> list[Case]:
    possible = (case(collective, placement=placement) for placement in COLLECTIVES[collective].placements)
    return [what for what in possible if supports(name, what)]


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


class Silent:
    """An event that orders nothing."""

    def record(self, stream: Any = None) -> None:
        pass

    def wait(self, stream: Any = None) -> None:
        pass


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


# Graphs and routes


class Capturing(CpuStreams):
    """Streams that call the body of a capture, and record the stream argument and the current stream."""

    def __init__(self) -> None:
        super().__init__()
        self.captured: list[tuple[Any, Any]] = []

    def capture(self, body: Callable[[], None], stream: Any = None) -> Any:
        self.captured.append((stream, cpu.current_stream()))
        body()
        return self


@pytest.fixture
def capturing(group: dist.ProcessGroup) -> Iterator[Callable[..., tuple[Arm, Capturing]]]:
    """Yield a maker of arms whose device has graphs, and close what it made."""
    arms: list[Arm] = []

    def capturing(name: str, *routes: Any) -> tuple[Arm, Capturing]:
        streams = Capturing()
        arms.append(Arm(name, group, Device(streams=streams, transport=GlooTransport(streams)), *routes))
        return arms[-1], streams

    yield capturing
    for arm in arms:
        arm.close()


@pytest.mark.parametrize("name", ORDERED)
def test_a_coordinator_captures_in_its_graph_capture_and_other_arms_from_the_current_stream(
    capturing: Callable[..., tuple[Arm, Capturing]], name: str
) -> None:
    (arm, streams), caller = capturing(name), cpu.Stream()
    coordinator: Any = arm.communicator
    off: list[bool] = []
    with cpu.stream(caller):
        graph: object = arm.capture(lambda: off.append(name in COORDINATORS and coordinator.communicator.disabled))
    assert graph is streams
    assert off == [False]
    [(stream, current)] = streams.captured
    if name in COORDINATORS:
        with coordinator.graph_capture() as its_own:
            assert stream is current is its_own
        assert coordinator.communicator.disabled
    else:
        assert (stream, current) == (None, caller)


@pytest.mark.parametrize("name", sorted(COORDINATORS))
def test_a_coordinator_s_routes_decide_which_backend_is_called(
    capturing: Callable[..., tuple[Arm, Capturing]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    by_torch: list[str] = []
    all_gather = ProcessGroupCommunicator.all_gather

    def recorded(self: ProcessGroupCommunicator, *args: Any) -> None:
        by_torch.append(where)
        all_gather(self, *args)

    what = case("all_gather")
    x, y = buffers(what)
    monkeypatch.setattr(ProcessGroupCommunicator, "all_gather", recorded)
    default, overridden = capturing(name), capturing(name, override(["eager=communicator", "graph=torch"]))
    for label, (arm, _) in (("default", default), ("overridden", overridden)):
        operation = arm.bind(what, x, y)
        where = f"{label}, eager"
        operation()
        where = f"{label}, graph"
        arm.capture(operation)
    cpu.synchronize()
    assert by_torch == ["default, eager", "overridden, graph"]


# The library's calls on rank 1 of 4, over a fake libnccl


@pytest.fixture
def make_nccl(group: dist.ProcessGroup, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Arm]:
    pretend_ranks(monkeypatch)
    device = nccl_device(fake.path)
    return lambda name: Arm(name, group, device)


def calls_of(arm: Arm, what: Case, x: Tensor, y: Any, fake: FakeNccl) -> list[Call]:
    """Return the library's calls of one bound operation, without the communicator's handle."""
    operation = arm.bind(what, x, y)
    fake.reset()
    operation()
    return [replace(call, comm=None) for call in fake.calls()]


@EVERY_COLLECTIVE
def test_the_transport_arm_makes_the_calls_of_the_stream_free_one(
    make_nccl: Callable[[str], Arm], fake: FakeNccl, collective: str
) -> None:
    stream_free, transport = make_nccl("stream-free"), make_nccl("transport")
    stream = cpu.Stream()
    for each in placed("transport", collective):
        what = case(collective, placement=each.placement, redop=RedOp.MAX, root=2, world_size=4)
        x, y = buffers(what, 4, PRETENDED_RANK)
        with cpu.stream(stream):
            expected = calls_of(stream_free, what, x, y, fake)
            assert calls_of(transport, what, x, y, fake) == expected
            fake.reset()
            operation = transport.bind(what, x, y)
            assert fake.calls() == []  # recording calls nothing
        operation()  # another stream is current, and the arm does not ask for it
        assert [replace(call, comm=None) for call in fake.calls()] == expected
        assert {call.stream for call in expected} - {None} == {stream.handle}
        # The communicator still works without a recording.
        fake.reset()
        transport.communicator.all_reduce(x)
        assert [call.function for call in fake.calls()] == ["ncclAllReduce"]


@pytest.mark.parametrize("name", ["stream-free", "dedicated-stream", "transport", UNORDERED])
@EVERY_COLLECTIVE
def test_the_case_decides_the_arguments_of_the_library_s_calls(
    make_nccl: Callable[[str], Arm], fake: FakeNccl, name: str, collective: str
) -> None:
    arm = make_nccl(name)
    row = COLLECTIVES[collective]
    for each in placed(name, collective):
        what = case(collective, placement=each.placement, dtype="bfloat16", redop=RedOp.MIN, root=2, world_size=4)
        x, y = buffers(what, 4, PRETENDED_RANK)
        calls = [call for call in calls_of(arm, what, x, y, fake) if call.count is not None]
        if row.uneven_form_of is not None:
            # A call for each rank's block, in one group.
            assert [call.count for call in calls] == row.block_counts(COUNT, 4)
            assert [(call.root, call.op) for call in calls] == [(root, 3 if row.reduces else None) for root in range(4)]
            continue
        assert len(calls) == (2 if collective == "send_recv" else 1)
        for call in calls:
            assert (call.count, call.dtype) == (COUNT, 9)
            assert call.send in (x.data_ptr(), None)
            assert y is None or call.recv in (y.data_ptr(), None)
            assert y is not None or call.recv != x.data_ptr()
            assert call.op == (3 if row.reduces else None)
            assert call.root == (2 if row.rooted and collective != "gather" else None)
        if collective == "gather":
            assert [(call.function, call.peer) for call in calls] == [("ncclSend", 2)]
        if collective == "send_recv":
            assert [(call.function, call.peer) for call in calls] == [("ncclSend", 2), ("ncclRecv", 0)]
