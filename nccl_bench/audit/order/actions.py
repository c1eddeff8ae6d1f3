"""Records of what the host asked for. Sources report the records in the order in which the host asked.

A number identifies an event, a graph, a thread or a signal. After such an object is destroyed or ends, a new object can
get its number, because handles are used again too. No action creates a stream or a thread: each exists from its first
action. A thread without a signal for its start knows only what all other threads know.

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
    where: Hashable = None  # the stack; each source has its own form, and the order only compares it


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkLaunched:
    """A thread queued work on a stream."""

    thread: int  # the host thread; if it works for a waiting thread, the waiting thread
    stream: Stream  # the stream of the work
    work: Work  # what was launched
    reads: tuple[ByteRange, ...] = ()  # the bytes that the work reads; bytes that it also writes may be left out
    writes: tuple[ByteRange, ...] = ()  # the bytes that the work writes
    # The number of NCCL's communicator; None for work without one. The works of a communicator run one after another,
    # even on different streams.
    communicator: int | None = None


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
    """A thread waited for an event, a stream or a whole device, or a query returned True.

    At most one of ``event``, ``stream`` and ``device`` is set. The order cannot see whether the program looks at
    the answer of a query, and assumes that it does.
    """

    thread: int  # the host thread that waited
    event: int | None = None  # the event; None if the thread did not wait for an event
    stream: Stream | None = None  # the stream; None if the thread did not wait for a stream
    device: int | None = None  # the device; None if the thread did not wait for a device
    is_accidental: bool = False  # True if this wait happened by accident: an allocation missed the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryAllocated:
    """The caching allocator of a device handed out a block of memory."""

    thread: int  # the host thread
    memory: ByteRange  # the block
    stream: Stream  # the stream that was current; the allocator orders the block on it
    work: Work = Work(name="allocation")  # what asked for the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOfMemoryRecorded:
    """``Tensor.record_stream``: a freed block is not handed out again before a stream has done its work.

    The work that is in the stream at the time of the free must end first.
    """

    address: int  # the first byte of the block
    stream: Stream  # the stream that uses the block


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFreed:
    """A block went back to the caching allocator, which may hand it out again on the block's own stream."""

    thread: int  # the host thread
    address: int  # the first byte of the block
    where: Hashable = None  # the stack, in the form of its source


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureBegun:
    """A capture began on a stream. Streams that wait for events of the capture join it, until the capture ends."""

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
    where: Hashable = None  # the stack of the replay, in the form of its source


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
    """A stream does not exist any more. The stream's remaining work still runs; a new stream can get its handle."""

    stream: Stream  # the stream


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphDestroyed:
    """A graph does not exist any more."""

    graph: int  # the number of the graph


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadEnded:
    """A thread of the host has ended."""

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
