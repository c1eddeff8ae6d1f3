"""The content of one file about one rank: the messages that it sent, and kernels whose sizes the file does not have."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, get_args

from nccl_bench.catalog.bounds import AtLeastOne, Bounds, Size
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.errors import RecordError
from nccl_bench.records.kernels import Kernel
from nccl_bench.safety.secrets import without_credentials

# How the log of NCCL writes the legacy default stream.
DEFAULT_STREAM = "(nil)"
# The allowed sizes and numbers of ranks of a message. A workload has the same limits.
_SIZES: Bounds = get_args(Size)[1]
_RANKS: Bounds = get_args(AtLeastOne)[1]


class Mode(StrEnum):
    """The way in which a call was made: eagerly or in a CUDA graph."""

    EAGER = "eager"  # the program made the call itself
    GRAPH = "graph"  # a CUDA graph repeated a captured call
    UNKNOWN = "unknown"  # the file does not say how the call was made


class Message(NamedTuple):
    """The message that one rank sends and receives in one call."""

    collective: str  # a name of the catalog; or scatter, send, recv or barrier
    dtype: str | None  # the name in torch; None if the file does not have it
    size_bytes: int  # as nccl-tests counts it: the larger of what one rank sends and receives
    sent_bytes: int  # what one rank sends
    ranks: int | None  # the number of ranks in the group; None if the file does not have it
    uneven: bool = False  # True if the blocks of the ranks differ


class Call(NamedTuple):
    """A kind of call in a recording."""

    message: Message  # what is sent
    mode: Mode  # how the call is made
    stream: str  # the stream as the file names it; empty if the file does not have it


class Launch(NamedTuple):
    """Kernels of NCCL without sizes, which one launch of a graph or the program itself started."""

    mode: Mode  # how they were started
    collectives: tuple[str, ...]  # the collective of each kernel, in order
    channels: tuple[int | None, ...]  # the channels that each kernel used; None if the file does not have them
    streams: tuple[str, ...]  # the streams that they ran on


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The content of one file about one rank."""

    source: str  # the name of the format in the table of readers
    file: str  # the name of the file; its path if another file has the same name
    rank: int | None = None  # the rank; None if the file does not have it
    process: int | None = None  # the identifier of the rank's process; None if the file does not have it
    calls: Counter[Call] = field(default_factory=Counter)  # calls with sizes, and how often each was made
    launches: Counter[Launch] = field(default_factory=Counter)  # launches without sizes, and how often each was made
    # (communicator, stream) -> the messages in the order of their calls; empty if the file has no such order.
    sequences: Mapping[tuple[str, str], Sequence[Message]] = field(default_factory=dict)
    kernels: Mapping[Message, Set[Kernel]] = field(default_factory=dict)  # the kernels of a message, if recorded
    remarks: tuple[str, ...] = ()  # sentences about what this file lacks


def message_of_blocks(
    collective: str, block_count: int, itemsize: int, ranks: int | None, dtype: str | None
) -> Message | None:
    """Return the message of a call of NCCL with ``block_count`` elements in each block.

    The result is ``None`` if the number of ranks is needed and absent.
    """
    row = COLLECTIVES.get(collective)
    if row is None or not row.has_blocks:
        size = sent = block_count * itemsize
    elif not ranks:
        return None
    else:
        size = row.size_bytes(block_count, itemsize, ranks)
        sent = row.send_count(block_count, ranks) * itemsize
    return _bounded(Message(collective, dtype, size, sent, ranks))


def message_of_tensors(
    collective: str, in_bytes: int, out_bytes: int, ranks: int | None, dtype: str | None, uneven: bool = False
) -> Message:
    """Return the message of a call of torch.distributed with input and output of these sizes."""
    row = COLLECTIVES.get(collective)
    received = out_bytes
    if row is not None and row.receives_all_blocks and not row.sends_all_blocks and not out_bytes:
        # Only the root has the output of a gather.
        received = in_bytes * (ranks or 1)
    return _bounded(Message(collective, dtype, max(in_bytes, received), in_bytes, ranks, uneven))


def left_out(unknown: Counter[str]) -> tuple[str, ...]:
    """Return a sentence for each name of an unknown collective, with the number of its calls."""
    return tuple(
        f"{count} calls of {without_credentials(name)[:60]!r} are left out: no collective or data type has this name"
        for name, count in unknown.most_common(10)
    )


def _bounded(message: Message) -> Message:
    """Return ``message`` with ``None`` for 0 ranks; raise ``RecordError`` for a number that is out of range."""
    if not _SIZES.contain(max(message.size_bytes, message.sent_bytes)):
        raise RecordError(f"it has a message of {message.collective} with a wrong size in bytes: {_SIZES.text}")
    if message.ranks and not _RANKS.contain(message.ranks):
        raise RecordError(f"it has a message of {message.collective} with a wrong number of ranks: {_RANKS.text}")
    return message._replace(ranks=message.ranks or None)
