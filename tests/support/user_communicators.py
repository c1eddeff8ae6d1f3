"""User arms for the CPU: engines' communicators, written as users write them, without nccl-bench.

They do on the CPU what such classes do on a GPU, with the streams of ``nccl_bench.streams.cpu`` in place of
``torch.cuda``'s. The meaning is the same: queued work runs when its stream gets there, on a thread of its own. So a
call on a private stream without fork and join really races. ``Wire`` does what NCCL does: the calls of one communicator
wait for each other across streams.

``torch.distributed`` must be initialised. Each class takes ``(group, device)``, where ``device`` is a
``torch.device``, a string or an index. Each makes its own Gloo group over the ranks of ``group``, which is collective.

    EngineBefore      an engine's class before its refactor: a private stream, and `stream` in every call
    EngineAfter       the same class after its refactor: the current stream, and no `stream`
    OtherEngine       another engine's class: `all_reduce` returns a new tensor or fills `out_tensor`; `stream` optional
    NextEngine        an engine's next class: `inplace=`, gathers with the input first and `out=`, lists of tensors
"""

# Users write few annotations, and torch's stubs do not know that ReduceOp.SUM is a ReduceOp.
# mypy: disable-error-code="no-untyped-def, assignment"

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup, ReduceOp

from nccl_bench.streams import cpu
from tests.support.gloo_wire import Wire


class EngineBefore:
    """Runs on the given stream, else on the current one if ``use_current_stream``, else on its private stream.

    It never synchronises streams, and it is off until it is switched on.
    """

    def __init__(
        self,
        group: ProcessGroup,
        device: int | str | torch.device,
        library_path: str | None = None,
        use_current_stream: bool = False,
    ) -> None:
        assert not isinstance(group, str)
        assert dist.get_backend(group) != dist.Backend.NCCL
        self.device = torch.device("cpu", device) if isinstance(device, int) else torch.device(device)
        self.rank = dist.get_rank(group)
        self.world_size = dist.get_world_size(group)
        self.library_path = library_path
        self.use_current_stream = use_current_stream
        self.wire = Wire(group)
        self.stream = cpu.Stream()
        self.available = True
        self.disabled = True

    def _on(self, stream: cpu.Stream | None) -> cpu.Stream:
        if stream is not None:
            return stream
        return cpu.current_stream() if self.use_current_stream else self.stream

    def all_reduce(self, tensor: torch.Tensor, op: ReduceOp = ReduceOp.SUM, stream: cpu.Stream | None = None):
        if self.disabled:
            return
        self.wire.all_reduce(self._on(stream), tensor, tensor, op)

    def outplace_all_reduce(
        self,
        in_tensor: torch.Tensor,
        out_tensor: torch.Tensor | None = None,
        op: ReduceOp = ReduceOp.SUM,
        stream: cpu.Stream | None = None,
    ) -> torch.Tensor | None:
        if self.disabled:
            return None
        if out_tensor is None:
            out_tensor = torch.empty_like(in_tensor)
        self.wire.all_reduce(self._on(stream), in_tensor, out_tensor, op)
        return out_tensor

    def all_gather(
        self,
        output_tensor: torch.Tensor,
        input_tensor: torch.Tensor,
        stream: cpu.Stream | None = None,
        sizes: list[int] | None = None,
    ):
        if self.disabled:
            return
        self.wire.all_gather(self._on(stream), output_tensor, input_tensor, sizes)

    def reduce_scatter(
        self,
        output_tensor: torch.Tensor,
        input_tensor: torch.Tensor,
        op: ReduceOp = ReduceOp.SUM,
        stream: cpu.Stream | None = None,
        sizes: list[int] | None = None,
    ):
        if self.disabled:
            return
        self.wire.reduce_scatter(self._on(stream), output_tensor, input_tensor, op, sizes)

    def send(self, tensor: torch.Tensor, dst: int, stream: cpu.Stream | None = None):
        if self.disabled:
            return
        self.wire.transfer(self._on(stream), dist.isend, tensor, dst)

    def recv(self, tensor: torch.Tensor, src: int, stream: cpu.Stream | None = None):
        if self.disabled:
            return
        self.wire.transfer(self._on(stream), dist.irecv, tensor, src)

    def broadcast(self, tensor: torch.Tensor, src: int, stream: cpu.Stream | None = None):
        if self.disabled:
            return
        self.wire.broadcast(self._on(stream), tensor, src)

    def group_start(self):
        self.wire.start()

    def group_end(self):
        self.wire.end()

    @contextmanager
    def change_state(self, enable: bool | None = None, stream: cpu.Stream | None = None) -> Iterator[None]:
        was_disabled, was_on = self.disabled, self.stream
        self.disabled = not (self.available if enable is None else enable)
        self.stream = was_on if stream is None else stream
        try:
            yield
        finally:
            self.disabled, self.stream = was_disabled, was_on


