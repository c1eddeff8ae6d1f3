"""Streams, on which work runs, and ranges of bytes, which the work uses."""

from dataclasses import dataclass, field
from enum import StrEnum


class StreamKind(StrEnum):
    """The ways in which a stream is ordered with other streams of its device, without any event."""

    NON_BLOCKING = "non-blocking"  # ordered with no other stream; the streams of torch's pool are of this kind
    # Ordered with the legacy default stream: a stream that cudaStreamCreate made, or a per-thread default stream.
    BLOCKING = "blocking"
    LEGACY_DEFAULT = "legacy default"  # ordered with all blocking streams; torch's default stream, handle 0
    INLINE = "inline"  # the host runs the work itself, before the launch returns; the default stream of the CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A stream of a device. Two records with the same device and handle are the same stream."""

    device: int  # the number of the device; -1 for the CPU
    handle: int  # the raw handle; for a per-thread default stream, a number that differs between threads
    kind: StreamKind = field(default=StreamKind.NON_BLOCKING, compare=False)  # how the stream is ordered with others

    @property
    def is_default(self) -> bool:
        """True if this is the legacy default stream of a GPU, or the default stream of the CPU."""
        return self.kind in (StreamKind.LEGACY_DEFAULT, StreamKind.INLINE)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ByteRange:
    """Neighbouring bytes of memory. The host and the devices never share an address, as in CUDA."""

    address: int  # the address of the first byte
    length: int  # the number of bytes; a range of 0 bytes conflicts with nothing

    @property
    def end(self) -> int:
        """Return the address after the last byte."""
        return self.address + self.length
