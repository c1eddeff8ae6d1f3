"""The results of operations that no arm times, on communicators and on coordinators."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import product
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.catalog.routes import Routes
from nccl_bench.communicators.coordinator import GroupCoordinator, LegacyGroupCoordinator
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.config.routes import override
from tests.support.participant import DELAY_S, Participant

# Numbers the barriers, so that each has a key of its own in the store.
BARRIERS = itertools.count()


def rows(count: int, source: int) -> Tensor:
    """Return ``count`` rows of three values that differ for every rank and position."""
    return torch.arange(count * 3, dtype=torch.float32).view(count, 3) + 100 * source


def blank(count: int) -> Tensor:
    """Return ``count`` rows that no rank sends."""
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
