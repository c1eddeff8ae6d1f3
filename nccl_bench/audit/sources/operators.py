"""torch's operators, seen by a dispatch mode in every thread of Python."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nccl_bench.audit.order.actions import (
    Action,
    EventRecorded,
    HostAccessed,
    HostWaited,
    StreamOfMemoryRecorded,
    Work,
)
from nccl_bench.audit.order.places import ByteRange, Stream
from nccl_bench.audit.sources.base import Source
from nccl_bench.audit.sources.effects import Operator, operator_of, tensors_in
from nccl_bench.audit.sources.feed import Feed, Place
from nccl_bench.audit.sources.memory import Memory
from nccl_bench.audit.sources.model import DeviceModel
from nccl_bench.audit.sources.ranges import MOST_BLOCKS, Touched, byte_ranges

_Arguments = tuple[Any, ...]
# Called for one operator instead of the usual handling: (operator, arguments, keywords) -> the operator's result.
Handler = Callable[[Any, _Arguments, dict[str, Any]], Any]
# The classes of tensors with data of their own. Tensors of other classes wrap such tensors, or have no data.
_PLAIN = frozenset({Tensor, torch.nn.Parameter})


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hands every operator of one thread to ``Operators``."""

    # Let higher-order operators, such as flex_attention, come here too. torch refuses them under other modes.
    supports_higher_order_operators = True

    def __init__(self, operators: Operators) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._operators = operators

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise torch wraps each call to keep torch.compile out. That imports torch._dynamo and takes microseconds.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: _Arguments = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for kind in types:
            if kind in _PLAIN:
                continue
            # A tensor without data, which torch uses to find out the shape of a result.
            if kind.__module__.startswith("torch._subclasses"):
                return func(*args, **(kwargs or {}))
            # A subclass such as DTensor calls operators on the tensors inside it, which this mode then sees.
            return NotImplemented
        return self._operators.call(func, args, kwargs or {})


class _PerThread(threading.local):
    is_watched = False


