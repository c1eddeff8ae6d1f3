"""The table of collectives. Everything that varies by collective is a field, so no code branches on a name.

Sizes, counts and bus factors are those of nccl-tests (``*GetCollByteCount`` and ``*GetBw`` in src/*.cu;
doc/PERFORMANCE.md).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nccl_bench.catalog.arms import BUILT_IN_COMMUNICATORS, COORDINATORS

# nccl-tests rounds the bytes of one rank's block down to a multiple of this number. So the blocks of a small message
# can be empty (`& -(16/eltSize)` in src/all_gather.cu and similar files).
_BLOCK_ALIGNMENT_BYTES = 16


class RedOp(StrEnum):
    """Reductions, by nccl-tests' names."""

    SUM = "sum"
    PROD = "prod"
    MIN = "min"
    MAX = "max"
    AVG = "avg"


class Placement(StrEnum):
    """The memory that a call writes its output to."""

    IN_PLACE = "in-place"  # the output shares memory with the input
    OUT_OF_PLACE = "out-of-place"  # the output has memory of its own, which the caller provides
    RETURNED = "returned"  # the call returns its output as a new tensor

    # The hash of the text, which is fast. `Enum` computes its hash in Python, and reports look up many members.
    __hash__ = str.__hash__


class Result(StrEnum):
    """The values in a rank's output after the collective. A block is ``count`` elements."""

    REDUCED = "reduced"  # the reduction of every rank's input
    GATHERED = "gathered"  # block r is rank r's input
    SCATTERED = "scattered"  # block `rank` of the reduction
    TRANSPOSED = "transposed"  # block r is block `rank` of rank r's input
    COPIED = "copied"  # the root's input
    SHIFTED = "shifted"  # the previous rank's input


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """Communicators that lack a collective, in some or all placements."""

    communicators: frozenset[str]  # names in communicators.registry
    reason: str  # one line for the user
    placements: tuple[Placement, ...] = tuple(Placement)  # the placements that they lack


# Each group holds placements that a caller can swap: `x = all_reduce(x)` fits a call that works in place and a call
# that returns a new tensor. The first placement of the first group is the default.
_INPUT_OR_NEW = ((Placement.IN_PLACE, Placement.RETURNED), (Placement.OUT_OF_PLACE, Placement.RETURNED))
# In place, the smaller of input and output is a part of the larger. A caller for another placement does not call like
# this.
_PART_OR_NEW = ((Placement.IN_PLACE,), (Placement.OUT_OF_PLACE, Placement.RETURNED))
_NEW = ((Placement.OUT_OF_PLACE, Placement.RETURNED),)
_PART = ((Placement.IN_PLACE,), (Placement.OUT_OF_PLACE,))


def _same(_world_size: int) -> float:
    return 1.0


def _without_own(world_size: int) -> float:
    return (world_size - 1) / world_size


