"""Races: two accesses that nothing orders, and the wait that would order them."""

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum

from nccl_bench.audit.order.actions import Work
from nccl_bench.audit.order.places import ByteRange, Stream


class AccessMode(StrEnum):
    """The things that an access can do with its bytes."""

    READ = "read"
    WRITE = "write"
    HAND_OUT = "hand out"  # the allocator gives the bytes to new work, which will write them


class RaceKind(StrEnum):
    """The kinds of races, the worst first."""

    KERNELS = "kernels"  # two works on streams
    MEMORY = "memory"  # the allocator can hand memory out again while a work still uses it
    # The accesses have their order only if the host is slow enough. Either the host itself uses the bytes and does not
    # wait. Or the first work had ended in this run by accident: another thread waited for it, or an allocation waited.
    HOST_SPEED = "host speed"


class Missing(StrEnum):
    """The order that is missing before the second access of a race."""

    FORK = "fork"  # the stream of the second work, which is a side stream, must wait for the stream of the first
    JOIN = "join"  # the stream of the second work must wait for the stream of the first, which is a side stream
    WAIT = "wait"  # the stream of the second work must wait for the stream of the first; neither is the main stream
    HOST_WAIT = "host wait"  # the host must wait for the stream of the first work
    SIGNAL = "signal"  # the thread of the second access must wait for the thread of the first
    RECORD_STREAM = "record_stream"  # the memory needs record_stream(stream of the first work) before it is freed


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The use that a piece of work makes of some bytes."""

    work: Work  # the work
    mode: AccessMode  # what the work does with the bytes
    thread: int  # the host thread that launched the work, or did it
    stream: Stream | None  # the stream of the work; None if the host did it itself
    in_graph: bool = False  # True if the work is part of a captured graph
    replayed: Hashable = None  # the stack of the graph's replay; None for work that was not replayed

    @property
    def identity(self) -> Hashable:
        """The values of this access that all occurrences of a race share. The streams can differ, as in a pool."""
        return self.mode, self.work.name, self.work.where, self.replayed


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """Two accesses to the same bytes, at least one of them a write, that nothing orders."""

    kind: RaceKind  # the kind of the race
    missing: Missing  # the order that is missing; a wait belongs before the second access
    first: Access  # the access that the host asked for first
    second: Access  # the access that the host asked for later
    overlap: ByteRange  # bytes that both use, from the first occurrence
    freed: Hashable = None  # the stack that freed the memory between the accesses; None if nothing did
    count: int = 1  # how often the race occurred, with the same stacks and modes

    @property
    def identity(self) -> Hashable:
        """The values that all occurrences of this race share."""
        return self.kind, self.first.identity, self.second.identity