class EngineAfter:
    """Always runs on the current stream. Only the context-parallel all-gather takes a stream."""

    def __init__(self, group: ProcessGroup, device: int | str | torch.device, library_path: str | None = None) -> None:
        assert dist.get_backend(group) != dist.Backend.NCCL
        self.device = torch.device("cpu", device) if isinstance(device, int) else torch.device(device)
        self.rank = dist.get_rank(group)
        self.world_size = dist.get_world_size(group)
        self.library_path = library_path
        self.wire = Wire(group)
        self.available = True
        self.disabled = True

    def all_reduce(self, tensor: torch.Tensor, op: ReduceOp = ReduceOp.SUM):
        if self.disabled:
            return
        self.wire.all_reduce(cpu.current_stream(), tensor, tensor, op)

    def outplace_all_reduce(
        self, in_tensor: torch.Tensor, out_tensor: torch.Tensor | None = None, op: ReduceOp = ReduceOp.SUM
    ) -> torch.Tensor | None:
        if self.disabled:
            return None
        if out_tensor is None:
            out_tensor = torch.empty_like(in_tensor)
        self.wire.all_reduce(cpu.current_stream(), in_tensor, out_tensor, op)
        return out_tensor

    def all_gather(self, output_tensor: torch.Tensor, input_tensor: torch.Tensor, sizes: list[int] | None = None):
        if self.disabled:
            return
        self.wire.all_gather(cpu.current_stream(), output_tensor, input_tensor, sizes)

    def cp_all_gather_into_tensor(
        self,
        output_tensor: torch.Tensor,
        input_tensor: torch.Tensor,
        stream: cpu.Stream,
        sizes: list[int] | None = None,
    ):
        if self.disabled:
            return
        self.wire.all_gather(stream, output_tensor, input_tensor, sizes)

    def reduce_scatter(
        self,
        output_tensor: torch.Tensor,
        input_tensor: torch.Tensor,
        op: ReduceOp = ReduceOp.SUM,
        sizes: list[int] | None = None,
    ):
        if self.disabled:
            return
        self.wire.reduce_scatter(cpu.current_stream(), output_tensor, input_tensor, op, sizes)

    def send(self, tensor: torch.Tensor, dst: int):
        if self.disabled:
            return
        self.wire.transfer(cpu.current_stream(), dist.isend, tensor, dst)

    def recv(self, tensor: torch.Tensor, src: int):
        if self.disabled:
            return
        self.wire.transfer(cpu.current_stream(), dist.irecv, tensor, src)

    def broadcast(self, tensor: torch.Tensor, src: int):
        if self.disabled:
            return
        self.wire.broadcast(cpu.current_stream(), tensor, src)

    def group_start(self):
        self.wire.start()

    def group_end(self):
        self.wire.end()

    @contextmanager
    def change_state(self, enable: bool | None = None) -> Iterator[None]:
        was_disabled = self.disabled
        self.disabled = not (self.available if enable is None else enable)
        try:
            yield
        finally:
            self.disabled = was_disabled


