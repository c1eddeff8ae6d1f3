"""The blocks of memory that the program's tensors live in: handed out, used by another stream, freed."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch import Tensor

from nccl_bench.audit.order.actions import MemoryAllocated, MemoryFreed, StreamOfMemoryRecorded, Work
from nccl_bench.audit.order.places import ByteRange, Stream
from nccl_bench.audit.sources.feed import Feed
from nccl_bench.audit.sources.model import HOST, DeviceModel
from nccl_bench.audit.sources.stacks import Stack


class _StorageRef(weakref.ref[torch.UntypedStorage]):
    """A reference to a storage that knows its address. ``weakref.finalize`` would take several times as long."""

    __slots__ = ("address",)
    address: int

    def __new__(
        cls, storage: torch.UntypedStorage, callback: Callable[[_StorageRef], None], address: int
    ) -> _StorageRef:
        reference = super().__new__(cls, storage, callback)
        reference.address = address
        return reference

    def __init__(self, storage: torch.UntypedStorage, callback: Callable[[_StorageRef], None], address: int) -> None:
        super().__init__(storage, callback)  # type: ignore[call-arg]


class Memory:
    """The blocks that the order knows.

    torch's callback about an allocation has only the address. So a block is reported when the first tensor in it is
    seen. On the CPU there is no callback, and a block is free when its storage ends.
    """

    def __init__(self, feed: Feed, model: DeviceModel) -> None:
        self._feed = feed
        self._model = model
        self._blocks: set[int] = set()  # the addresses of the blocks in use
        self._storages: dict[int, _StorageRef] = {}  # address -> the storage there, if no callback reports its end
        self._host_blocks: set[int] = set()  # the addresses of pinned blocks that a GPU has used

    def forget(self) -> None:
        """Forget all blocks, because the next ``Order`` knows none of them."""
        self._blocks.clear()
        self._host_blocks.clear()

    def note_existing(self, tensor: Tensor) -> None:
        """Report the block of a tensor older than the watch. Its stream is unknown: take the current stream."""
        # Wrappers, such as DTensor and the tensors of functorch, have no memory; the tensors inside them have.
        is_plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout is torch.strided
        if not is_plain or torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            return
        try:
            is_held = self._model.holds(tensor)
        except RuntimeError:
            # Its memory is gone: until torch 2.10, C++ could end a tensor to which Python had a reference.
            return
        if is_held:
            self.note(tensor)

    def note(self, tensor: Tensor, stream: Stream | None = None, where: Stack | None = None) -> int:
        """Report the block of ``tensor`` if the order does not know it. Return its address; 0 for no block.

        ``stream`` is the stream that was current at the allocation; ``None`` stands for the current stream. ``where``
        is the stack of the allocation; ``None`` stands for the current stack.
        """
        address: int = tensor.data_ptr()
        if address in self._blocks:  # most tensors begin where their block begins
            return address
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if not address or address in self._blocks:
            return address
        self._blocks.add(address)
        if not self._model.has_callbacks:
            self._storages[address] = _StorageRef(storage, self._storage_ended, address)
        self._feed.put(
            MemoryAllocated(
                thread=self._feed.thread(),
                memory=ByteRange(address=address, length=storage.nbytes()),
                stream=self._model.current_stream(tensor) if stream is None else stream,
                work=Work(name="allocation", where=where or self._feed.stack()),
            )
        )
        return address

    def note_host(self, tensor: Tensor, stream: Stream) -> None:
        """Report the block of pinned memory that a GPU uses on ``stream`` while the host goes on."""
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if address not in self._host_blocks:
            self._host_blocks.add(address)
            weakref.finalize(storage, self._host_freed, address).atexit = False
            memory = ByteRange(address=address, length=storage.nbytes())
            self._feed.put(MemoryAllocated(thread=self._feed.thread(), memory=memory, stream=HOST))
        self._feed.put(StreamOfMemoryRecorded(address=address, stream=stream))

    @property
    def has_host_blocks(self) -> bool:
        """Return whether a GPU uses any memory of the host."""
        return bool(self._host_blocks)

    def is_host_block(self, tensor: Tensor) -> bool:
        """Return whether a GPU uses the block of a tensor of the host."""
        return tensor.untyped_storage().data_ptr() in self._host_blocks

    def _host_freed(self, address: int) -> None:
        self._host_blocks.discard(address)
        self._feed.put(MemoryFreed(thread=self._feed.thread(), address=address))

    def _storage_ended(self, reference: _StorageRef) -> None:
        self._storages.pop(reference.address, None)
        self.freed(reference.address)

    def freed(self, address: int) -> None:
        """Report that a block is free, if the order knows it."""
        if address in self._blocks:
            self._blocks.discard(address)
            self._feed.put(MemoryFreed(thread=self._feed.thread(), address=address, where=self._feed.stack()))
