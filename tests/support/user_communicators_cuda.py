"""User arms for GPUs: an engine's communicator before and after its refactor, over libnccl, without nccl-bench."""

# Users write few annotations.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, assignment"

import ctypes
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch.distributed import ReduceOp

_TYPES = {torch.float32: 7, torch.float16: 6, torch.bfloat16: 9, torch.int32: 2, torch.int64: 4, torch.uint8: 1}
_OPS = {ReduceOp.SUM: 0, ReduceOp.PRODUCT: 1, ReduceOp.MAX: 2, ReduceOp.MIN: 3, ReduceOp.AVG: 4}


class _UniqueId(ctypes.Structure):
    _fields_ = (("internal", ctypes.c_byte * 128),)


class _Switchable:
    """Is disabled or not, as the communicators of engines are."""

    @contextmanager
    def _switched(self, enable):
        before, self.disabled = self.disabled, not enable
        try:
            yield
        finally:
            self.disabled = before


class _Base(_Switchable):
    def __init__(self, group, device, library_path=None):
        assert dist.get_backend(group) != dist.Backend.NCCL
        self.rank = dist.get_rank(group)
        self.world_size = dist.get_world_size(group)
        self.device = torch.device(f"cuda:{device}") if isinstance(device, int) else torch.device(device)
        # The name finds the library that torch has loaded.
        self.nccl = ctypes.CDLL(library_path or "libnccl.so.2")
        unique_id = _UniqueId()
        if self.rank == 0:
            self._check(self.nccl.ncclGetUniqueId(ctypes.byref(unique_id)))
        id_bytes = torch.tensor(list(bytes(unique_id)), dtype=torch.uint8)
        dist.broadcast(id_bytes, src=dist.get_process_group_ranks(group)[0], group=group)
        unique_id = _UniqueId.from_buffer_copy(bytes(id_bytes.tolist()))
        self.comm = ctypes.c_void_p()
        with torch.cuda.device(self.device):
            self._check(self.nccl.ncclCommInitRank(ctypes.byref(self.comm), self.world_size, unique_id, self.rank))
        self.available = True
        self.disabled = True

    def _check(self, result):
        if result:
            raise RuntimeError(f"NCCL error {result}")

    def _all_reduce(self, source, target, op, stream):
        pointers = (ctypes.c_void_p(source.data_ptr()), ctypes.c_void_p(target.data_ptr()))
        count, dtype = ctypes.c_size_t(source.numel()), _TYPES[source.dtype]
        handle = ctypes.c_void_p(stream.cuda_stream)
        self._check(self.nccl.ncclAllReduce(*pointers, count, dtype, _OPS[op], self.comm, handle))

    def _all_gather(self, output, input, stream):
        pointers = (ctypes.c_void_p(input.data_ptr()), ctypes.c_void_p(output.data_ptr()))
        count, dtype = ctypes.c_size_t(input.numel()), _TYPES[input.dtype]
        self._check(self.nccl.ncclAllGather(*pointers, count, dtype, self.comm, ctypes.c_void_p(stream.cuda_stream)))

    def destroy(self):
        torch.cuda.synchronize(self.device)
        self._check(self.nccl.ncclCommDestroy(self.comm))


class EngineBefore(_Base):
    """Uses a private stream, takes `stream` in every call, and never synchronises streams."""

    def __init__(self, group, device, library_path=None, use_current_stream=False):
        super().__init__(group, device, library_path)
        self.use_current_stream = use_current_stream
        self.stream = torch.cuda.Stream(self.device)

    def _on(self, stream):
        if stream is not None:
            return stream
        return torch.cuda.current_stream(self.device) if self.use_current_stream else self.stream

    def all_reduce(self, tensor, op=ReduceOp.SUM, stream=None) -> None:
        if not self.disabled:
            self._all_reduce(tensor, tensor, op, self._on(stream))

    def outplace_all_reduce(self, in_tensor, out_tensor=None, op=ReduceOp.SUM, stream=None):
        if self.disabled:
            return None
        out_tensor = torch.empty_like(in_tensor) if out_tensor is None else out_tensor
        self._all_reduce(in_tensor, out_tensor, op, self._on(stream))
        return out_tensor

    def all_gather(self, output_tensor, input_tensor, stream=None):
        if not self.disabled:
            self._all_gather(output_tensor, input_tensor, self._on(stream))

    def change_state(self, enable=None, stream=None):
        return self._switched(self.available if enable is None else enable)


