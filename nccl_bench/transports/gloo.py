"""The transport's face over Gloo, for the CPU: the same integers in, the same ordering rules, no GPU.

An operation becomes one entry of the CPU stream it is given, so it runs when that stream gets there and the caller
goes on at once. As in NCCL (src/enqueue.cc), operations of one communicator also wait for each other across streams,
in the order they were called; that keeps Gloo's matching intact too, which would abort if two streams' threads issued
one group's collectives in different orders on different ranks.
"""

from __future__ import annotations

import ctypes
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.errors import TransportError
from nccl_bench.ranks.process import NO_TIMEOUT
from nccl_bench.streams.cpu import Event
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.transports.base import UNIQUE_ID_BYTES, Transport

_TORCH_DTYPES = tuple(getattr(torch, name) for name in DTYPES)
# Gloo knows no float8; an operation that only moves bytes does not need to.
_WIRE_DTYPES = tuple(torch.uint8 if name.startswith("float8") else getattr(torch, name) for name in DTYPES)
TORCH_REDOPS: Mapping[RedOp, Any] = {
    RedOp.SUM: dist.ReduceOp.SUM,
    RedOp.PROD: dist.ReduceOp.PRODUCT,
    RedOp.MIN: dist.ReduceOp.MIN,
    RedOp.MAX: dist.ReduceOp.MAX,
    RedOp.AVG: dist.ReduceOp.AVG,
}

# Starts one operation on a communicator's Gloo group and returns what to wait for.
_Start = Callable[["_Comm"], Any]


@dataclass(slots=True)
class _Comm:
    """One communicator; ``last`` follows its latest operation and ``last_stream`` is the handle that one went to."""

    group: Any
    rank: int
    world_size: int
    name: str
    last: Event = field(default_factory=Event)
    last_stream: int = -1
    splits: int = 0
    aborted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Half:
    """One end of a rank's message to itself, for which Gloo has no connection."""

    comm: _Comm
    method: str
    tensor: Tensor

    def wait(self) -> None:
        """As of Gloo's own work; ``_deliver`` has been there before."""


@dataclass
class _Group(threading.local):
    """The calling thread's open group: how deep, and what it holds back by stream. Slots would be every thread's."""

    depth: int = 0
    held: dict[int, list[tuple[_Comm, _Start]]] = field(default_factory=dict)
    kept: dict[int, list[Tensor]] = field(default_factory=dict)


