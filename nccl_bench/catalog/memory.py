"""The allocators of the buffers."""

from enum import StrEnum


class Memory(StrEnum):
    """The allocators of the buffers, by the names that ``--memory`` takes."""

    TORCH = "torch"  # torch's allocator as the environment configures it
    EXPANDABLE = "expandable"  # torch's allocator with expandable segments
    NCCL = "nccl"  # NCCL's allocator, ncclMemAlloc
