"""The kernels that NCCL ran for a call, in the words of its log."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from nccl_bench.catalog.bounds import AtLeastOne, Name

_UNNAMED = "not named by the log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel that NCCL ran for a call. Without a ``special`` kernel, the kernel has an algorithm and a protocol."""

    algorithm: Name | None = None  # the algorithm, such as RING; None if ``special`` ran
    protocol: Name | None = None  # the protocol, such as LL; None if ``special`` ran
    special: Name | None = None  # such as "symmetric AllReduce_AGxLL_R" or "copy engine"; None if an algorithm ran
    channels: AtLeastOne | None = None  # the number of channels; None if NCCL does not write it

    @property
    def name(self) -> str:
        """The kernel without its channels: RING/LL, copy engine."""
        return self.special or "/".join(filter(None, (self.algorithm, self.protocol)))

    @property
    def text(self) -> str:
        """The kernel with its channels: RING/LL on 4 channels."""
        if self.channels is None:
            return self.name
        return f"{self.name} on {self.channels} channel{'' if self.channels == 1 else 's'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """The kernels of calls like those of one cell, from NCCL's log of calls that were not timed."""

    distinct: tuple[Kernel, ...]  # each kernel once; empty if the log names none, as for sends and receives

    @classmethod
    def of(cls, kernels: Iterable[Kernel]) -> Self:
        """Return ``kernels`` without repetitions."""
        return cls(distinct=tuple(sorted({*kernels}, key=lambda kernel: kernel.text)))

    @property
    def names(self) -> str:
        """All kernels without their channels: RING/LL and copy engine."""
        return " and ".join(dict.fromkeys(kernel.name for kernel in self.distinct)) or _UNNAMED

    @property
    def text(self) -> str:
        """All kernels with their channels: RING/LL on 4 channels and copy engine."""
        return " and ".join(kernel.text for kernel in self.distinct) or _UNNAMED
