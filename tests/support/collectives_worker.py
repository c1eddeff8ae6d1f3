"""One rank of the matrix: every combination the table promises on the CPU, with the benchmark's own check."""

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
from nccl_bench.catalog.routes import Routes, override
from nccl_bench.catalog.support import unsupported
from nccl_bench.communicators.coordinator import GroupCoordinator, LegacyGroupCoordinator
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.plan.memory import Arena
from nccl_bench.transports.device import Device, open_device
from tests.support.rank_processes import run_as_rank

SLOTS = 2
# Odd ones, by world size: more than a period of the tables, and few.
COUNTS = {2: 4099, 3: 5}
# The root is not always the first rank.
ROOTS = {2: 1, 3: 0}
# Long against what a missing order would need to go unnoticed.
DELAY_S = 0.05
# Each is met once.
BARRIERS = itertools.count()

HERE = [name for name, arm in ARMS.items() if "gloo" in arm.transports]


# Three ranks differ in how they divide and average; how dtypes reach the wire they share with two.
DTYPES_OF_THREE = ("float32", "bfloat16", "float8_e4m3fn")


def combinations(world_size: int) -> Iterator[tuple[str, str, RedOp | None, Placement]]:
    """Collective, dtype, redop, placement."""
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
    regions = 1 if case.placement is Placement.IN_PLACE else 2
    arena = Arena(slots=SLOTS, slot_bytes=slot_bytes, regions=regions)
    return CaseBuffers(case, arena, rank, world_size, torch.device("cpu"))


@dataclass(frozen=True, kw_only=True)
class ProcessSet:
    """This rank, its device, and the stream that every arm is called on."""

    group: dist.ProcessGroup
    device: Device
    caller: Any
    rank: int
    world_size: int

    def wrong(self, buffers: CaseBuffers, bind: Callable[[Tensor, Tensor], Operation]) -> int:
        """Wrong elements on this rank after one call a slot, once the caller's stream is done."""
        buffers.poison(SLOTS)
        with self.device.streams.stream(self.caller):
            for call in [bind(*buffers.pair(slot)) for slot in range(SLOTS)]:
                call()
        # Not the device's: work that was not joined counts as not done.
        self.caller.synchronize()
        return buffers.wrong(SLOTS)


def matrix(world: ProcessSet) -> dict[str, int]:
    """Wrong elements by what was run."""
    arms = {name: Arm(name, world.group, world.device) for name in HERE if ARMS[name].order is not Order.BARE}
    found = {}
    for collective, dtype, redop, placement in combinations(world.world_size):
        supported = [
            arm
            for name, arm in arms.items()
            if unsupported(ARMS[name], DEVICES["cpu"], collective, dtype, redop, placement) is None
        ]
        case = make_case(collective, dtype, redop, placement, world.world_size)
        buffers = make_buffers(case, world.rank, world.world_size)
        for arm in supported:
            key = " ".join((arm.name, collective, dtype, str(redop), placement))
            found[key] = world.wrong(buffers, lambda x, y, arm=arm, case=case: arm.bind(case, x, y))
    for arm in arms.values():
        arm.close()
    return found


# What is planted


class DropsARank(StreamFreeCommunicator):
    """Forgets the last rank's contribution."""

    def all_reduce(self, tensor: Tensor, op: RedOp = RedOp.SUM) -> None:
        if self.rank == self.world_size - 1:
            self._streams.submit(tensor.zero_)
        super().all_reduce(tensor, op)


class DoesNothing(StreamFreeCommunicator):
    """Returns without writing, as a disabled communicator of SGLang's did."""

    def all_reduce(self, tensor: Tensor, op: RedOp = RedOp.SUM) -> None: ...

    def outplace_all_reduce(self, input: Tensor, out: Tensor | None = None, op: RedOp = RedOp.SUM) -> Tensor:
        return input if out is None else out


class LeavesTheLastElement(StreamFreeCommunicator):
    """Is off by one in a count."""

    def outplace_all_reduce(self, input: Tensor, out: Tensor | None = None, op: RedOp = RedOp.SUM) -> Tensor:
        assert out is not None
        return super().outplace_all_reduce(input[:-1], out[:-1], op)