class Operators(Source):
    """Watches operators: reads and writes from their schemas, the stream from torch."""

    name: ClassVar[str] = "torch operators"
    sees: ClassVar[str] = "every operator of torch and every custom operator, with the byte ranges of its tensors"
    blind_to: ClassVar[tuple[str, ...]] = (
        "Reads that torch shows to no watch: print of a tensor, and tolist() and numpy() of a tensor on the CPU.",
        "Writes that the schema of a custom operator does not declare; nccl_bench.audit.declare_effects declares them.",
        "Kernels that a C++ extension launches without an operator.",
        f"Some races with a tensor of more than {MOST_BLOCKS} separate blocks, if another stream used the memory "
        "between the blocks earlier.",
    )

    def __init__(self, feed: Feed, model: DeviceModel, memory: Memory) -> None:
        self._feed = feed
        self._model = model
        self._memory = memory
        self._per_thread = _PerThread()
        self._mode: _Mode | None = None
        self.handlers: dict[str, Handler] = {"aten::record_stream": self._record_stream}  # by the operator's name

    def refusal(self) -> str | None:
        return None

    def start(self) -> None:
        self._mode = _Mode(self)
        self._mode.__enter__()  # type: ignore[no-untyped-call]
        self._per_thread.is_watched = True

    def stop(self) -> None:
        assert self._mode is not None
        self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        self._per_thread.is_watched = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the operators of the calling thread within the ``with`` block."""
        state = self._per_thread
        if state.is_watched or not self._feed.is_open:
            yield
            return
        state.is_watched = True
        try:
            with _Mode(self):
                yield
        finally:
            state.is_watched = False

    def call(self, func: Any, args: _Arguments, kwargs: dict[str, Any]) -> Any:
        """Call an operator, and report what it did."""
        feed = self._feed
        if not feed.is_open or feed.is_hiding:
            return func(*args, **kwargs)
        operator = operator_of(func)
        handler = self.handlers.get(operator.name)
        if handler is not None:
            return handler(func, args, kwargs)
        if not operator.does_anything:
            return func(*args, **kwargs)
        has_callbacks = self._model.has_callbacks
        # Without GPUs, operators in a thread of C++ are Gloo's, and part of a collective that is reported as a whole.
        if not (has_callbacks or feed.is_in_pythons_thread):
            return func(*args, **kwargs)
        reads = list(operator.read(args, kwargs))
        writes = list(operator.written(args, kwargs))
        meanwhile: list[Action | Place] = []
        begin = perf_counter_ns()
        if has_callbacks:
            result, meanwhile = feed.collect(func, args, kwargs)
        else:
            result = func(*args, **kwargs)
        end = perf_counter_ns()
        self._report(operator, reads, writes, result, meanwhile)
        feed.program_ns += end - begin
        feed.audit_ns += perf_counter_ns() - end
        return result

    def _report(
        self,
        operator: Operator,
        reads: list[Tensor],
        writes: list[Tensor],
        result: Any,
        meanwhile: list[Action | Place],
    ) -> None:
        """Put the operator's work between the actions that torch's callbacks reported while it ran."""
        feed, holds = self._feed, self._model.holds
        new = [each for each in tensors_in(result) if type(each) in _PLAIN] if operator.returns_new else []
        held, is_mixed = None, False
        for tensor in (*writes, *reads, *new):
            if not holds(tensor):
                is_mixed = True
                continue
            if held is None:
                held, stream, where = tensor, self._model.current_stream(tensor), feed.stack()
            if tensor.layout is torch.strided:
                self._memory.note(tensor, stream, where)
        if held is None:
            feed.extend(meanwhile)
            if self._memory.has_host_blocks:
                self._report_host(operator, reads, writes)
            return
        if operator.writes_new:
            writes += new
        if is_mixed:
            reads, writes = ([each for each in used if self._is_used(each, stream)] for used in (reads, writes))
        read_ranges, written_ranges = _ranges(reads), _ranges(writes)
        position = _place_of_work(meanwhile, stream) if meanwhile else 0
        feed.extend(meanwhile[:position])
        if read_ranges or written_ranges:
            touched = Touched(reads=read_ranges, writes=written_ranges)
            feed.put(feed.launched(operator.name, stream, touched, where))
        feed.extend(meanwhile[position:])

    def _is_used(self, tensor: Tensor, stream: Stream) -> bool:
        """Return whether the work of an operator uses the memory of a tensor after the operator has returned.

        Of the host's memory, a GPU then uses only pinned memory, which torch keeps until the stream has used it.
        """
        if self._model.holds(tensor):
            return True
        if not tensor.dim() or not tensor.is_pinned():
            return False
        self._memory.note_host(tensor, stream)
        return True

    def _report_host(self, operator: Operator, reads: list[Tensor], writes: list[Tensor]) -> None:
        """Report an operator of the CPU that uses memory into which a GPU copies."""
        if any(self._memory.is_host_block(each) for each in (*reads, *writes) if each.layout is torch.strided):
            work = Work(name=operator.name, where=self._feed.stack())
            self._feed.put(
                HostAccessed(thread=self._feed.thread(), work=work, reads=_ranges(reads), writes=_ranges(writes))
            )

    def _record_stream(self, func: Any, args: _Arguments, kwargs: dict[str, Any]) -> Any:
        tensor, stream = args[0], args[1] if len(args) > 1 else kwargs["s"]
        result = func(*args, **kwargs)
        handle = torch.cuda.Stream(  # type: ignore[no-untyped-call]
            stream_id=stream.stream_id, device_index=stream.device_index, device_type=stream.device_type
        ).cuda_stream
        self._feed.put(StreamOfMemoryRecorded(address=self._memory.note(tensor), stream=self._model.stream(handle)))
        return result


def _ranges(tensors: list[Tensor]) -> tuple[ByteRange, ...]:
    if len(tensors) == 1:
        return byte_ranges(tensors[0])
    return tuple(each for tensor in tensors for each in byte_ranges(tensor))


def _place_of_work(meanwhile: list[Action | Place], stream: Stream) -> int:
    """Return the index at which the work of an operator belongs among the actions that its call caused.

    The work comes after the waits of its stream, and before events of its stream and waits of the host.
    """
    for index, action in enumerate(meanwhile):
        if isinstance(action, HostWaited) or (isinstance(action, EventRecorded) and action.stream == stream):
            return index
    return len(meanwhile)
