"""The memory of the buffers of a run: its allocator, and how it is registered. No torch."""

from nccl_bench.catalog.devices import DeviceSpec
from nccl_bench.catalog.memory import Memory, Register
from nccl_bench.config.parsers import one_of
from nccl_bench.errors import UsageError


def parse_register(name: str, value: object, device: DeviceSpec) -> Register:
    """Return the way to register buffers; raise ``UsageError`` if the device cannot register memory."""
    register = one_of(name, value, Register)
    if register is not Register.NONE and Memory.NCCL in device.missing_memory:
        raise UsageError(f"{name} is {str(register)!r}: {device.missing_memory[Memory.NCCL]}: leave the option out")
    return register


def parse_memory(name: str, value: object, device: DeviceSpec) -> Memory:
    """Return the allocator of the buffers; raise ``UsageError`` if the device lacks it."""
    memory = one_of(name, value, Memory)
    if memory in device.missing_memory:
        raise UsageError(f"{name} is {str(memory)!r}: {device.missing_memory[memory]}: give {Memory.TORCH}")
    return memory


def resolve_memory(memory: Memory | None, register: Register) -> Memory:
    """Return ``memory``, or for ``None`` the allocator that ``register`` needs.

    Raises ``UsageError`` if NCCL cannot register memory of this allocator in this way.
    """
    if memory is None:
        return Memory.TORCH if register is Register.NONE else Memory.NCCL
    if register is Register.WINDOW and memory is not Memory.NCCL:
        raise UsageError(
            f"memory is {str(memory)!r}, and register is {str(register)!r}: a window needs memory of NCCL: leave "
            "--memory out, or give --register local"
        )
    if register is Register.LOCAL and memory is Memory.EXPANDABLE:
        raise UsageError(
            "memory is 'expandable', and register is 'local': expandable segments are several pieces of memory, which "
            "NCCL before 2.29.2 cannot register as one: leave out one of the two options"
        )
    return memory