class EngineAfter(_Base):
    """Uses the current stream and takes no `stream`."""

    def all_reduce(self, tensor, op=ReduceOp.SUM) -> None:
        if not self.disabled:
            self._all_reduce(tensor, tensor, op, torch.cuda.current_stream(self.device))

    def outplace_all_reduce(self, in_tensor, out_tensor=None, op=ReduceOp.SUM):
        if self.disabled:
            return None
        out_tensor = torch.empty_like(in_tensor) if out_tensor is None else out_tensor
        self._all_reduce(in_tensor, out_tensor, op, torch.cuda.current_stream(self.device))
        return out_tensor

    def all_gather(self, output_tensor, input_tensor):
        if not self.disabled:
            self._all_gather(output_tensor, input_tensor, torch.cuda.current_stream(self.device))

    def change_state(self, enable=None):
        return self._switched(self.available if enable is None else enable)


class _OverTorch:
    def __init__(self, group, device):
        self.group = dist.new_group(dist.get_process_group_ranks(group), backend="nccl")
        self.world_size = dist.get_world_size(group)

    def _gathered(self, input):
        return input.new_empty((self.world_size * input.shape[0], *input.shape[1:]))

    def close(self):
        torch.cuda.synchronize()
        dist.destroy_process_group(self.group)


class CustomAllReduce(_OverTorch):
    """Takes messages up to 64 KiB, and graphs only within its own context, which registers their buffers."""

    def __init__(self, group, device):
        super().__init__(group, device)
        self.in_context, self.captured, self.registered = False, [], 0

    def should_custom_ar(self, inp):
        return inp.nbytes <= 64 * 1024

    def custom_all_reduce(self, input):
        if not self.should_custom_ar(input):
            return None
        if torch.cuda.is_current_stream_capturing():
            if not self.in_context:
                raise RuntimeError("a graph is captured outside of capture()")
            self.captured.append(input.data_ptr())
        elif self.in_context:
            return torch.zeros_like(input)  # a warm-up
        output = input.clone()
        dist.all_reduce(output, group=self.group)
        return output

    @contextmanager
    def capture(self):
        self.in_context = True
        try:
            yield
        finally:
            self.in_context = False
            self.register_graph_buffers()

    def register_graph_buffers(self):
        counts = [None] * self.world_size
        dist.all_gather_object(counts, len(self.captured), group=self.group)
        assert len({*counts}) == 1, f"the ranks captured {counts} calls"
        self.registered += len(self.captured)
        self.captured.clear()


class Asynchronous(_OverTorch):
    """Returns handles, alone or with an output."""

    def all_reduce(self, tensor, op=ReduceOp.SUM):
        return dist.all_reduce(tensor, op, group=self.group, async_op=True)

    def all_gather(self, input, dim=-1):
        output = self._gathered(input)
        return output, dist.all_gather_into_tensor(output, input, group=self.group, async_op=True)


class NextEngine(_OverTorch, _Switchable):
    """Has `inplace`, gathers with the input first, and lists of tensors. It declines gathers within a capture."""

    def __init__(self, group, device):
        super().__init__(group, device)
        self.disabled = True

    def change_state(self, enable):
        return self._switched(enable)

    def graph_capture_context(self):
        return None

    def all_reduce(self, input_, *, inplace=None):
        assert not self.disabled, "change_state did not enable the communicator"
        output = input_ if inplace else input_.clone()
        dist.all_reduce(output, group=self.group)
        return output

    def all_gather(self, input_):
        if torch.cuda.is_current_stream_capturing():
            return None
        blocks = [torch.empty_like(input_) for _ in range(self.world_size)]
        dist.all_gather(blocks, input_, group=self.group)
        return blocks

    def reduce_scatter(self, input_list: list[torch.Tensor], *, out=None):
        out = torch.empty_like(input_list[0]) if out is None else out
        dist.reduce_scatter(out, input_list, group=self.group)
        return out
