"""Memory for the slots of a case: torch or the transport allocates it, and communicators register it if they can."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor

from nccl_bench.bench.turns import ArmsInTurn
from nccl_bench.catalog.memory import Memory, Register
from nccl_bench.config.run import RunConfig
from nccl_bench.errors import SetupError
from nccl_bench.records.schema import Registration
from nccl_bench.transports.device import Device


def finds_expandable_segments(config: RunConfig, device: Device) -> bool:
    """Return whether torch's allocator uses expandable segments. torch must have allocated some memory.

    Raises ``SetupError`` if the configuration asks for something else.
    """
    expandable = device.streams.has_expandable_segments()
    if config.memory is Memory.EXPANDABLE and not expandable:
        raise SetupError(
            f"torch {torch.__version__} does not use expandable segments, although the setting for it was made: look "
            "at PYTORCH_CUDA_ALLOC_CONF, PYTORCH_ALLOC_CONF and torch's allocator, or leave --memory out"
        )
    if expandable and config.memory is Memory.TORCH and config.register is not Register.NONE:
        raise SetupError(
            f"PYTORCH_CUDA_ALLOC_CONF makes torch use expandable segments, which --register {config.register} does not "
            "support: remove expandable_segments from the variable, or measure with --memory nccl"
        )
    return expandable


@contextmanager
def slots_memory(
    memory: Memory, register: Register, size_bytes: int, device: Device, arms: ArmsInTurn, names: Sequence[str]
) -> Iterator[tuple[Tensor | None, dict[str, Registration]]]:
    """Yield a 1-D uint8 tensor, and for each arm of ``names`` whether the tensor was registered. Collective.

    If torch allocates and nothing is registered, yield ``None`` instead of a tensor: the caller then allocates.
    Nothing, not even a graph, may use the tensor after the ``with`` block. After an exception the memory is not freed:
    the process ends anyway, and a transport can need all ranks to free memory.
    """
    from_nccl = memory is Memory.NCCL
    if not from_nccl and register is Register.NONE:
        yield None, {}
        return
    if from_nccl:
        # torch keeps the memory of freed tensors. Release it for the transport.
        device.streams.release_memory()
        ptr = device.transport.mem_alloc(size_bytes)
        slots = _tensor(ptr, size_bytes, device.streams.device)
    else:
        slots = torch.empty(size_bytes, dtype=torch.uint8, device=device.streams.device)
        ptr = slots.data_ptr()
    deregistrations: list[Callable[[], object]] = []
    registrations: dict[str, Registration] = {}
    if register is not Register.NONE:
        registrations = arms.merge(_register(register, ptr, size_bytes, arms, names, deregistrations))
    yield slots, {name: Registration(each) for name, each in registrations.items()}
    device.streams.synchronize()
    for deregister in deregistrations:
        deregister()
    if from_nccl:
        device.transport.mem_free(ptr)


def _register(
    how: Register,
    ptr: int,
    size_bytes: int,
    arms: ArmsInTurn,
    names: Sequence[str],
    deregistrations: list[Callable[[], object]],
) -> dict[str, Registration]:
    """Register the memory at ``ptr`` with the arms of this process, and return the results. Collective.

    ``deregistrations`` gets a function for each registration; the function ends the registration.
    """
    registrations: dict[str, Registration] = {}
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
    return registrations


def _tensor(ptr: int, size_bytes: int, device: torch.device) -> Tensor:
    # torch accepts any memory with this description: the CUDA array interface of Numba, version 3.
    description = {"shape": (size_bytes,), "typestr": "|u1", "data": (ptr, False), "version": 3}
    tensor = torch.as_tensor(SimpleNamespace(__cuda_array_interface__=description), device=device)
    assert tensor.data_ptr() == ptr, "torch copied the memory"
    return tensor
