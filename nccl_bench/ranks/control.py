"""Collectives between ranks on the host, over Gloo. They never use the device, whose work is timed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

_T = TypeVar("_T")
# One int64 holds a time and the rank that measured it: 47 bits of picoseconds (up to 140 s) and 16 bits of rank.
_RANK_BITS = 16
_PICOSECONDS_PER_US = 1e6
_NANOSECONDS_PER_S = 1e9
_NOTHING = -(2**63)


@dataclass(frozen=True, slots=True)
class Reduced:
    """The times of one batch over all ranks, in microseconds per operation."""

    slowest_us: float  # the time of the slowest rank
    fastest_us: float  # the time of the fastest rank
    slowest_rank: int  # the rank whose time is slowest_us
    valid: bool  # True if the batch was valid on every rank
    began_s: float  # the start of the batch in seconds, on the clock of the rank that reports the start


class Control:
    """Collectives on a Gloo group. Every method is collective.

    ``reported_rank`` is the rank to write into records. If it is ``None``, records get the rank in ``group``.
    """

    def __init__(self, group: dist.ProcessGroup, reported_rank: int | None = None) -> None:
        self._group = group
        self.rank = group.rank()
        self.world_size = group.size()
        self._reported_rank = self.rank if reported_rank is None else reported_rank

    def maximum(self, values: Sequence[float]) -> list[float]:
        """Return the element-wise maximum over ranks."""
        return self._reduce(values, torch.float64, dist.ReduceOp.MAX)

    def minimum(self, value: int) -> int:
        """Return the minimum over ranks."""
        return int(self._reduce([value], torch.int64, dist.ReduceOp.MIN)[0])

    def sum(self, values: Sequence[int]) -> list[int]:
        """Return the element-wise sum over ranks."""
        return [int(value) for value in self._reduce(values, torch.int64, dist.ReduceOp.SUM)]

    def each_value(self, value: int) -> list[int]:
        """Return the ``value`` of each rank. For set-up only, because the cost grows with the number of ranks."""
        return self.sum([value if rank == self.rank else 0 for rank in range(self.world_size)])

    def broadcast(self, value: _T, source: int = 0) -> _T:
        """Return the ``value`` of rank ``source`` on every rank. It must be JSON, which cannot run code."""
        payload = bytearray(json.dumps(value).encode() if self.rank == source else b"")
        length = torch.tensor([len(payload)])
        self._broadcast_tensor(length, source)
        buffer = (
            torch.frombuffer(payload, dtype=torch.uint8) if payload else torch.empty(int(length), dtype=torch.uint8)
        )
        self._broadcast_tensor(buffer, source)
        received: _T = json.loads(bytes(buffer.tolist()))
        return received

    def barrier(self) -> None:
        """Wait until every rank has called this method."""
        self._group.barrier().wait()

    def first_message(self, message: str | None) -> tuple[int, str] | None:
        """Return the lowest rank that passes a message, and its message. Return ``None`` if no rank passes a message.

        This gathers nothing, so its cost does not grow with the number of ranks.
        """
        rank = self.minimum(self.world_size if message is None else self.rank)
        return None if rank == self.world_size else (rank, self.broadcast(message or "", rank))

    def reduce_batches(
        self, times_us: Sequence[float | None], valid: Sequence[bool], began_s: Sequence[float | None]
    ) -> list[Reduced]:
        """Reduce the times of each batch over all ranks in one collective.

        A rank that took no part in a batch passes ``None`` as its time. For each batch, one rank passes the start in
        ``began_s``, and all others pass ``None``. This gathers nothing, so its cost does not grow with the number of
        ranks.
        """
        picoseconds = [None if time_us is None else round(time_us * _PICOSECONDS_PER_US) for time_us in times_us]
        packed = [
            *(_NOTHING if time is None else time << _RANK_BITS | self._reported_rank for time in picoseconds),
            *(_NOTHING if time is None else -time for time in picoseconds),
            *(0 if ok else 1 for ok in valid),
            *(_NOTHING if each is None else round(each * _NANOSECONDS_PER_S) for each in began_s),
        ]
        reduced = [int(value) for value in self._reduce(packed, torch.int64, dist.ReduceOp.MAX)]
        count = len(picoseconds)
        return [
            Reduced(
                slowest_us=(reduced[i] >> _RANK_BITS) / _PICOSECONDS_PER_US,
                fastest_us=-reduced[count + i] / _PICOSECONDS_PER_US,
                slowest_rank=reduced[i] & ((1 << _RANK_BITS) - 1),
                valid=reduced[2 * count + i] == 0,
                began_s=reduced[3 * count + i] / _NANOSECONDS_PER_S,
            )
            for i in range(count)
        ]

    def _broadcast_tensor(self, tensor: torch.Tensor, source: int) -> None:
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
