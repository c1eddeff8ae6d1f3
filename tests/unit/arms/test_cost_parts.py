"""The parts of an arm's call: together they make the calls that the whole call makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist

from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.collectives import COLLECTIVES, Placement
from nccl_bench.catalog.cost_parts import CostPart
from nccl_bench.streams import cpu
from nccl_bench.transports.device import open_device
from tests.support.communicators import nccl_device
from tests.support.fake_nccl import Call, FakeNccl
from tests.support.synthetic_runs import case

ALL = {*CostPart}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("stream-free", {CostPart.STREAM, CostPart.CALL}),
        ("stream-free-torch-stream", {CostPart.STREAM, CostPart.CALL}),
        ("dedicated-stream", ALL),
        ("dedicated-stream-wait-stream", ALL),
        ("transport", {CostPart.CALL}),
        # Their parts are inside of torch, and cannot be made alone.
        ("torch", set()),
        ("torch-async", set()),
        ("coordinator", set()),
    ],
)
def test_an_arm_has_the_parts_that_it_makes(name: str, parts: set[CostPart], one_rank: dist.ProcessGroup) -> None:
    device, tensor = open_device("cpu", 0), torch.zeros(8)
    with device.streams.stream(device.streams.new_stream()):
        arm = Arm(name, one_rank, device)
        made = arm.cost_parts(case(dtype="float32"), tensor, tensor, lambda _: None)
        assert {part for part, operations in made.items() if operations} == parts
        for operation in (operation for operations in made.values() for operation in operations):
            operation()
        device.streams.synchronize()
        arm.close()


@pytest.mark.parametrize("name", ["stream-free", "dedicated-stream", "transport"])
@pytest.mark.parametrize("collective", [name for name in COLLECTIVES if name != "send_recv"])
def test_the_librarys_call_alone_is_the_one_that_the_arm_makes(
    name: str, collective: str, one_rank: dist.ProcessGroup, fake: FakeNccl
) -> None:
    device, tensor = nccl_device(fake.path), torch.zeros(8)
    of_case = replace(case(32, collective, dtype="float32", placement=Placement.IN_PLACE), count=8)
    with cpu.stream(cpu.Stream()):
        arm = Arm(name, one_rank, device)
        output = tensor if collective != "all_to_all" else torch.zeros(8)
        whole, parts = (
            arm.bind(of_case, tensor, output),
            arm.cost_parts(of_case, tensor, output, lambda _: None),
        )
        (alone,) = parts[CostPart.CALL]
        expected = made_by(fake, whole)
        assert made_by(fake, alone) == expected != []
        arm.close()


def made_by(fake: FakeNccl, operation: object) -> list[Call]:
    fake.reset()
    assert callable(operation)
    operation()
    return fake.calls()


def noted(steps: list[tuple[str, int]], step: str) -> Callable[[cpu.Event, cpu.Stream], object]:
    """Return the method ``step`` of an event, which notes in ``steps`` the stream that it gets."""
    original = getattr(cpu.Event, step)

    def method(event: cpu.Event, stream: cpu.Stream) -> object:
        steps.append((step, stream.handle))
        return original(event, stream)

    return method


@pytest.mark.parametrize("name", ["dedicated-stream", "dedicated-stream-wait-stream"])
def test_the_fork_and_the_join_alone_order_streams_as_in_the_whole_call(
    name: str, one_rank: dist.ProcessGroup, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm, tensor = Arm(name, one_rank, nccl_device(fake.path)), torch.zeros(8)
    with cpu.stream(cpu.Stream()):
        steps: list[tuple[str, int]] = []
        for step in ("record", "wait"):
            monkeypatch.setattr(cpu.Event, step, noted(steps, step))
        whole = arm.bind(case(dtype="float32"), tensor, tensor)
        parts = arm.cost_parts(case(dtype="float32"), tensor, tensor, lambda _: None)
        whole()
        expected = [*steps]
        steps.clear()
        for operation in (*parts[CostPart.FORK], *parts[CostPart.CALL], *parts[CostPart.JOIN]):
            operation()
        assert steps == expected
    assert len(steps) == 4
    arm.close()


def test_a_returned_output_stays_alive_while_the_librarys_call_is_repeated(
    one_rank: dist.ProcessGroup, fake: FakeNccl
) -> None:
    kept: list[object] = []
    arm, tensor = Arm("stream-free", one_rank, nccl_device(fake.path)), torch.ones(8)
    parts = arm.cost_parts(case(32, dtype="float32", placement=Placement.RETURNED), tensor, None, kept.append)
    (output,) = kept
    assert isinstance(output, torch.Tensor)
    output.fill_(7)
    parts[CostPart.CALL][0]()
    assert output.tolist() == tensor.tolist()
    arm.close()
