"""A rank program that runs every supported combination on the CPU and counts wrong elements as the benchmark does."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import product

import torch.distributed as dist
from torch import Tensor

from nccl_bench.arms.arm import Arm, Operation
from nccl_bench.catalog.arms import ARMS, Order
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.support import unsupported
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.transports.device import open_device, refusal
from tests.support.participant import DELAY_S, Participant, make_case
from tests.support.rank_processes import run_as_rank
from tests.support.untimed_operations import coordinators, operations

CPU_ARMS = [name for name, arm in ARMS.items() if "gloo" in arm.transports]
# Three ranks divide and average differently from two. They send the same dtypes, so three dtypes are enough.
DTYPES_OF_THREE = ("float32", "bfloat16", "float8_e4m3fn")


def combinations(world_size: int) -> Iterator[tuple[str, str, RedOp | None, Placement]]:
    """Yield collective, dtype, redop and placement of every combination, supported or not."""
    dtypes = tuple(DTYPES) if world_size == 2 else DTYPES_OF_THREE
    for collective, row in COLLECTIVES.items():
        for dtype, redop, placement in product(dtypes, tuple(RedOp) if row.reduces else (None,), row.placements):
            yield collective, dtype, redop, placement


def combinations_of_arms(participant: Participant) -> dict[str, int]:
    """Return the number of wrong elements of every supported combination."""
    arms = {
        name: Arm(name, participant.group, participant.device)
        for name in CPU_ARMS
        if ARMS[name].order is not Order.BARE
    }
    results = {}
    for collective, dtype, redop, placement in combinations(participant.world_size):
        case = make_case(collective, dtype, redop, placement, participant.world_size)
        if refusal(participant.device, case):
            continue  # this torch is too old
        supported = [
            arm
            for name, arm in arms.items()
            if unsupported(ARMS[name], DEVICES["cpu"], collective, dtype, redop, placement) is None
        ]
        for arm in supported:
            key = " ".join((arm.name, collective, dtype, str(redop), placement))
            results[key] = participant.wrong(case, lambda x, y, arm=arm, case=case: arm.bind(case, x, y))
    for arm in arms.values():
        arm.close()
    return results


# Communicators with a defect


class DropsARank(StreamFreeCommunicator):
    """A defect: the last rank contributes zeros."""

    def all_reduce(self, tensor: Tensor, op: RedOp = RedOp.SUM) -> None:
        if self.rank == self.world_size - 1:
            self._streams.submit(tensor.zero_)
        super().all_reduce(tensor, op)


class DoesNothing(StreamFreeCommunicator):
    """A defect: returns without writing, as SGLang's communicator did when it was disabled."""

    def all_reduce(self, tensor: Tensor, op: RedOp = RedOp.SUM) -> None: ...

    def outplace_all_reduce(self, input: Tensor, out: Tensor | None = None, op: RedOp = RedOp.SUM) -> Tensor:
        return input if out is None else out


class LeavesTheLastElement(StreamFreeCommunicator):
    """A defect: the count is one too small."""

    def outplace_all_reduce(self, input: Tensor, out: Tensor | None = None, op: RedOp = RedOp.SUM) -> Tensor:
        assert out is not None
        return super().outplace_all_reduce(input[:-1], out[:-1], op)


class SendsTheWrongWay(StreamFreeCommunicator):
    """A defect: the peers are swapped."""

    def send_recv(self, output: Tensor, input: Tensor, dst: int, src: int) -> None:
        super().send_recv(output, input, dst=src, src=dst)


class WrongRoot(StreamFreeCommunicator):
    """A defect: the rank after the root is the root."""

    def broadcast(self, tensor: Tensor, src: int, out: Tensor | None = None) -> None:
        super().broadcast(tensor, (src + 1) % self.world_size, out)


def defects(participant: Participant) -> dict[str, int]:
    """Return the number of wrong elements by defect; names with ``right`` have none."""
    results = {}
    kinds = {
        "drops a rank": (DropsARank, "all_reduce", Placement.IN_PLACE),
        "does nothing in place": (DoesNothing, "all_reduce", Placement.IN_PLACE),
        "does nothing out of place": (DoesNothing, "all_reduce", Placement.OUT_OF_PLACE),
        "leaves the last element": (LeavesTheLastElement, "all_reduce", Placement.OUT_OF_PLACE),
        "sends the wrong way": (SendsTheWrongWay, "send_recv", Placement.OUT_OF_PLACE),
        "takes the wrong root": (WrongRoot, "broadcast", Placement.IN_PLACE),
        "right all_reduce": (StreamFreeCommunicator, "all_reduce", Placement.IN_PLACE),
        "right send_recv": (StreamFreeCommunicator, "send_recv", Placement.OUT_OF_PLACE),
    }
    for name, (kind, collective, placement) in kinds.items():
        redop = RedOp.SUM if COLLECTIVES[collective].reduces else None
        case = make_case(collective, "bfloat16", redop, placement, participant.world_size)
        arm = Arm("stream-free", participant.group, participant.device)
        arm.communicator.close()
        arm.communicator = kind(participant.group, participant.device)
        results[name] = participant.wrong(case, lambda x, y, arm=arm, case=case: arm.bind(case, x, y))
        arm.close()
    return results


def unordered(participant: Participant) -> Mapping[str, Mapping[str, int]]:
    """Return the wrong elements of every arm whose private stream is late (needs a join) or whose input is (a fork)."""
    case = make_case("all_reduce", "bfloat16", RedOp.SUM, Placement.IN_PLACE, participant.world_size)
    results: dict[str, dict[str, int]] = {"late private stream": {}, "late input": {}}
    for name in CPU_ARMS:
        arm = Arm(name, participant.group, participant.device)

        def late_stream(x: Tensor, y: Tensor, arm: Arm = arm) -> Operation:
            operation, private = arm.bind(case, x, y), arm.communicator.stream

            def call() -> None:
                if private is not None:
                    private.submit(time.sleep, DELAY_S)
                operation()

            return call

        def late_input(x: Tensor, y: Tensor, arm: Arm = arm) -> Operation:
            operation, right = arm.bind(case, x, y), x.clone()

            def call() -> None:
                x.zero_()
                participant.device.streams.submit(time.sleep, DELAY_S)
                participant.device.streams.submit(x.copy_, right)
                operation()

            return call

        for defect, bind in (("late private stream", late_stream), ("late input", late_input)):
            results[defect][name] = participant.wrong(case, bind)
            participant.device.streams.synchronize()
        arm.close()
    return results


def body(group: dist.ProcessGroup) -> object:
    """Return the results of every part on this rank."""
    device = open_device("cpu", 0)
    participant = Participant(
        group=group,
        device=device,
        caller=device.streams.new_stream(),
        rank=dist.get_rank(group),
        world_size=dist.get_world_size(group),
    )
    return {
        part.__name__: part(participant)
        for part in (combinations_of_arms, defects, unordered, operations, coordinators)
    }


def main(spec_file: str) -> None:
    run_as_rank(body, spec_file)