class OtherEngine:
    """Returns the result of ``all_reduce``, in ``out_tensor`` or a new tensor. Its default is the current stream."""

    def __init__(self, group: ProcessGroup, device: int | str | torch.device, library_path: str | None = None) -> None:
        assert dist.get_backend(group) != dist.Backend.NCCL
        self.device = torch.device("cpu", device) if isinstance(device, int) else torch.device(device)
        self.rank = dist.get_rank(group)
        self.world_size = dist.get_world_size(group)
        self.wire = Wire(group)
        self.available = True
        self.disabled = False

    def all_reduce(
        self,
        in_tensor: torch.Tensor,
        out_tensor: torch.Tensor | None = None,
        op: ReduceOp = ReduceOp.SUM,
        stream: cpu.Stream | None = None,
    ) -> torch.Tensor | None:
        if self.disabled:
            return None
        if out_tensor is None:
            out_tensor = torch.empty_like(in_tensor)
        self.wire.all_reduce(stream or cpu.current_stream(), in_tensor, out_tensor, op)
        return out_tensor

    def all_gather(
        self, output_tensor: torch.Tensor, input_tensor: torch.Tensor, stream: cpu.Stream | None = None
    ) -> None:
        if not self.disabled:
            self.wire.all_gather(stream or cpu.current_stream(), output_tensor, input_tensor)

    def reduce_scatter(
        self,
        output_tensor: torch.Tensor,
        input_tensor: torch.Tensor,
        op: ReduceOp = ReduceOp.SUM,
        stream: cpu.Stream | None = None,
    ) -> None:
        if not self.disabled:
            self.wire.reduce_scatter(stream or cpu.current_stream(), output_tensor, input_tensor, op)

    def broadcast(self, tensor: torch.Tensor, src: int, stream: cpu.Stream | None = None) -> None:
        if not self.disabled:
            self.wire.broadcast(stream or cpu.current_stream(), tensor, src)

    def destroy(self) -> None:
        self.available = False
        self.disabled = True
        self.wire.destroy()


class NextEngine:
    """An engine whose methods say how they can be called. It raises until ``change_state`` enables it."""

    def __init__(self, group: ProcessGroup, device: torch.device) -> None:
        self.wire = Wire(group)
        self.world_size = dist.get_world_size(group)
        self._disabled = True

    @property
    def disabled(self) -> bool:
        return self._disabled

    @contextmanager
    def change_state(self, enable: bool) -> Iterator[None]:
        before, self._disabled = self._disabled, not enable
        try:
            yield
        finally:
            self._disabled = before

    def graph_capture_context(self):
        return None

    def get_all_reduce_mode(self, input_: torch.Tensor) -> AllReduceMode | None:
        return AllReduceMode(in_place=input_.numel() < 2048) if input_.is_contiguous() else None

    def all_reduce(self, input_: torch.Tensor, *, inplace: bool | None = None) -> torch.Tensor:
        mode = self.get_all_reduce_mode(input_)
        if self.disabled or (inplace and mode and not mode.can_inplace()):
            raise RuntimeError("not in this state, or not in place")
        output = input_ if inplace else torch.empty_like(input_)
        self.wire.all_reduce(cpu.current_stream(), input_, output, ReduceOp.SUM)
        return output

    def all_gather_into_tensor(self, input_: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        if out is None:
            out = input_.new_empty((self.world_size * input_.shape[0], *input_.shape[1:]))
        self.wire.all_gather(cpu.current_stream(), out, input_)
        return out

    def all_gather(self, input_: torch.Tensor, *, out_list: list[torch.Tensor] | None = None) -> list[torch.Tensor]:
        blocks = out_list or [torch.empty_like(input_) for _ in range(self.world_size)]
        cpu.current_stream().submit(lambda: dist.all_gather(blocks, input_, group=self.wire.group))
        return blocks

    def reduce_scatter(self, input_list: list[torch.Tensor], *, out: torch.Tensor | None = None) -> torch.Tensor:
        out = torch.empty_like(input_list[0]) if out is None else out
        whole = torch.empty(sum(part.numel() for part in input_list))
        cpu.current_stream().submit(lambda: torch.cat([part.flatten() for part in input_list], out=whole))
        self.wire.reduce_scatter(cpu.current_stream(), out.view(-1), whole, ReduceOp.SUM)
        return out

    def gather(self, input_: torch.Tensor, dst: int, *, dim: int = 0) -> torch.Tensor | None:
        raise NotImplementedError


class AllReduceMode:
    """An answer of ``NextEngine``."""

    def __init__(self, *, in_place: bool) -> None:
        self._in_place = in_place

    def can_inplace(self) -> bool:
        return self._in_place

    def can_outplace(self) -> bool:
        return True
