"""The transport over Gloo, for the CPU. As with NCCL, calls take plain ints and run in order.

Each operation becomes one entry in the queue of a CPU stream. The operation runs when the stream reaches this entry;
the caller does not wait. As in NCCL (src/enqueue.cc), the operations of one communicator run in the order of the calls,
even on different streams. Gloo aborts if the n-th operations of two ranks differ.
"""

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import COLLECTIVES, RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.errors import TransportError
from nccl_bench.ranks.process import NO_TIMEOUT
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.transports.base import UNIQUE_ID_BYTES, DirectAllReduce, Transport
from nccl_bench.transports.gloo_operations import (
    TORCH_DTYPES,
    TORCH_REDOPS,
    WIRE_DTYPES,
    GlooComm,
    GlooOperation,
    Start,
    copied,
    run_group,
    start_message,
    tensor_at,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Addition:
    """Reductions that Gloo does not have in older versions of torch."""

    since: str  # the first version of torch with these reductions
    redops: frozenset[RedOp]
    collectives: frozenset[str] = frozenset(COLLECTIVES)


_ADDITIONS = (
    _Addition(since="2.8", redops=frozenset({RedOp.AVG})),  # pytorch #149781
    # An older reduce_scatter always sums, without an error (seen with 2.5.1 to 2.8.0).
    _Addition(since="2.9", redops=frozenset(RedOp) - {RedOp.SUM}, collectives=frozenset({"reduce_scatter"})),
)


@dataclass
class _Group(threading.local):
    """The open group of the calling thread. With ``slots=True``, threads would share the values of the fields."""

    depth: int = 0  # the number of groups that are open now, one inside another
    held: dict[int, list[GlooOperation]] = field(default_factory=dict)  # stream -> operations held back
    kept: dict[int, list[Tensor]] = field(default_factory=dict)  # stream -> tensors to keep alive


class GlooTransport(Transport):
    """The calls of Gloo. Initialise torch.distributed first: through its store, the ranks find each other."""

    name = backend = "gloo"
    has_float8 = False
    dtypes: Mapping[str, int] = {name: number for number, name in enumerate(DTYPES)}
    redops: Mapping[RedOp, int] = {op: number for number, op in enumerate(RedOp)}

    def __init__(self, streams: CpuStreams) -> None:
        self._streams = streams
        self.retain = self._retain
        self._comms: dict[int, GlooComm] = {}
        self._next_comm = 1
        self._group = _Group()
        self._redops = [TORCH_REDOPS[op] for op in RedOp]

    def refusal(self, case: Case) -> str | None:
        for each in _ADDITIONS:
            if case.redop in each.redops and case.collective in each.collectives and torch.__version__ < each.since:
                return (
                    f"Gloo runs {case.collective} with {case.redop} since torch {each.since}, and this is torch "
                    f"{torch.__version__}"
                )
        return None

    # -- communicators -------------------------------------------------------------------------------------------

    def unique_id(self) -> bytes:
        return secrets.token_bytes(UNIQUE_ID_BYTES)

    def init_rank(self, world_size: int, unique_id: bytes, rank: int) -> int:
        name = f"nccl-bench-{unique_id.hex()}"
        store = dist.distributed_c10d.PrefixStore(name, dist.distributed_c10d._get_default_store())
        try:
            group = dist.ProcessGroupGloo(store, rank, world_size, NO_TIMEOUT)
        except RuntimeError as error:
            raise TransportError(f"Gloo could not connect {world_size} ranks: {error}") from error
        comm, self._next_comm = self._next_comm, self._next_comm + 1
        self._comms[comm] = GlooComm(group=group, rank=rank, world_size=world_size)
        return comm

    def destroy(self, comm: int) -> None:
        self._comms.pop(comm).last.synchronize()

    def abort(self, comm: int) -> None:
        """Free the communicator. Queued operations will fail. Gloo cannot stop an operation that already runs."""
        self._comms.pop(comm).aborted = True

    # -- operations ----------------------------------------------------------------------------------------------

    def all_reduce(self, send: int, recv: int, count: int, dtype: int, op: int, comm: int, stream: int) -> None:
        def start(gloo: GlooComm) -> Any:
            target = copied(send, recv, count, TORCH_DTYPES[dtype])
            options = dist.AllreduceOptions()
            options.reduceOp = self._redops[op]
            return gloo.group.allreduce([target], options)

        self._issue(start, comm, stream)

    def direct_all_reduce(self, comm: int) -> tuple[DirectAllReduce, Any]:
        """Return a function that looks up ``all_reduce`` at each call, so that an audit can replace it later."""
        return lambda *args: self.all_reduce(*args), comm

    def all_gather(self, send: int, recv: int, send_count: int, dtype: int, comm: int, stream: int) -> None:
        def start(gloo: GlooComm) -> Any:
            wire = WIRE_DTYPES[dtype]
            target = tensor_at(recv, send_count * gloo.world_size, wire)
            return gloo.group._allgather_base(target, tensor_at(send, send_count, wire))

        self._issue(start, comm, stream)

    def reduce_scatter(
        self, send: int, recv: int, recv_count: int, dtype: int, op: int, comm: int, stream: int
    ) -> None:
        def start(gloo: GlooComm) -> Any:
            source = tensor_at(send, recv_count * gloo.world_size, TORCH_DTYPES[dtype])
            options = dist.ReduceScatterOptions()
            options.reduceOp = self._redops[op]
            return gloo.group._reduce_scatter_base(tensor_at(recv, recv_count, source.dtype), source, options)

        self._issue(start, comm, stream)

    def all_to_all(self, send: int, recv: int, count: int, dtype: int, comm: int, stream: int) -> None:
        def start(gloo: GlooComm) -> Any:
            wire = WIRE_DTYPES[dtype]
            source, target = (tensor_at(pointer, count * gloo.world_size, wire) for pointer in (send, recv))
            return gloo.group.alltoall_base(target, source, [], [])

        self._issue(start, comm, stream)

    def broadcast(self, send: int, recv: int, count: int, dtype: int, root: int, comm: int, stream: int) -> None:
        def start(gloo: GlooComm) -> Any:
            wire = WIRE_DTYPES[dtype]
            target = copied(send, recv, count, wire) if gloo.rank == root else tensor_at(recv, count, wire)
            options = dist.BroadcastOptions()
            options.rootRank, options.rootTensor = root, 0
            return gloo.group.broadcast([target], options)

        self._issue(start, comm, stream)

    def reduce(self, send: int, recv: int, count: int, dtype: int, op: int, root: int, comm: int, stream: int) -> None:
        def start(gloo: GlooComm) -> Any:
            kind = TORCH_DTYPES[dtype]
            # NCCL writes only into the root's tensor. Gloo changes tensors on all ranks, so other ranks pass a copy.
            target = copied(send, recv, count, kind) if gloo.rank == root else tensor_at(send, count, kind).clone()
            options = dist.ReduceOptions()
            options.reduceOp, options.rootRank, options.rootTensor = self._redops[op], root, 0
            return gloo.group.reduce([target], options)

        self._issue(start, comm, stream)

    def send(self, buffer: int, count: int, dtype: int, peer: int, comm: int, stream: int) -> None:
        self._issue(lambda gloo: start_message(gloo, buffer, count, dtype, peer, "send"), comm, stream)

    def recv(self, buffer: int, count: int, dtype: int, peer: int, comm: int, stream: int) -> None:
        self._issue(lambda gloo: start_message(gloo, buffer, count, dtype, peer, "recv"), comm, stream)

    # -- issuing -------------------------------------------------------------------------------------------------

    def group_start(self) -> None:
        self._group.depth += 1

    def group_end(self) -> None:
        """Queue the operations of the group. Each stream gets one entry, which starts all operations and then waits."""
        if self._group.depth == 0:
            raise TransportError("group_end was called without an open group: call group_start first")
        self._group.depth -= 1
        if self._group.depth:
            return
        held, self._group.held = self._group.held, {}
        kept, self._group.kept = self._group.kept, {}
        for stream, operations in held.items():
            self._enqueue(operations, stream)
        for stream, tensors in kept.items():
            self._streams.retain(stream, *tensors)

    def _retain(self, stream: int, *tensors: Tensor | None) -> None:
        if self._group.depth:
            self._group.kept.setdefault(stream, []).extend(tensor for tensor in tensors if tensor is not None)
        else:
            self._streams.retain(stream, *tensors)

    def _issue(self, start: Start, comm: int, stream: int) -> None:
        operation = (self._comms[comm], start)
        if self._group.depth:
            self._group.held.setdefault(stream, []).append(operation)
        else:
            self._enqueue([operation], stream)

    def _enqueue(self, operations: list[GlooOperation], handle: int) -> None:
        stream = self._streams.from_handle(handle)
        comms = {id(comm): comm for comm, _ in operations}.values()
        for comm in comms:
            if comm.last_stream != handle:
                stream.wait_event(comm.last)
        stream.submit(run_group, operations)
        for comm in comms:
            comm.last.record(stream)
            comm.last_stream = handle

    def describe(self) -> dict[str, object]:
        return {"name": self.name, "version": torch.__version__}
