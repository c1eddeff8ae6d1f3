"""What the ranks agree on, over the Gloo control group: never on the device whose work is being timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

_T = TypeVar("_T")
# A sample and the rank it came from travel in one int64: 47 bits of picoseconds (140 s) and 16 bits of rank.
_RANK_BITS = 16
_PICOSECONDS = 1e6


@dataclass(frozen=True, slots=True)
class Reduced:
    """One batch over all ranks, in microseconds per operation; ``valid`` if it was valid on every rank."""

    slowest_us: float
    fastest_us: float
    slowest_rank: int
    valid: bool


class Control:
    """Collectives on the control group. Every method is collective."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group
        self.rank = dist.get_rank(group)
        self.world_size = dist.get_world_size(group)

    def maximum(self, values: Sequence[float]) -> list[float]:
        """Element-wise maximum over ranks."""
        return self._reduce(values, torch.float64, dist.ReduceOp.MAX)

    def minimum(self, value: int) -> int:
        """Minimum over ranks."""
        return int(self._reduce([value], torch.int64, dist.ReduceOp.MIN)[0])

    def sum(self, values: Sequence[int]) -> list[int]:
        """Element-wise sum over ranks."""
        return [int(value) for value in self._reduce(values, torch.int64, dist.ReduceOp.SUM)]

    def announce(self, value: _T) -> _T:
        """Rank 0's ``value``, on every rank."""
        return self._broadcast(value, 0)

    def barrier(self) -> None:
        """Return once every rank is here."""
        dist.barrier(self.group)

    def first(self, message: str | None) -> tuple[int, str] | None:
        """The lowest rank that passes a message, and its message; ``None`` where nobody passes one.

        Nothing is gathered, so it costs the same for two ranks and for thousands.
        """
        rank = self.minimum(self.world_size if message is None else self.rank)
        return None if rank == self.world_size else (rank, self._broadcast(message or "", rank))

    def reduce_batches(self, times_us: Sequence[float], valid: Sequence[bool]) -> list[Reduced]:
        """The maximum and the minimum over ranks of each batch, and who was slowest, in one collective.

        Nothing is gathered, so it costs the same for two ranks and for thousands.
        """
        picoseconds = [round(time_us * _PICOSECONDS) for time_us in times_us]
        packed = [
            *(time << _RANK_BITS | self.rank for time in picoseconds),
            *(-time for time in picoseconds),
            *(0 if ok else 1 for ok in valid),
        ]
        reduced = [int(value) for value in self._reduce(packed, torch.int64, dist.ReduceOp.MAX)]
        count = len(picoseconds)
        return [
            Reduced(
                slowest_us=(reduced[i] >> _RANK_BITS) / _PICOSECONDS,
                fastest_us=-reduced[count + i] / _PICOSECONDS,
                slowest_rank=reduced[i] & ((1 << _RANK_BITS) - 1),
                valid=reduced[2 * count + i] == 0,
            )
            for i in range(count)
        ]

    def _broadcast(self, value: _T, source: int) -> _T:
        box = [value if self.rank == source else None]
        dist.broadcast_object_list(box, src=dist.get_global_rank(self.group, source), group=self.group)
        received = box[0]
        assert received is not None
        return received

    def _reduce(self, values: Sequence[float], dtype: torch.dtype, op: dist.ReduceOp.RedOpType) -> list[float]:
        tensor = torch.tensor(values, dtype=dtype)
        dist.all_reduce(tensor, op, group=self.group)
        result: list[float] = tensor.tolist()
        return result