class GlooTransport(Transport):
    """Gloo over torch.distributed's store, which has to be initialised first."""

    name = "gloo"
    dtypes: Mapping[str, int] = {name: number for number, name in enumerate(DTYPES)}
    redops: Mapping[RedOp, int] = {op: number for number, op in enumerate(RedOp)}

    def __init__(self, streams: CpuStreams) -> None:
        self._streams = streams
        self.retain = self._retain
        self._comms: dict[int, _Comm] = {}
        self._next_comm = 1
        self._group = _Group()
        self._redops = [TORCH_REDOPS[op] for op in RedOp]

    # -- communicators -------------------------------------------------------------------------------------------

    def unique_id(self) -> bytes:
        """A new id of ``UNIQUE_ID_BYTES`` bytes."""
        return secrets.token_bytes(UNIQUE_ID_BYTES)

    def init_rank(self, world_size: int, unique_id: bytes, rank: int) -> int:
        """The new communicator's handle. Collective: blocks until every rank has called it."""
        return self._make(f"nccl-bench-{unique_id.hex()}", world_size, rank)

    def _make(self, name: str, world_size: int, rank: int) -> int:
        store = dist.distributed_c10d.PrefixStore(name, dist.distributed_c10d._get_default_store())
        try:
            group = dist.ProcessGroupGloo(store, rank, world_size, NO_TIMEOUT)
        except RuntimeError as error:
            raise TransportError(f"Gloo could not connect {world_size} ranks: {error}") from error
        comm, self._next_comm = self._next_comm, self._next_comm + 1
        self._comms[comm] = _Comm(group=group, rank=rank, world_size=world_size, name=name)
        return comm

    def split(self, comm: int, color: int, key: int) -> int:
        """A communicator of the ranks that pass the same ``color``, ordered by ``key``; 0 for color -1. Collective."""
        parent = self._comms[comm]
        mine = torch.tensor([color, key, parent.rank])
        everyone = torch.empty(parent.world_size * 3, dtype=mine.dtype)
        parent.last.synchronize()
        parent.group._allgather_base(everyone, mine).wait()
        parent.splits += 1
        if color < 0:
            return 0
        members = sorted((k, r) for c, k, r in everyone.view(-1, 3).tolist() if c == color)
        name = f"{parent.name}/{parent.splits}/{color}"
        return self._make(name, len(members), members.index((key, parent.rank)))

    def finalize(self, comm: int) -> None:
        """Flush what is outstanding."""
        self._comms[comm].last.synchronize()

    def destroy(self, comm: int) -> None:
        """Free the communicator once its work is done."""
        self._comms.pop(comm).last.synchronize()

    def abort(self, comm: int) -> None:
        """Free the communicator; work that is queued fails instead of running. What runs already, Gloo cannot stop."""
        self._comms.pop(comm).aborted = True

    def async_error(self, comm: int) -> None:
        """Gloo reports a failure where it happens, in the stream: here there is never one left to raise."""

    # -- operations ----------------------------------------------------------------------------------------------

    def all_reduce(self, send: int, recv: int, count: int, dtype: int, op: int, comm: int, stream: int) -> None:
        """Reduce ``count`` elements over the ranks into every rank's ``recv``."""

        def start(this: _Comm) -> Any:
            target = _copied(send, recv, count, _TORCH_DTYPES[dtype])
            options = dist.AllreduceOptions()
            options.reduceOp = self._redops[op]
            return this.group.allreduce([target], options)

        self._issue(start, comm, stream)

    def all_gather(self, send: int, recv: int, send_count: int, dtype: int, comm: int, stream: int) -> None:
        """Gather every rank's ``send_count`` elements, in rank order, into every rank's ``recv``."""

        def start(this: _Comm) -> Any:
            wire = _WIRE_DTYPES[dtype]
            target = _tensor(recv, send_count * this.world_size, wire)
            return this.group._allgather_base(target, _tensor(send, send_count, wire))

        self._issue(start, comm, stream)

    def reduce_scatter(
        self, send: int, recv: int, recv_count: int, dtype: int, op: int, comm: int, stream: int
    ) -> None:
        """Reduce world size x ``recv_count`` elements and leave block ``rank`` in ``recv``."""

        def start(this: _Comm) -> Any:
            source = _tensor(send, recv_count * this.world_size, _TORCH_DTYPES[dtype])
            options = dist.ReduceScatterOptions()
            options.reduceOp = self._redops[op]
            return this.group._reduce_scatter_base(_tensor(recv, recv_count, source.dtype), source, options)

        self._issue(start, comm, stream)

    def all_to_all(self, send: int, recv: int, count: int, dtype: int, comm: int, stream: int) -> None:
        """Send block r of ``count`` elements to rank r, and put what rank r sends into block r of ``recv``."""

        def start(this: _Comm) -> Any:
            wire = _WIRE_DTYPES[dtype]
            source, target = (_tensor(pointer, count * this.world_size, wire) for pointer in (send, recv))
            return this.group.alltoall_base(target, source, [], [])

        self._issue(start, comm, stream)

    def broadcast(self, send: int, recv: int, count: int, dtype: int, root: int, comm: int, stream: int) -> None:
        """Copy the root's ``send`` into every rank's ``recv``."""

        def start(this: _Comm) -> Any:
            wire = _WIRE_DTYPES[dtype]
            target = _copied(send, recv, count, wire) if this.rank == root else _tensor(recv, count, wire)
            options = dist.BroadcastOptions()
            options.rootRank, options.rootTensor = root, 0
            return this.group.broadcast([target], options)

        self._issue(start, comm, stream)

    def reduce(self, send: int, recv: int, count: int, dtype: int, op: int, root: int, comm: int, stream: int) -> None:
        """Reduce ``count`` elements over the ranks into the root's ``recv``; other ranks' ``recv`` is not touched."""

        def start(this: _Comm) -> Any:
            kind = _TORCH_DTYPES[dtype]
            # Gloo uses every rank's tensor for partial results, and NCCL leaves all but the root's alone.
            target = _copied(send, recv, count, kind) if this.rank == root else _tensor(send, count, kind).clone()
            options = dist.ReduceOptions()
            options.reduceOp, options.rootRank, options.rootTensor = self._redops[op], root, 0
            return this.group.reduce([target], options)

        self._issue(start, comm, stream)

    def send(self, buffer: int, count: int, dtype: int, peer: int, comm: int, stream: int) -> None:
        """Send ``count`` elements to ``peer``, which must receive as many."""
        self._issue(lambda this: _exchange(this, buffer, count, dtype, peer, "send"), comm, stream)

    def recv(self, buffer: int, count: int, dtype: int, peer: int, comm: int, stream: int) -> None:
        """Receive ``count`` elements from ``peer``."""
        self._issue(lambda this: _exchange(this, buffer, count, dtype, peer, "recv"), comm, stream)

    # -- issuing -------------------------------------------------------------------------------------------------

    def group_start(self) -> None:
        """Hold back this thread's calls until the outermost ``group_end``."""
        self._group.depth += 1

    def group_end(self) -> None:
        """Enqueue what the group held back: one entry per stream, which starts everything and then waits for it."""
        if self._group.depth == 0:
            raise TransportError("group_end without group_start")
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
        """Keep tensors alive until what was issued on ``stream`` so far has run."""
        if self._group.depth:
            self._group.kept.setdefault(stream, []).extend(tensor for tensor in tensors if tensor is not None)
        else:
            self._streams.retain(stream, *tensors)

    def _issue(self, start: _Start, comm: int, stream: int) -> None:
        operation = (self._comms[comm], start)
        if self._group.depth:
            self._group.held.setdefault(stream, []).append(operation)
        else:
            self._enqueue([operation], stream)

    def _enqueue(self, operations: list[tuple[_Comm, _Start]], handle: int) -> None:
        stream = self._streams.from_handle(handle)
        comms = {id(comm): comm for comm, _ in operations}.values()
        for comm in comms:
            if comm.last_stream != handle:
                stream.wait_event(comm.last)
        stream.submit(_run, operations)
        for comm in comms:
            comm.last.record(stream)
            comm.last_stream = handle

    # -- memory --------------------------------------------------------------------------------------------------

    def mem_alloc(self, size: int) -> int:
        """Plain memory: on the CPU there is nothing to register it with."""
        raise TransportError(f"Gloo has no memory of its own to take {size} bytes from: use an ordinary tensor")

    def mem_free(self, ptr: int) -> None:
        """See ``mem_alloc``."""
        raise TransportError(f"Gloo has no memory of its own, so {ptr:#x} is not from it")

    def register(self, comm: int, ptr: int, size: int) -> int:
        """0: Gloo registers nothing, which is what NCCL's null handle says too."""
        return 0

    def deregister(self, comm: int, handle: int) -> None:
        """Refused: nothing was registered."""
        raise TransportError(f"Gloo has no memory that is registered, so {handle:#x} is no handle of any")

    def window_register(self, comm: int, ptr: int, size: int, flags: int = 0) -> int | None:
        """``None``: Gloo has no windows, which is what NCCL's null handle says too."""
        return None

    def window_deregister(self, comm: int, window: int) -> None:
        """Refused: there is no window to give up."""
        raise TransportError(f"Gloo has no memory windows, so {window:#x} is not one")

    def describe(self) -> dict[str, object]:
        """What the record should say."""
        return {"name": self.name, "version": torch.__version__}


