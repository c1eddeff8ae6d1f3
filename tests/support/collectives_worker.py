"""A rank program that runs every supported combination on the CPU and counts wrong elements as the benchmark does."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.arms.arm import Arm, Operation
from nccl_bench.bench.buffers import CaseBuffers
from nccl_bench.catalog.arms import ARMS, Order
from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.routes import Routes
from nccl_bench.catalog.support import unsupported
from nccl_bench.communicators.coordinator import GroupCoordinator, LegacyGroupCoordinator
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.config.routes import override
from nccl_bench.plan.memory import Arena
from nccl_bench.transports.device import Device, open_device, refusal
from tests.support.rank_processes import run_as_rank

SLOTS = 2
# Elements by world size. Odd numbers: one is longer than the period of the value tables, the other is tiny.
COUNTS = {2: 4099, 3: 5}
# The root by world size. It is not always the first rank.
ROOTS = {2: 1, 3: 0}
# Long enough that unordered work reads or writes at the wrong time.
DELAY_S = 0.05
# Numbers the barriers, so that each has a key of its own in the store.
BARRIERS = itertools.count()

CPU_ARMS = [name for name, arm in ARMS.items() if "gloo" in arm.transports]


# Three ranks divide and average differently from two. They send the same dtypes, so three dtypes are enough.
DTYPES_OF_THREE = ("float32", "bfloat16", "float8_e4m3fn")


def combinations(world_size: int) -> Iterator[tuple[str, str, RedOp | None, Placement]]:
    """Yield collective, dtype, redop and placement of every combination, supported or not."""
    dtypes = tuple(DTYPES) if world_size == 2 else DTYPES_OF_THREE
    for collective, row in COLLECTIVES.items():
        for dtype, redop, placement in product(dtypes, tuple(RedOp) if row.reduces else (None,), row.placements):
            yield collective, dtype, redop, placement


def make_case(collective: str, dtype: str, redop: RedOp | None, placement: Placement, world_size: int) -> Case:
    row, count = COLLECTIVES[collective], COUNTS[world_size]
    return Case(
        scenario=Scenario.ISOLATED,
        collective=collective,
        dtype=dtype,
        redop=redop,
        placement=placement,
        root=ROOTS[world_size] if row.rooted else None,
        size_bytes=row.size_bytes(count, DTYPES[dtype].itemsize, world_size),
        count=count,
    )


def make_buffers(case: Case, rank: int, world_size: int) -> CaseBuffers:
    slot_bytes = -(-case.size_bytes // 512) * 512
    regions = 2 if case.placement is Placement.OUT_OF_PLACE else 1
    arena = Arena(slots=SLOTS, slot_bytes=slot_bytes, regions=regions)
    return CaseBuffers(case, arena, rank, world_size, torch.device("cpu"))


@dataclass(frozen=True, kw_only=True)
class Participant:
    """This rank, its device, and the stream that every arm is called on."""

    group: dist.ProcessGroup
    device: Device
    caller: Any
    rank: int
    world_size: int

    def wrong(self, case: Case, bind: Callable[[Tensor, Any], Operation]) -> int:
        """Call once a slot, wait for the caller's stream, and return the number of wrong elements on this rank."""
        buffers, placement = make_buffers(case, self.rank, self.world_size), case.placement
        buffers.poison(SLOTS, placement)
        with self.device.streams.stream(self.caller):
            returned: list[Any] = [call() for call in [bind(*buffers.pair(slot, placement)) for slot in range(SLOTS)]]
        # Do not wait for the device: unjoined work must count as missing.
        self.caller.synchronize()
        return buffers.wrong(returned if placement is Placement.RETURNED else buffers.outputs(SLOTS, placement))


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


# Operations that no arm times


def rows(count: int, source: int) -> Tensor:
    """Return ``count`` rows of three values that differ for every rank and position."""
    return torch.arange(count * 3, dtype=torch.float32).view(count, 3) + 100 * source


def blank(count: int) -> Tensor:
    return torch.full((count, 3), -1.0)