class SendsTheWrongWay(StreamFreeCommunicator):
    """Swaps the peers."""

    def send_recv(self, output: Tensor, input: Tensor, dst: int, src: int) -> None:
        super().send_recv(output, input, dst=src, src=dst)


class WrongRoot(StreamFreeCommunicator):
    """Takes the rank after the root."""

    def broadcast(self, tensor: Tensor, src: int, out: Tensor | None = None) -> None:
        super().broadcast(tensor, (src + 1) % self.world_size, out)


def planted(world: ProcessSet) -> dict[str, int]:
    """Wrong elements by the defect; ``right`` ones among them are the same set-up without a defect."""
    found = {}
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
        case = make_case(collective, "bfloat16", redop, placement, world.world_size)
        arm = Arm("stream-free", world.group, world.device)
        arm.communicator.close()
        arm.communicator = kind(world.group, world.device)
        found[name] = world.wrong(
            make_buffers(case, world.rank, world.world_size), lambda x, y, arm=arm, case=case: arm.bind(case, x, y)
        )
        arm.close()
    return found


def unordered(world: ProcessSet) -> Mapping[str, Mapping[str, int]]:
    """Wrong elements of every arm where the private stream is late (no join) and where the input is (no fork)."""
    case = make_case("all_reduce", "bfloat16", RedOp.SUM, Placement.IN_PLACE, world.world_size)
    found: dict[str, dict[str, int]] = {"late private stream": {}, "late input": {}}
    for name in HERE:
        arm = Arm(name, world.group, world.device)
        buffers = make_buffers(case, world.rank, world.world_size)

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
                world.device.streams.submit(time.sleep, DELAY_S)
                world.device.streams.submit(x.copy_, right)
                operation()

            return call

        for defect, bind in (("late private stream", late_stream), ("late input", late_input)):
            found[defect][name] = world.wrong(buffers, bind)
            world.device.streams.synchronize()
        arm.close()
    return found


# Operations beside the table's


def rows(count: int, source: int) -> Tensor:
    """``count`` rows of three that tell rank and place."""
    return torch.arange(count * 3, dtype=torch.float32).view(count, 3) + 100 * source


def blank(count: int) -> Tensor:
    return torch.full((count, 3), -1.0)


def summed(count: int, world_size: int) -> Tensor:
    """The sum over all ranks of ``rows(count, rank)``."""
    return torch.stack([rows(count, source) for source in range(world_size)]).sum(0)


