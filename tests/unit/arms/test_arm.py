"""Arms: every collective that they bind, the capture of graphs, and the routes of a coordinator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.arms import ARMS, COORDINATORS
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import COLLECTIVES, RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.communicators.protocol import CALLS
from nccl_bench.communicators.registry import BUILDERS
from nccl_bench.communicators.torch_distributed import ProcessGroupCommunicator
from nccl_bench.config.routes import override
from nccl_bench.errors import DisabledError, NcclBenchError
from nccl_bench.streams import cpu
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.transports.device import Device
from nccl_bench.transports.gloo import GlooTransport
from tests.support.arm_cases import EVERY_COLLECTIVE, ORDERED, OVER_GLOO, buffers, case, supports
from tests.support.communicator_calls import raw_bytes

ABSENT = {("torch", "send_recv"), *((name, "gather") for name in COORDINATORS)}


def cases(collective: str) -> Iterator[Case]:
    """Yield a collective with every data type, reduction and placement."""
    row = COLLECTIVES[collective]
    for dtype in DTYPES:
        for redop in RedOp if row.reduces else [None]:
            for placement in row.placements:
                yield case(collective, dtype=dtype, redop=redop, placement=placement)


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
def capturing(one_rank: dist.ProcessGroup) -> Iterator[Callable[..., tuple[Arm, Capturing]]]:
    """Yield a maker of arms whose device has graphs, and close what it made."""
    arms: list[Arm] = []

    def capturing(name: str, *routes: Any) -> tuple[Arm, Capturing]:
        streams = Capturing()
        arms.append(Arm(name, one_rank, Device(streams=streams, transport=GlooTransport(streams)), *routes))
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
