"""The kind of a CUDA stream, asked of a driver that ends captures as CUDA's does."""

# The methods have the names of libcuda.
# ruff: noqa: N802

import ctypes
from dataclasses import dataclass, field
from typing import Any

import pytest

from nccl_bench.audit.order.places import StreamKind
from nccl_bench.audit.sources.model import ask_kind

BLOCKING, NON_BLOCKING = 0, 1
GLOBAL, RELAXED = 0, 2


@dataclass
class Driver:
    """A driver whose streams have the flags ``flags``. Some of them are under capture by the calling thread."""

    flags: dict[int, int]
    capturing: set[int] = field(default_factory=set)
    mode: int = GLOBAL

    def cuStreamIsCapturing(self, stream: ctypes.c_void_p, status: Any) -> int:
        status._obj.value = int(stream.value in self.capturing)
        return 0

    def cuThreadExchangeStreamCaptureMode(self, mode: Any) -> int:
        mode._obj.value, self.mode = self.mode, mode._obj.value
        return 0

    def cuStreamGetFlags(self, stream: ctypes.c_void_p, flags: Any) -> int:
        assert stream.value is not None
        assert stream.value not in self.capturing, "the question broke the capture of this stream"
        assert not self.capturing or self.mode == RELAXED, "the question broke the capture of another stream"
        flags._obj.value = self.flags[stream.value]
        return 0


@pytest.mark.parametrize(("flags", "kind"), [(NON_BLOCKING, StreamKind.NON_BLOCKING), (BLOCKING, StreamKind.BLOCKING)])
def test_the_flags_of_a_stream_give_its_kind_and_break_no_capture_of_another(flags: int, kind: StreamKind) -> None:
    driver = Driver({7: flags, 8: flags}, capturing={8})
    assert ask_kind(driver, 7) is kind
    assert driver.mode == GLOBAL


def test_a_stream_under_capture_is_not_asked_and_counts_as_one_of_torchs() -> None:
    assert ask_kind(Driver({8: BLOCKING}, capturing={8}), 8) is StreamKind.NON_BLOCKING
