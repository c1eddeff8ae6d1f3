"""The allocators of the buffers, and the ways to register the buffers."""

from enum import StrEnum


class Memory(StrEnum):
    """The allocators of the buffers, by the names that ``--memory`` takes."""

    TORCH = "torch"  # torch's allocator as the environment configures it
    EXPANDABLE = "expandable"  # torch's allocator with expandable segments
    NCCL = "nccl"  # NCCL's allocator, ncclMemAlloc


class Register(StrEnum):
    """The ways to register the buffers with the communicators."""

    NONE = "none"  # not registered
    LOCAL = "local"  # by ncclCommRegister
    WINDOW = "window"  # as a symmetric window, by ncclCommWindowRegister
