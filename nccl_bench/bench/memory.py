"""Memory for the slots of a case, allocated by the transport and registered with communicators that support this."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor

from nccl_bench.bench.turns import ArmsInTurn
from nccl_bench.config.run import Register
from nccl_bench.records.schema import Registration
from nccl_bench.transports.device import Device


@contextmanager
def registered(
    how: Register, size_bytes: int, device: Device, arms: ArmsInTurn, names: Sequence[str]
) -> Iterator[tuple[Tensor | None, dict[str, Registration]]]:
    """Yield memory as a 1-D uint8 tensor, and whether it was registered with each arm of ``names``. Collective.

    If ``how`` is ``NONE``, yield ``None`` instead of memory: the caller lets torch allocate it. Nothing, not even a
    graph, may use the memory after the ``with`` block. After an exception the memory is not freed: the process ends
    anyway, and it can take all ranks to free memory.
    """
    if how is Register.NONE:
        yield None, {}
        return
    # torch's allocator keeps freed memory, which the transport may need. Without CUDA this call does nothing.
    torch.cuda.empty_cache()
    ptr = device.transport.mem_alloc(size_bytes)
    registrations: dict[str, Registration] = {}
    deregistrations: list[Callable[[], None]] = []
    for name in arms.visit(names, "registration"):
        registrations[name] = Registration.ABSENT
        inner = arms[name].communicator.inner
        if inner.registers_memory:
            # Outside graphs a coordinator's communicator is disabled, so enable it here.
            with inner.change_state(True):
                window = how is Register.WINDOW
                register = inner.register_comm_window_raw if window else inner.register_comm_memory
                handle = register(ptr, size_bytes)
            registrations[name] = Registration.UNAVAILABLE if handle is None else Registration.REGISTERED
            if handle is not None:
                deregister = inner.deregister_comm_window if window else inner.deregister_comm_memory
                deregistrations.append(partial(deregister, handle))
        # Report one more step of progress. A rank stuck in registration is then behind, and is blamed for a hang.
        arms.report(name, "registration, waiting")
    yield _tensor(ptr, size_bytes, device.streams.device), arms.merge(registrations)
    device.streams.synchronize()
    for give_back in deregistrations:
        give_back()
    device.transport.mem_free(ptr)


def _tensor(ptr: int, size_bytes: int, device: torch.device) -> Tensor:
    # torch accepts any memory with this description: the CUDA array interface of Numba, version 3.
    description = {"shape": (size_bytes,), "typestr": "|u1", "data": (ptr, False), "version": 3}
    tensor = torch.as_tensor(SimpleNamespace(__cuda_array_interface__=description), device=device)
    assert tensor.data_ptr() == ptr, "torch copied the memory"
    return tensor