def _twice_without_own(world_size: int) -> float:
    return 2 * (world_size - 1) / world_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """A row of the table of collectives."""

    name: str  # the name that --collective takes
    result: Result  # the values in a rank's output
    result_at_root: bool = False  # whether only the root's output is defined
    bus_factor: Callable[[int], float]  # world size -> bus bandwidth divided by algorithm bandwidth
    sends_all_blocks: bool = False  # whether a rank sends one block for each rank; False: one block in total
    receives_all_blocks: bool = False  # whether a rank receives one block from each rank; False: one in total
    reduces: bool = False  # whether the collective applies a reduction (redop)
    rooted: bool = False  # whether the collective takes a root
    # Whether a measurement has shown that large messages are faster if NCCL has the buffers registered.
    gains_from_registration: bool = False
    point_to_point: bool = False  # whether NCCL makes the collective of sends and receives
    # The name of the communicator's method, if the collective has another name. The method gets the sizes of all
    # blocks.
    uneven_form_of: str | None = None
    # Groups of placements that a caller can exchange without other changes, the preferred group first.
    exchangeable: tuple[tuple[Placement, ...], ...] = _INPUT_OR_NEW
    absences: tuple[Absence, ...] = ()  # the built-in communicators that lack the collective

    @property
    def placements(self) -> tuple[Placement, ...]:
        """The supported placements, the default first."""
        return tuple(dict.fromkeys(placement for group in self.exchangeable for placement in group))

    def absence(self, communicator: str, placement: Placement) -> str | None:
        """Return why ``communicator`` lacks the collective in ``placement``; ``None`` if the communicator has it."""
        for absence in self.absences:
            if communicator in absence.communicators and placement in absence.placements:
                return absence.reason
        return None

    @property
    def has_blocks(self) -> bool:
        """True if a message has a block for each rank."""
        return self.sends_all_blocks or self.receives_all_blocks

    @property
    def operation(self) -> str:
        """The name of the method of a communicator that makes the collective."""
        return self.uneven_form_of or self.name

    def uneven_ranks(self, world_size: int) -> int:
        """Return the number of ranks if this is an uneven form, which is one collective for each rank; otherwise 0."""
        return 0 if self.uneven_form_of is None else world_size

    def block_counts(self, block_count: int, world_size: int) -> list[int]:
        """Return the number of elements in the block of each rank; ``block_count`` is their mean.

        In an uneven form, one of two neighbouring ranks has half as many elements as the mean. The other has the rest.
        """
        counts = [block_count] * world_size
        if self.uneven_form_of is not None:
            for rank in range(1, world_size, 2):
                counts[rank] -= block_count // 2
                counts[rank - 1] += block_count // 2
        return counts

    def block_count(self, size_bytes: int, itemsize: int, world_size: int) -> int:
        """Return the number of elements in one block of a message, rounded as in nccl-tests. The number can be 0."""
        if not self.has_blocks:
            return size_bytes // itemsize
        alignment = max(1, _BLOCK_ALIGNMENT_BYTES // itemsize)
        return size_bytes // itemsize // world_size // alignment * alignment

    def send_count(self, block_count: int, world_size: int) -> int:
        """Return the number of elements that one rank sends."""
        return block_count * (world_size if self.sends_all_blocks else 1)

    def receive_count(self, block_count: int, world_size: int) -> int:
        """Return the number of elements that one rank receives."""
        return block_count * (world_size if self.receives_all_blocks else 1)

    def size_bytes(self, block_count: int, itemsize: int, world_size: int) -> int:
        """Return the message size as nccl-tests counts it: the larger of one rank's send and receive bytes."""
        return itemsize * max(self.send_count(block_count, world_size), self.receive_count(block_count, world_size))

    def algbw_gb_s(self, size_bytes: Any, time_us: Any) -> Any:
        """Return the algorithm bandwidth in GB/s (10^9 bytes); for arrays, the bandwidth of each entry."""
        return size_bytes / time_us / 1e3

    def busbw_gb_s(self, size_bytes: Any, time_us: Any, world_size: int) -> Any:
        """Return the bus bandwidth in GB/s: the traffic of one link, comparable between world sizes."""
        return self.algbw_gb_s(size_bytes, time_us) * self.bus_factor(world_size)


_TORCH_IN_PLACE_ONLY = Absence(
    communicators=frozenset({"process-group", "process-group-async"}),
    reason="torch.distributed has no out-of-place form of this collective",
    placements=(Placement.OUT_OF_PLACE,),
)
_COORDINATORS_IN_PLACE_ONLY = Absence(
    communicators=COORDINATORS,
    reason="torch.distributed, to which coordinators can route, has no out-of-place form of this collective",
    placements=(Placement.OUT_OF_PLACE,),
)
_TORCH_RETURNS_NOTHING = Absence(
    communicators=frozenset({"process-group", "process-group-async"}),
    reason="torch.distributed has no form of this collective that returns the output",
    placements=(Placement.RETURNED,),
)
_RECORDED_ALLOCATES_NOTHING = Absence(
    communicators=frozenset({"bare-transport"}),
    reason="this arm repeats recorded calls of the transport, and allocates no output",
    placements=(Placement.RETURNED,),
)
_BUILT_IN_RETURNS_NOTHING = Absence(
    communicators=BUILT_IN_COMMUNICATORS,
    reason="no built-in arm has a form of this collective that returns the output",
    placements=(Placement.RETURNED,),
)

_ROWS = (
    Collective(
        name="all_reduce",
        result=Result.REDUCED,
        bus_factor=_twice_without_own,
        reduces=True,
        absences=(_TORCH_IN_PLACE_ONLY, _TORCH_RETURNS_NOTHING, _RECORDED_ALLOCATES_NOTHING),
    ),
    Collective(
        name="all_gather",
        result=Result.GATHERED,
        bus_factor=_without_own,
        receives_all_blocks=True,
        gains_from_registration=True,
        exchangeable=_PART_OR_NEW,
        absences=(_BUILT_IN_RETURNS_NOTHING,),
    ),
    Collective(
        name="reduce_scatter",
        result=Result.SCATTERED,
        bus_factor=_without_own,
        sends_all_blocks=True,
        reduces=True,
        exchangeable=_PART_OR_NEW,
        absences=(_BUILT_IN_RETURNS_NOTHING,),
    ),
    Collective(
        name="all_gatherv",
        uneven_form_of="all_gather",
        result=Result.GATHERED,
        bus_factor=_without_own,
        receives_all_blocks=True,
        exchangeable=_PART,
    ),
    Collective(
        name="reduce_scatterv",
        uneven_form_of="reduce_scatter",
        result=Result.SCATTERED,
        bus_factor=_without_own,
        sends_all_blocks=True,
        reduces=True,
        exchangeable=_PART,
    ),
    Collective(
        name="all_to_all",
        result=Result.TRANSPOSED,
        bus_factor=_without_own,
        sends_all_blocks=True,
        receives_all_blocks=True,
        gains_from_registration=True,
        point_to_point=True,
        exchangeable=_NEW,
        absences=(_BUILT_IN_RETURNS_NOTHING,),
    ),
    Collective(
        name="broadcast",
        result=Result.COPIED,
        bus_factor=_same,
        rooted=True,
        absences=(_TORCH_IN_PLACE_ONLY, _COORDINATORS_IN_PLACE_ONLY, _BUILT_IN_RETURNS_NOTHING),
    ),
    Collective(
        name="reduce",
        result=Result.REDUCED,
        result_at_root=True,
        bus_factor=_same,
        reduces=True,
        rooted=True,
        absences=(_TORCH_IN_PLACE_ONLY, _COORDINATORS_IN_PLACE_ONLY, _BUILT_IN_RETURNS_NOTHING),
    ),
    Collective(
        name="gather",
        result=Result.GATHERED,
        result_at_root=True,
        bus_factor=_without_own,
        receives_all_blocks=True,
        rooted=True,
        point_to_point=True,
        exchangeable=_PART_OR_NEW,
        absences=(
            Absence(
                communicators=COORDINATORS,
                reason="a coordinator of an engine gathers only through torch.distributed: measure the torch arm",
            ),
            Absence(communicators=frozenset({"nccl4py"}), reason="this arm does not call nccl4py's gather"),
            _BUILT_IN_RETURNS_NOTHING,
        ),
    ),
    Collective(
        name="send_recv",
        result=Result.SHIFTED,
        bus_factor=_same,
        gains_from_registration=True,
        point_to_point=True,
        exchangeable=_NEW,
        absences=(
            Absence(
                communicators=frozenset({"process-group"}),
                reason="torch.distributed exchanges messages only asynchronously: measure the torch-async arm",
            ),
            _BUILT_IN_RETURNS_NOTHING,
        ),
    ),
)
COLLECTIVES: Mapping[str, Collective] = {row.name: row for row in _ROWS}
# Collective with blocks of different sizes -> the collective with equal blocks.
UNEVEN_FORMS: Mapping[str, str] = {row.name: row.uneven_form_of for row in _ROWS if row.uneven_form_of is not None}