def _run(operations: list[tuple[_Comm, _Start]]) -> None:
    """One entry of a stream's queue. All of a group starts before any of it is waited for, or a ring would deadlock."""
    if any(comm.aborted for comm, _ in operations):
        raise TransportError("Gloo: the communicator was aborted before the operation ran")
    try:
        works = [start(comm) for comm, start in operations]
        _deliver([work for work in works if isinstance(work, _Half)])
        for work in works:
            work.wait()
    except (RuntimeError, ValueError) as error:
        raise TransportError(f"Gloo: {error}") from error


def _exchange(comm: _Comm, buffer: int, count: int, dtype: int, peer: int, method: str) -> Any:
    tensor = _tensor(buffer, count, _WIRE_DTYPES[dtype])
    if peer == comm.rank:
        return _Half(comm=comm, method=method, tensor=tensor)
    return getattr(comm.group, method)([tensor], peer, 0)


def _deliver(halves: list[_Half]) -> None:
    """Copy what ranks send to themselves. As in NCCL, both ends have to be in one group."""
    for comm in {id(half.comm): half.comm for half in halves}.values():
        sends, recvs = (
            [half.tensor for half in halves if half.comm is comm and half.method == method]
            for method in ("send", "recv")
        )
        if len(sends) != len(recvs):
            raise TransportError(
                f"Gloo: rank {comm.rank} sends itself {len(sends)} messages and receives {len(recvs)}: "
                "issue both ends in one group, on one stream"
            )
        for sent, received in zip(sends, recvs, strict=True):
            received.copy_(sent)


def _copied(send: int, recv: int, count: int, dtype: torch.dtype) -> Tensor:
    target = _tensor(recv, count, dtype)
    if send != recv:
        target.copy_(_tensor(send, count, dtype))
    return target


def _tensor(pointer: int, count: int, dtype: torch.dtype) -> Tensor:
    """The memory at ``pointer`` as a tensor, not owned: the stream's queue keeps it alive (``retain``)."""
    if count == 0:
        return torch.empty(0, dtype=dtype)
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(pointer)
    return torch.frombuffer(memory, dtype=dtype)