def summed(count: int, world_size: int) -> Tensor:
    """Return the sum of ``rows(count, rank)`` over all ranks."""
    return torch.stack([rows(count, source) for source in range(world_size)]).sum(0)


def uneven(participant: Participant, comm: Any) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield name, result and expected result of the operations with ``sizes``."""
    rank, world_size, side = participant.rank, participant.world_size, participant.device.streams.new_stream()
    # The rank without rows is the first, the last, or one in the middle.
    for shape in ((3, 0, 2), (0, 4, 1), (2, 3, 0), (1, 1, 1)):
        sizes = list(shape[:world_size]) if world_size == 3 else [shape[0], shape[1] + shape[2]]
        total, begin = sum(sizes), sum(sizes[:rank])
        concatenated = torch.cat([rows(size, source) for source, size in enumerate(sizes)])

        output = blank(total)
        comm.all_gather(output, rows(sizes[rank], rank), sizes)
        yield f"all_gather {sizes}", output, concatenated

        output = blank(total)
        comm.cp_all_gather_into_tensor(output, rows(sizes[rank], rank), stream=side, sizes=sizes)
        side.synchronize()
        yield f"cp_all_gather_into_tensor {sizes}", output.clone(), concatenated

        whole, part = rows(total, rank), blank(sizes[rank])
        comm.reduce_scatter(part, whole, RedOp.SUM, sizes)
        yield f"reduce_scatter {sizes}", part, summed(total, world_size)[begin : begin + sizes[rank]]
        yield f"reduce_scatter {sizes} on its input", whole, rows(total, rank)


def even(participant: Participant, comm: Any) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield name, result and expected result of the other operations."""
    rank, world_size, side = participant.rank, participant.world_size, participant.device.streams.new_stream()
    last = world_size - 1

    output = blank(2 * world_size)
    comm.cp_all_gather_into_tensor(output, rows(2, rank), stream=side)
    side.synchronize()
    yield (
        "cp_all_gather_into_tensor",
        output.clone(),
        torch.cat([rows(2, source) for source in range(world_size)]),
    )

    source = rows(2, rank)
    yield "outplace_all_reduce", comm.outplace_all_reduce(source, op=RedOp.MAX), rows(2, last)
    yield "outplace_all_reduce on its input", source, rows(2, rank)

    message = rows(2, rank)
    if rank == 0:
        comm.send(message, last)
    elif rank == last:
        comm.recv(message, 0)
    yield "send and recv", message, rows(2, 0 if rank == last else rank)

    for root in range(world_size):
        tensor, out = rows(2, rank), blank(2)
        comm.broadcast(tensor, root, out)
        yield f"broadcast from {root}", out, rows(2, root)
        yield f"broadcast from {root} on its input", tensor, rows(2, rank)
        tensor = rows(2, rank)
        comm.broadcast(tensor, root)
        yield f"broadcast from {root} in place", tensor, rows(2, root)

        tensor, out = rows(2, rank), blank(2)
        comm.reduce(tensor, root, RedOp.SUM, out)
        # As in NCCL, only the root's output is written.
        yield f"reduce to {root}", out, summed(2, world_size) if rank == root else blank(2)
        yield f"reduce to {root} on its input", tensor, rows(2, rank)
        tensor = rows(2, rank)
        comm.reduce(tensor, root, RedOp.SUM)
        yield f"reduce to {root} in place", tensor, summed(2, world_size) if rank == root else rows(2, rank)

        output = blank(2 * world_size)
        comm.gather(output, rows(2, rank), root)
        everyone = torch.cat([rows(2, source) for source in range(world_size)])
        yield f"gather to {root}", output, everyone if rank == root else blank(2 * world_size)


