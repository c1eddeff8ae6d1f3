"""torch.distributed: the operators that its process groups call, in Python and in C++.

With NCCL, ``ProcessGroupNCCL`` forks to its own stream and joins with torch's events, which the CUDA callbacks show. So
the stream that waits for another stream during the call is the stream of the collective.

With Gloo, threads of C++ do the work. Each group then counts as a stream of its own, and ``Work.wait`` is a wait of the
host.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.audit.order.actions import (
    Action,
    EventDestroyed,
    EventRecorded,
    HostWaited,
    StreamOfMemoryRecorded,
    StreamWaited,
)
from nccl_bench.audit.order.places import Stream
from nccl_bench.audit.sources.base import Replacements, Source
from nccl_bench.audit.sources.effects import tensors_in
from nccl_bench.audit.sources.feed import Feed, Place
from nccl_bench.audit.sources.memory import Memory
from nccl_bench.audit.sources.model import CPU_DEVICE, DeviceModel
from nccl_bench.audit.sources.operators import Operators
from nccl_bench.audit.sources.ranges import Touched

# c10d's operators. Arguments named output... are written, arguments named input... are read, others are both.
_COLLECTIVES = (
    "allreduce_",
    "allreduce_coalesced_",
    "broadcast_",
    "allgather_",
    "_allgather_base_",
    "allgather_coalesced_",
    "allgather_into_tensor_coalesced_",
    "reduce_",
    "gather_",
    "scatter_",
    "reduce_scatter_",
    "_reduce_scatter_base_",
    "reduce_scatter_tensor_coalesced_",
    "alltoall_",
    "alltoall_base_",
    "send",
    "recv_",
    "recv_any_source_",
)
_FUNCTIONAL = (
    "all_reduce",
    "all_reduce_",
    "all_reduce_coalesced",
    "all_reduce_coalesced_",
    "all_gather_into_tensor",
    "all_gather_into_tensor_out",
    "all_gather_into_tensor_coalesced",
    "reduce_scatter_tensor",
    "reduce_scatter_tensor_out",
    "reduce_scatter_tensor_coalesced",
    "all_to_all_single",
    "broadcast",
    "broadcast_",
)
# The methods of ProcessGroup that call these operators and return a Work. torch 2.13 has new names for some.
_METHODS = (
    "allreduce",
    "allreduce_coalesced",
    "broadcast",
    "allgather",
    "_allgather_base",
    "all_gather_single",
    "allgather_coalesced",
    "allgather_into_tensor_coalesced",
    "all_gather_single_coalesced",
    "reduce",
    "gather",
    "scatter",
    "reduce_scatter",
    "_reduce_scatter_base",
    "reduce_scatter_single",
    "reduce_scatter_tensor_coalesced",
    "reduce_scatter_single_coalesced",
    "alltoall",
    "alltoall_base",
    "all_to_all_single",
    "send",
    "recv",
    "recv_anysource",
    "_end_coalescing",
)
_READ_ONLY = frozenset({"c10d::send"})


class _PerThread(threading.local):
    event = 0  # the number of the event after the latest collective on Gloo; 0 if none was called
    depth = 0  # the number of calls of ProcessGroup's methods that are running


class DistributedSource(Source):
    """Watches torch.distributed."""

    name: ClassVar[str] = "torch.distributed"
    sees: ClassVar[str] = "collectives of all process groups, their streams, Work.wait, functional collectives"
    blind_to: ClassVar[tuple[str, ...]] = (
        "With Gloo: waits by C++ code. A collective that C++ code starts counts as finished when its call returns.",
        "With Gloo: futures of a Work; asking for one counts as waiting.",
    )

    def __init__(self, feed: Feed, model: DeviceModel, memory: Memory, operators: Operators) -> None:
        self._feed = feed
        self._model = model
        self._memory = memory
        self._operators = operators
        self._replacements = Replacements()
        self._per_thread = _PerThread()
        self._events_of_works: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._events_of_tensors: dict[int, int] = {}  # the address of a functional collective's result -> its event
        self._streams_of_groups: dict[str, Stream] = {}

    def refusal(self) -> str | None:
        return None if dist.is_available() else f"torch {torch.__version__} is built without torch.distributed"

    def start(self) -> None:
        handlers = self._operators.handlers
        handlers |= {f"c10d::{name}": self._collective for name in _COLLECTIVES}
        handlers |= {f"_c10d_functional::{name}": self._collective for name in _FUNCTIONAL}
        if self._model.has_callbacks:
            return
        handlers["_c10d_functional::wait_tensor"] = self._wait_tensor
        for name in _METHODS:
            self._replacements.replace(dist.ProcessGroup, name, self._watched_method)
        for name in ("wait", "synchronize", "get_future", "is_completed"):
            self._replacements.replace(dist.Work, name, self._watched_wait)

    def stop(self) -> None:
        self._replacements.restore()
        for name in [name for name in self._operators.handlers if "c10d" in name]:
            del self._operators.handlers[name]

    # -- collectives ---------------------------------------------------------------------------------------------------

    def _collective(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result, meanwhile = self._feed.collect(func, args, kwargs)
        name = func._schema.name
        reads, writes = _tensors(func, args, kwargs, result)
        used = [each for each in (*reads, *writes) if self._model.holds(each)]
        if not used:
            self._feed.extend(meanwhile)
            return result
        if self._model.has_callbacks:
            self._launch_between(name, reads, writes, used, meanwhile)
        else:
            self._launch_on_gloo(name, reads, writes, args, result)
        return result

    def _launch_between(
        self, name: str, reads: list[Tensor], writes: list[Tensor], used: list[Tensor], meanwhile: list[Action | Place]
    ) -> None:
        """Put a collective of NCCL between the fork and the events that torch records after the collective.

        The collective runs on the stream that waits in the fork; without a fork, on the current stream. The events are
        those of the Work and of its future.
        """
        stream = current = self._model.current_stream(used[0])
        position = len(meanwhile)
        for index, action in enumerate(meanwhile):
            if isinstance(action, StreamWaited):
                stream, position = action.stream, index + 1
            elif isinstance(action, EventRecorded) and action.stream == stream:
                position = min(position, index)
        for tensor in used:
            self._memory.note(tensor, current)
        self._feed.extend(meanwhile[:position])
        self._put_work(name, stream, reads, writes)
        if stream != current:
            # The process group keeps the tensors until its stream has used them.
            for tensor in used:
                self._feed.put(StreamOfMemoryRecorded(address=tensor.untyped_storage().data_ptr(), stream=stream))
        self._feed.extend(meanwhile[position:])

    def _put_work(self, name: str, stream: Stream, reads: list[Tensor], writes: list[Tensor]) -> None:
        touched, where = Touched.of(reads, writes), self._feed.stack()
        self._feed.put(self._feed.launched(name, stream, touched, where, is_collective=True))

    # -- Gloo ----------------------------------------------------------------------------------------------------------

    def _launch_on_gloo(
        self, name: str, reads: list[Tensor], writes: list[Tensor], args: tuple[Any, ...], result: Any
    ) -> None:
        thread = self._feed.thread()
        group = next((str(arg) for arg in args if isinstance(arg, torch.ScriptObject | str)), "")
        stream = self._streams_of_groups.setdefault(group, Stream(device=CPU_DEVICE, handle=self._feed.new_number()))
        event = self._feed.new_number()
        for tensor in (*reads, *writes):
            self._memory.note(tensor)
        self._put_work(name, stream, reads, writes)
        for tensor in (*reads, *writes):
            self._feed.put(StreamOfMemoryRecorded(address=tensor.untyped_storage().data_ptr(), stream=stream))
        self._feed.put(EventRecorded(thread=thread, event=event, stream=stream))
        if name.startswith("_c10d_functional"):
            for tensor in tensors_in(result):
                address = tensor.data_ptr()
                self._events_of_tensors[address] = event
                weakref.finalize(tensor.untyped_storage(), self._events_of_tensors.pop, address, None).atexit = False
        elif self._per_thread.depth:
            self._per_thread.event = event
        else:
            self._feed.put(HostWaited(thread=thread, event=event))
            self._feed.put(EventDestroyed(event=event))

    def _watched_method(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Note which Work belongs to the latest collective, while a method of ProcessGroup calls its operator."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            state = self._per_thread
            state.depth += 1
            state.event = 0
            try:
                result = method(*args, **kwargs)
            finally:
                state.depth -= 1
            if state.event and isinstance(result, dist.Work):
                self._events_of_works[result] = state.event
                weakref.finalize(result, self._feed.put, EventDestroyed(event=state.event)).atexit = False
                state.event = 0
            return result

        return watched

    def _watched_wait(self, wait: Callable[..., Any]) -> Callable[..., Any]:
        def watched(work: Any, *args: Any, **kwargs: Any) -> Any:
            # Gloo does part of a collective within the wait, with operators of torch.
            with self._feed.hiding():
                result = wait(work, *args, **kwargs)
            event = self._events_of_works.get(work)
            # `is_completed` waits only if it returns True; the other methods return a future, None or True.
            if event is not None and result is not False:
                self._feed.put(HostWaited(thread=self._feed.thread(), event=event))
            return result

        return watched

    def _wait_tensor(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        event = self._events_of_tensors.pop(args[0].data_ptr(), None)
        if event is not None:
            self._feed.put(HostWaited(thread=self._feed.thread(), event=event))
            self._feed.put(EventDestroyed(event=event))
        return result


def _tensors(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the tensors that a collective reads, and the tensors that it writes."""
    name = func._schema.name
    reads: list[Tensor] = []
    writes: list[Tensor] = []
    for argument, value in _named(func, args, kwargs):
        tensors = list(tensors_in(value))
        if not tensors:
            continue
        is_written = argument.alias_info is not None and argument.alias_info.is_write
        if name.startswith("c10d"):
            is_written = not argument.name.startswith("input") and name not in _READ_ONLY
        (writes if is_written else reads).extend(tensors)
    if name.startswith("_c10d_functional") and not writes:
        writes.extend(tensors_in(result))
    return reads, writes


def _named(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    for index, argument in enumerate(func._schema.arguments):
        yield argument, args[index] if index < len(args) else kwargs.get(argument.name)