def uneven(world: ProcessSet, comm: Any) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Operations with ``sizes``: their names, what they gave and what they must give."""
    rank, world_size, side = world.rank, world.world_size, world.device.streams.new_stream()
    # A rank with nothing at each end and in the middle.
    for shape in ((3, 0, 2), (0, 4, 1), (2, 3, 0), (1, 1, 1)):
        sizes = list(shape[:world_size]) if world_size == 3 else [shape[0], shape[1] + shape[2]]
        total, begin = sum(sizes), sum(sizes[:rank])
        everyone = torch.cat([rows(size, source) for source, size in enumerate(sizes)])

        output = blank(total)
        comm.all_gather(output, rows(sizes[rank], rank), sizes)
        yield f"all_gather {sizes}", output, everyone

        output = blank(total)
        comm.cp_all_gather_into_tensor(output, rows(sizes[rank], rank), stream=side, sizes=sizes)
        side.synchronize()
        yield f"cp_all_gather_into_tensor {sizes}", output.clone(), everyone

        whole, part = rows(total, rank), blank(sizes[rank])
        comm.reduce_scatter(part, whole, RedOp.SUM, sizes)
        yield f"reduce_scatter {sizes}", part, summed(total, world_size)[begin : begin + sizes[rank]]
        yield f"reduce_scatter {sizes} on its input", whole, rows(total, rank)


def others(world: ProcessSet, comm: Any) -> Iterator[tuple[str, Tensor, Tensor]]:
    """The rest: names, what was given and what must be."""
    rank, world_size, side = world.rank, world.world_size, world.device.streams.new_stream()
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
        # As in NCCL, the root's output is written and no other.
        yield f"reduce to {root}", out, summed(2, world_size) if rank == root else blank(2)
        yield f"reduce to {root} on its input", tensor, rows(2, rank)
        tensor = rows(2, rank)
        comm.reduce(tensor, root, RedOp.SUM)
        yield f"reduce to {root} in place", tensor, summed(2, world_size) if rank == root else rows(2, rank)

    first, second = rows(2, rank), rows(1, rank)
    comm.group_start()
    comm.all_reduce(first, RedOp.MAX)
    comm.all_reduce(second, RedOp.MIN)
    comm.group_end()
    yield "first of a group", first, rows(2, last)
    yield "second of a group", second, rows(1, 0)


def coordinated(world: ProcessSet, coordinator: GroupCoordinator) -> Iterator[tuple[str, Tensor, Tensor]]:
    """What an engine calls on its coordinator: names, what was given and what must be."""
    rank, world_size, streams = world.rank, world.world_size, world.device.streams
    caller, side, last = streams.current_stream(), streams.new_stream(), world_size - 1
    sizes = list(range(world_size))  # the first rank has nothing
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

    # Whoever comes late, nobody is through before.
    key = f"barrier {next(BARRIERS)}"
    store = dist.distributed_c10d._get_default_store()
    time.sleep(DELAY_S * (rank == last))
    store.add(key, 1)
    coordinator.barrier()
    yield "barrier", torch.tensor(store.add(key, 0)), torch.tensor(world_size)


def coordinators(world: ProcessSet) -> dict[str, bool]:
    """Whether everything is right on the coordinators, by coordinator and by what carries it."""
    streams = world.device.streams
    kinds: dict[str, Callable[[Routes], GroupCoordinator]] = {
        "coordinator": lambda routes: GroupCoordinator(world.group, world.device, routes),
        "coordinator-legacy": lambda routes: LegacyGroupCoordinator(world.group, world.device, routes),
        "coordinator-legacy on the current one": lambda routes: LegacyGroupCoordinator(
            world.group, world.device, routes, use_current_stream=True
        ),
    }
    found = {}
    for (kind, make), overrides in product(kinds.items(), ((), ("eager=communicator", "graph=torch"))):
        coordinator = make(override(overrides))
        # The CPU has no graphs: inside, operations go where they would in one, and are done.
        for where, around in (("eager", nullcontext), ("graph", coordinator.graph_capture)):
            with streams.stream(world.caller), around():
                for name, got, expected in coordinated(world, coordinator):
                    streams.current_stream().synchronize()
                    found[" ".join((f"{kind}:", *overrides, where, name))] = torch.equal(got, expected)
        coordinator.close()
    return found


def operations(world: ProcessSet) -> dict[str, bool]:
    """Whether every operation that no arm runs gives what it must, by communicator."""
    streams = world.device.streams
    kinds: dict[str, Callable[[], Any]] = {
        "stream-free": lambda: StreamFreeCommunicator(world.group, world.device),
        "dedicated-stream": lambda: DedicatedStreamCommunicator(world.group, world.device),
        "dedicated-stream on the current one": lambda: DedicatedStreamCommunicator(
            world.group, world.device, use_current_stream=True
        ),
    }
    found = {}
    for kind, make in kinds.items():
        comm = make()
        private = comm.stream if kind == "dedicated-stream" else None
        with streams.stream(world.caller):
            for name, got, expected in itertools.chain(uneven(world, comm), others(world, comm)):
                (private or world.caller).synchronize()
                found[f"{kind}: {name}"] = torch.equal(got, expected)
        comm.close()
    return found


def body(group: dist.ProcessGroup) -> object:
    """Everything this rank found."""
    device = open_device("cpu", 0)
    world = ProcessSet(
        group=group,
        device=device,
        caller=device.streams.new_stream(),
        rank=dist.get_rank(group),
        world_size=dist.get_world_size(group),
    )
    return {part.__name__: part(world) for part in (matrix, planted, unordered, operations, coordinators)}


if __name__ == "__main__":
    run_as_rank(body)
