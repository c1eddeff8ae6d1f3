"""What the ranks agree on, over the Gloo control group: never on the device whose work is being timed."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

_T = TypeVar("_T")
# A sample and the rank it came from travel in one int64: 47 bits of picoseconds (140 s) and 16 bits of rank.
_RANK_BITS = 16
_PICOSECONDS = 1e6
_NOTHING = -(2**63)


@dataclass(frozen=True, slots=True)
class Reduced:
    """One batch over all ranks, in microseconds per operation; ``valid`` if it was valid on every rank."""

    slowest_us: float
    fastest_us: float
    slowest_rank: int
    valid: bool


class Control:
    """Collectives on a Gloo group. Every method is collective.

    ``rank_told`` is the rank that records speak of, where the group's own is another.
    """

    def __init__(self, group: dist.ProcessGroup, rank_told: int | None = None) -> None:
        self._group = group
        self.rank = group.rank()
        self.world_size = group.size()
        self._rank_told = self.rank if rank_told is None else rank_told

    def maximum(self, values: Sequence[float]) -> list[float]:
        """Element-wise maximum over ranks."""
        return self._reduce(values, torch.float64, dist.ReduceOp.MAX)

    def minimum(self, value: int) -> int:
        """Minimum over ranks."""
        return int(self._reduce([value], torch.int64, dist.ReduceOp.MIN)[0])

    def sum(self, values: Sequence[int]) -> list[int]:
        """Element-wise sum over ranks."""
        return [int(value) for value in self._reduce(values, torch.int64, dist.ReduceOp.SUM)]

    def announce(self, value: _T, source: int = 0) -> _T:
        """The ``value`` of rank ``source``, on every rank."""
        payload = bytearray(pickle.dumps(value) if self.rank == source else b"")
        length = torch.tensor([len(payload)])
        self._broadcast(length, source)
        buffer = (
            torch.frombuffer(payload, dtype=torch.uint8) if payload else torch.empty(int(length), dtype=torch.uint8)
        )
        self._broadcast(buffer, source)
        # From a rank of this very launch.
        received: _T = pickle.loads(bytes(buffer.tolist()))
        return received

    def barrier(self) -> None:
        """Return once every rank is here."""
        self._group.barrier().wait()

    def first(self, message: str | None) -> tuple[int, str] | None:
        """The lowest rank that passes a message, and its message; ``None`` where nobody passes one.

        Nothing is gathered, so it costs the same for two ranks and for thousands.
        """
        rank = self.minimum(self.world_size if message is None else self.rank)
        return None if rank == self.world_size else (rank, self.announce(message or "", rank))

    def reduce_batches(self, times_us: Sequence[float | None], valid: Sequence[bool]) -> list[Reduced]:
        """The maximum and the minimum over ranks of each batch, and who was slowest, in one collective.

        A rank that had no part in a batch passes ``None``. Nothing is gathered, so it costs the same for two ranks and
        for thousands.
        """
        picoseconds = [None if time_us is None else round(time_us * _PICOSECONDS) for time_us in times_us]
        packed = [
            *(_NOTHING if time is None else time << _RANK_BITS | self._rank_told for time in picoseconds),
            *(_NOTHING if time is None else -time for time in picoseconds),
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

    def _broadcast(self, tensor: torch.Tensor, source: int) -> None:
        options = dist.BroadcastOptions()
        options.rootRank = source
        self._group.broadcast([tensor], options).wait()

    def _reduce(self, values: Sequence[float], dtype: torch.dtype, op: dist.ReduceOp.RedOpType) -> list[float]:
        tensor = torch.tensor(values, dtype=dtype)
        options = dist.AllreduceOptions()
        options.reduceOp = dist.ReduceOp(op)
        self._group.allreduce([tensor], options).wait()
        result: list[float] = tensor.tolist()
        return result