def coordinated(participant: Participant, coordinator: GroupCoordinator) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield name, result and expected result of what an engine calls on its coordinator."""
    rank, world_size, streams = participant.rank, participant.world_size, participant.device.streams
    caller, side, last = streams.current_stream(), streams.new_stream(), world_size - 1
    sizes = list(range(world_size))  # The first rank has no rows.
    total, begin = sum(sizes), sum(sizes[:rank])

    output = blank(total)
    coordinator.all_gatherv(output, rows(sizes[rank], rank), sizes)
    yield "all_gatherv", output, torch.cat([rows(size, source) for source, size in enumerate(sizes)])

    whole, part = rows(total, rank), blank(sizes[rank])
    coordinator.reduce_scatterv(part, whole, sizes)
    yield "reduce_scatterv", part, summed(total, world_size)[begin : begin + sizes[rank]]
    yield "reduce_scatterv on its input", whole, rows(total, rank)

    source = rows(2, rank)
    yield "outplace_all_reduce", coordinator.outplace_all_reduce(source), summed(2, world_size)
    yield "outplace_all_reduce on its input", source, rows(2, rank)

    message = rows(2, rank)
    if rank == 0:
        coordinator.send(message, last)
    elif rank == last:
        coordinator.recv(message, 0)
    yield "send and recv", message, rows(2, 0 if rank == last else rank)

    tensor = rows(2, rank)
    coordinator.broadcast(tensor, last)
    yield "broadcast", tensor, rows(2, last)

    output = blank(2 * world_size)
    side.wait_stream(caller)
    coordinator.cp_all_gather_into_tensor_async(output, rows(2, rank), side)
    caller.wait_stream(side)
    yield "cp_all_gather_into_tensor_async", output, torch.cat([rows(2, source) for source in range(world_size)])

    # No rank leaves the barrier before the late one has entered.
    key = f"barrier {next(BARRIERS)}"
    store = dist.distributed_c10d._get_default_store()
    time.sleep(DELAY_S * (rank == last))
    store.add(key, 1)
    coordinator.barrier()
    yield "barrier", torch.tensor(store.add(key, 0)), torch.tensor(world_size)


def coordinators(participant: Participant) -> dict[str, bool]:
    """Return whether each result of each coordinator is right, with both backends in both modes."""
    streams = participant.device.streams
    kinds: dict[str, Callable[[Routes], GroupCoordinator]] = {
        "coordinator": lambda routes: GroupCoordinator(participant.group, participant.device, routes),
        "coordinator-legacy": lambda routes: LegacyGroupCoordinator(participant.group, participant.device, routes),
        "coordinator-legacy on the current one": lambda routes: LegacyGroupCoordinator(
            participant.group, participant.device, routes, use_current_stream=True
        ),
    }
    results = {}
    for (kind, make), overrides in product(kinds.items(), ((), ("eager=communicator", "graph=torch"))):
        coordinator = make(override(overrides))
        # The CPU has no graphs: graph_capture() only chooses the backend, and operations run at once.
        for mode, context in (("eager", nullcontext), ("graph", coordinator.graph_capture)):
            with streams.stream(participant.caller), context():
                for name, got, expected in coordinated(participant, coordinator):
                    streams.current_stream().synchronize()
                    results[" ".join((f"{kind}:", *overrides, mode, name))] = torch.equal(got, expected)
        coordinator.close()
    return results


def operations(participant: Participant) -> dict[str, bool]:
    """Return whether each operation that no arm times has the right result, by communicator."""
    streams = participant.device.streams
    kinds: dict[str, Callable[[], Any]] = {
        "stream-free": lambda: StreamFreeCommunicator(participant.group, participant.device),
        "dedicated-stream": lambda: DedicatedStreamCommunicator(participant.group, participant.device),
        "dedicated-stream on the current one": lambda: DedicatedStreamCommunicator(
            participant.group, participant.device, use_current_stream=True
        ),
    }
    results = {}
    for kind, make in kinds.items():
        comm = make()
        private = comm.stream if kind == "dedicated-stream" else None
        with streams.stream(participant.caller):
            for name, got, expected in itertools.chain(uneven(participant, comm), even(participant, comm)):
                (private or participant.caller).synchronize()
                results[f"{kind}: {name}"] = torch.equal(got, expected)
        comm.close()
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
