"""Memory of the transport for a case's slots, registered with the communicators that can register it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from nccl_bench.arms.arm import Arm
from nccl_bench.config.run import Register
from nccl_bench.records.schema import Registration
from nccl_bench.transports.device import Device


@contextmanager
def registered(
    how: Register, size_bytes: int, device: Device, arms: Iterable[tuple[str, Arm]]
) -> Iterator[tuple[Tensor, dict[str, Registration]]]:
    """Yield memory as a 1-D uint8 tensor, and by arm whether it was registered. Collective.

    ``arms`` are taken one after the other: the next one when the one before is registered. Nothing may use the memory
    after the ``with`` block, graphs included. After an exception the memory is not given back: that may need every
    rank, and the process is ending.
    """
    # torch's allocator keeps memory that the transport may need. Without CUDA this does nothing.
    torch.cuda.empty_cache()
    ptr = device.transport.mem_alloc(size_bytes)
    registrations: dict[str, Registration] = {}
    deregistrations: list[Callable[[], None]] = []
    for name, arm in arms:
        inner = arm.communicator.inner
        if not inner.registers_memory:
            registrations[name] = Registration.ABSENT
            continue
        deregister: Callable[[int], None]
        # Outside of graphs, the communicator of a coordinator is disabled.
        with inner.change_state(True):
            if how is Register.WINDOW:
                handle = inner.register_comm_window_raw(ptr, size_bytes)
                deregister = inner.deregister_comm_window
            else:
                handle, deregister = inner.register_comm_memory(ptr, size_bytes), inner.deregister_comm_memory
        registrations[name] = Registration.UNAVAILABLE if handle is None else Registration.REGISTERED
        if handle is not None:
            deregistrations.append(partial(deregister, handle))
    yield _tensor(ptr, size_bytes, device.streams.device), registrations
    device.streams.synchronize()
    for deregister_again in deregistrations:
        deregister_again()
    device.transport.mem_free(ptr)


class _Block:
    """Memory of a CUDA device, described as torch reads it: by Numba's CUDA array interface, version 3."""

    def __init__(self, ptr: int, size_bytes: int) -> None:
        self.__cuda_array_interface__ = {"shape": (size_bytes,), "typestr": "|u1", "data": (ptr, False), "version": 3}


def _tensor(ptr: int, size_bytes: int, device: torch.device) -> Tensor:
    tensor = torch.as_tensor(_Block(ptr, size_bytes), device=device)
    assert tensor.data_ptr() == ptr, "torch copied the memory"
    return tensor
