"""Records of what the host asked for, which sources report in the order in which the host asked.

A number identifies an event, a graph, a thread or a signal. A number that was destroyed can be used again, because
handles are used again too. Numbers need no announcement: a stream or thread exists from its first action. A thread that
begins without a signal knows what all other threads know by then.

A blocking copy to the host is two actions: ``WorkLaunched``, which reads memory of the device and writes memory of the
host, and ``HostWaited`` for its stream.
"""

from collections.abc import Hashable
from dataclasses import dataclass

from nccl_bench.audit.order.places import ByteRange, Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The name of a piece of work, for reports."""

    name: str  # the operator or collective, for example "aten::mul" or "all_reduce"
    is_collective: bool = False  # True for a collective, which decides whether a missing wait is a fork or a join
    where: Hashable = None  # the stack, in a form of the source; the order only compares it


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkLaunched:
    """A thread queued work on a stream."""

    thread: int  # the host thread; a thread that works for another one, which waits, has the number of that one
    stream: Stream  # the stream of the work
    work: Work  # what was launched
    reads: tuple[ByteRange, ...] = ()  # the bytes that the work reads; bytes that it also writes may be left out
    writes: tuple[ByteRange, ...] = ()  # the bytes that the work writes
    communicator: int | None = None  # a number whose works run one after another on all streams; None if there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAccessed:
    """The host itself read or wrote memory, for example the pinned output of a copy."""

    thread: int  # the host thread
    work: Work  # what the host did
    reads: tuple[ByteRange, ...] = ()  # the bytes that the host reads
    writes: tuple[ByteRange, ...] = ()  # the bytes that the host writes


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecorded:
    """A thread recorded an event on a stream. The event forgets its earlier recording."""

    thread: int  # the host thread
    event: int  # the number of the event
    stream: Stream  # the stream whose earlier work the event marks


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamWaited:
    """A thread made later work of a stream wait for an event. An event without a recording orders nothing."""

    thread: int  # the host thread
    stream: Stream  # the stream that waits
    event: int  # the number of the event


@dataclass(frozen=True, slots=True, kw_only=True)
class HostWaited:
    """A thread waited for an event, a stream or a whole device, or a query of it returned True.

    At most one of ``event``, ``stream`` and ``device`` is set. The order trusts the program to look at the answer of a
    query, because it cannot see whether the program does.
    """

    thread: int  # the host thread that waited
    event: int | None = None  # the event; None if the thread did not wait for an event
    stream: Stream | None = None  # the stream; None if the thread did not wait for a stream
    device: int | None = None  # the device; None if the thread did not wait for a device
    is_accidental: bool = False  # True if nothing promises this wait: an allocation that missed the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryAllocated:
    """The caching allocator of a device handed out a block of memory."""

    thread: int  # the host thread
    memory: ByteRange  # the block
    stream: Stream  # the stream that was current, on which the allocator orders the block
    work: Work = Work(name="allocation")  # what asked for the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOfMemoryRecorded:
    """``Tensor.record_stream``: the block is not handed out again before the stream has done what it has now.

    "Now" is the time at which the block is freed.
    """

    address: int  # the first byte of the block
    stream: Stream  # the stream that uses the block


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFreed:
    """A block went back to the caching allocator, which may hand it out again on the block's own stream."""

    thread: int  # the host thread
    address: int  # the first byte of the block
    where: Hashable = None  # the stack, in a form of the source


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureBegun:
    """A capture began on a stream. Streams that wait for its events join the capture, until it ends."""

    thread: int  # the host thread
    stream: Stream  # the stream on which the capture begins and ends


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureEnded:
    """The capture that began on a stream ended. Its work is in a graph and has not run."""

    thread: int  # the host thread
    stream: Stream  # the stream on which the capture began
    graph: int  # the number of the graph


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphReplayed:
    """A thread launched a graph on a stream. The graph's replays run one after another, also on different streams."""

    thread: int  # the host thread
    graph: int  # the number of the graph
    stream: Stream  # the stream of the replay
    where: Hashable = None  # the stack of the replay, in a form of the source


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalSent:
    """A thread let other threads of the host go on: it started a thread, set a flag, released a lock, ended."""

    thread: int  # the host thread
    signal: int  # the number of the signal


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalReceived:
    """A thread went on because of a signal: it began, saw the flag, took the lock, joined the thread."""

    thread: int  # the host thread
    signal: int  # the number of the signal


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDestroyed:
    """An event does not exist any more."""

    event: int  # the number of the event


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamDestroyed:
    """A stream does not exist any more. Work that is still in it runs; a new stream can get its handle."""

    stream: Stream  # the stream


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphDestroyed:
    """A graph does not exist any more."""

    graph: int  # the number of the graph


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadEnded:
    """A thread of the host does nothing any more."""

    thread: int  # the host thread


Action = (
    WorkLaunched
    | HostAccessed
    | EventRecorded
    | StreamWaited
    | HostWaited
    | MemoryAllocated
    | StreamOfMemoryRecorded
    | MemoryFreed
    | CaptureBegun
    | CaptureEnded
    | GraphReplayed
    | SignalSent
    | SignalReceived
    | EventDestroyed
    | StreamDestroyed
    | GraphDestroyed
    | ThreadEnded
)
