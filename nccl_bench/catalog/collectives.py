"""The one table of what is measured: collectives, data types and reductions. No torch.

Everything that varies by collective is a field here, so choices, dispatch, bandwidth and the check never branch on a
collective's name. Sizes, counts and bus factors are nccl-tests' (src/*.cu, ``*GetCollByteCount`` and ``*GetBw``;
doc/PERFORMANCE.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

# nccl-tests rounds the count of one rank's block down to this many bytes, so small sizes of the collectives that
# split a message over the ranks are empty (`& -(16/eltSize)` in src/all_gather.cu and its neighbours).
BLOCK_ALIGNMENT_BYTES = 16


class RedOp(StrEnum):
    """Reductions, by nccl-tests' names."""

    SUM = "sum"
    PROD = "prod"
    MIN = "min"
    MAX = "max"
    AVG = "avg"


class Placement(StrEnum):
    """Whether the output shares memory with the input."""

    IN_PLACE = "in-place"
    OUT_OF_PLACE = "out-of-place"


class Result(StrEnum):
    """What one rank's output holds once the collective is done; element i of the rank's block unless said."""

    REDUCED = "reduced"  # the reduction of every rank's input
    GATHERED = "gathered"  # block r is rank r's input
    SCATTERED = "scattered"  # block `rank` of the reduction
    TRANSPOSED = "transposed"  # block r is block `rank` of rank r's input
    COPIED = "copied"  # the root's input
    REDUCED_AT_ROOT = "reduced-at-root"  # the reduction, on the root alone
    SHIFTED = "shifted"  # the previous rank's input


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """One row of the table.

    A rank sends ``send_blocks`` and receives ``receive_blocks`` blocks of ``count`` elements; ``split`` says that a
    message is divided over the ranks, so one block is the message over the world size. ``in_place_block`` is whose
    block of the larger buffer the smaller one is when in place.
    """

    name: str
    split: bool
    sends_all_blocks: bool
    receives_all_blocks: bool
    reduces: bool
    rooted: bool
    placements: tuple[Placement, ...]
    bus_factor: Callable[[int], float]
    result: Result

    def block_count(self, size_bytes: int, itemsize: int, world_size: int) -> int:
        """Elements in one block for a requested message size; 0 where nccl-tests' rounding leaves nothing."""
        if not self.split:
            return size_bytes // itemsize
        alignment = max(1, BLOCK_ALIGNMENT_BYTES // itemsize)
        return size_bytes // itemsize // world_size // alignment * alignment

    def send_count(self, block_count: int, world_size: int) -> int:
        """Elements one rank sends."""
        return block_count * (world_size if self.sends_all_blocks else 1)

    def receive_count(self, block_count: int, world_size: int) -> int:
        """Elements one rank receives."""
        return block_count * (world_size if self.receives_all_blocks else 1)

    def size_bytes(self, block_count: int, itemsize: int, world_size: int) -> int:
        """The message size as nccl-tests counts it: the larger of one rank's send and receive bytes."""
        return itemsize * max(self.send_count(block_count, world_size), self.receive_count(block_count, world_size))

    def algbw_gb_s(self, size_bytes: int, time_us: float) -> float:
        """Algorithm bandwidth, GB/s (10^9 bytes)."""
        return size_bytes / time_us / 1e3

    def busbw_gb_s(self, size_bytes: int, time_us: float, world_size: int) -> float:
        """Bus bandwidth, GB/s: what one link carries, whatever the number of ranks (nccl-tests, PERFORMANCE.md)."""
        return self.algbw_gb_s(size_bytes, time_us) * self.bus_factor(world_size)


_BOTH = (Placement.IN_PLACE, Placement.OUT_OF_PLACE)


_OUT_ONLY = (Placement.OUT_OF_PLACE,)


def _one(_world_size: int) -> float:
    return 1.0


def _others(world_size: int) -> float:
    return (world_size - 1) / world_size


def _twice_others(world_size: int) -> float:
    return 2 * (world_size - 1) / world_size


def _row(
    name: str,
    result: Result,
    bus_factor: Callable[[int], float],
    *,
    sends_all_blocks: bool = False,
    receives_all_blocks: bool = False,
    reduces: bool = False,
    rooted: bool = False,
    placements: tuple[Placement, ...] = _BOTH,
) -> Collective:
    return Collective(
        name=name,
        split=sends_all_blocks or receives_all_blocks,
        sends_all_blocks=sends_all_blocks,
        receives_all_blocks=receives_all_blocks,
        reduces=reduces,
        rooted=rooted,
        placements=placements,
        bus_factor=bus_factor,
        result=result,
    )


_ROWS = (
    _row("all_reduce", Result.REDUCED, _twice_others, reduces=True),
    _row("all_gather", Result.GATHERED, _others, receives_all_blocks=True),
    _row("reduce_scatter", Result.SCATTERED, _others, sends_all_blocks=True, reduces=True),
    _row(
        "all_to_all",
        Result.TRANSPOSED,
        _others,
        sends_all_blocks=True,
        receives_all_blocks=True,
        placements=_OUT_ONLY,
    ),
    _row("broadcast", Result.COPIED, _one, rooted=True),
    _row("reduce", Result.REDUCED_AT_ROOT, _one, reduces=True, rooted=True),
    _row("send_recv", Result.SHIFTED, _one, placements=_OUT_ONLY),
)


COLLECTIVES: Mapping[str, Collective] = {row.name: row for row in _ROWS}
