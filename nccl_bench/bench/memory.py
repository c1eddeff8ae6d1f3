"""Memory of the transport's for a case's slots, registered with the communicators that can have it so."""

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
    how: Register, size: int, device: Device, arms: Iterable[tuple[str, Arm]]
) -> Iterator[tuple[Tensor, dict[str, Registration]]]:
    """``size`` bytes as a 1-D uint8 tensor, and what came of their registration with ``arms``, by name. Collective.

    Nothing may use them after the ``with`` block, graphs included. An arm is asked for when the one before it is done.
    After an exception all is left as it is: giving it back may need every rank, and the process is ending.
    """
    # What torch's allocator keeps for later is not there for others. Without CUDA this does nothing.
    torch.cuda.empty_cache()
    ptr = device.transport.mem_alloc(size)
    found: dict[str, Registration] = {}
    deregister: list[Callable[[], None]] = []
    for name, arm in arms:
        registrar = arm.registrar
        if registrar is None:
            found[name] = Registration.ABSENT
            continue
        give_back: Callable[[int], None]
        # Outside of graphs a coordinator's is off.
        with registrar.change_state(True):
            if how is Register.WINDOW:
                handle, give_back = registrar.register_comm_window_raw(ptr, size), registrar.deregister_comm_window
            else:
                handle, give_back = registrar.register_comm_memory(ptr, size), registrar.deregister_comm_memory
        found[name] = Registration.UNAVAILABLE if handle is None else Registration.REGISTERED
        if handle is not None:
            deregister.append(partial(give_back, handle))
    yield _tensor(ptr, size, device.streams.device), found
    device.streams.synchronize()
    for call in deregister:
        call()
    device.transport.mem_free(ptr)


class _Block:
    """Memory of a CUDA device, described as torch reads it: by Numba's CUDA array interface, version 3."""

    def __init__(self, ptr: int, size: int) -> None:
        self.__cuda_array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (ptr, False), "version": 3}


def _tensor(ptr: int, size: int, device: torch.device) -> Tensor:
    tensor = torch.as_tensor(_Block(ptr, size), device=device)
    assert tensor.data_ptr() == ptr, "torch has copied it"
    return tensor
