"""Memory for the slots of a case. The transport allocates the memory, and communicators register it if they can."""

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
    """Yield a 1-D uint8 tensor, and for each arm of ``names`` whether the tensor was registered. Collective.

    If ``how`` is ``NONE``, yield ``None`` instead of a tensor: torch then allocates the memory. Nothing, not even a
    graph, may use the tensor after the ``with`` block. After an exception the memory is not freed: the process ends
    anyway, and a transport can need all ranks to free memory.
    """
    if how is Register.NONE:
        yield None, {}
        return
    # torch keeps the memory of freed tensors. Release it for the transport. Without CUDA this call does nothing.
    torch.cuda.empty_cache()
    ptr = device.transport.mem_alloc(size_bytes)
    registrations: dict[str, Registration] = {}
    deregistrations: list[Callable[[], object]] = []
    for name in arms.visit(names, "registration"):
        registrations[name] = Registration.ABSENT
        registration = arms[name].communicator.inner.registration(how is Register.WINDOW)
        if registration is not None:
            register, deregister = registration
            handle = register(ptr, size_bytes)
            registrations[name] = Registration.UNAVAILABLE if handle is None else Registration.REGISTERED
            if handle is not None:
                deregistrations.append(partial(deregister, handle))
        # Only a rank that has registered memory reports this step. A hang is blamed on the rank with the fewest steps.
        arms.report(name, "registration, waiting")
    yield (
        _tensor(ptr, size_bytes, device.streams.device),
        {name: Registration(each) for name, each in arms.merge(registrations).items()},
    )
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
