"""The CPU's streams behind the ``Streams`` protocol."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from nccl_bench.errors import InvalidArgumentError
from nccl_bench.streams import cpu
from nccl_bench.streams.base import Graph
from nccl_bench.streams.cpu import Event, Stream


class CpuStreams:
    """The CPU behind the ``Streams`` protocol: one device, of index 0, whose default stream runs inline."""

    follows: bool = False
    device: torch.device
    index: int
    current_handle: Callable[[int], int]

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.index = 0
        self.current_handle = lambda index: cpu.current_stream(index).handle

    def new_stream(self) -> Stream:
        """A new stream, ordered after nothing."""
        return Stream()

    def spare_streams(self) -> Sequence[Stream]:
        """None: all are alike."""
        return ()

    def new_event(self, *, timing: bool = False) -> Event:
        """A new event."""
        return Event(enable_timing=timing)

    def current_stream(self) -> Stream:
        """The calling thread's current stream."""
        return cpu.current_stream()

    def default_stream(self) -> Stream:
        """The stream that runs inline."""
        return cpu.default_stream()

    stream = staticmethod(cpu.stream)

    def handle(self, stream: Stream) -> int:
        """The handle of ``stream``."""
        return stream.handle

    def from_handle(self, handle: int) -> Stream:
        """The live stream with this handle; raises ``InvalidArgumentError`` if there is none."""
        return cpu.from_handle(handle)

    def retain(self, handle: int, *tensors: object) -> None:
        """Keep ``tensors`` alive until the work that is now in the stream of ``handle`` is done."""
        cpu.from_handle(handle).submit(_nothing, *tensors)

    def submit(self, fn: Callable[..., object], *args: object) -> None:
        """Run ``fn(*args)`` in the order of the current stream; what it refers to lives until then."""
        cpu.current_stream().submit(fn, *args)

    def hold(self, seconds: float) -> None:
        """Keep the current stream busy for ``seconds``; raises ``InvalidArgumentError`` on the default stream."""
        stream = cpu.current_stream()
        if stream is cpu.default_stream():
            raise InvalidArgumentError(
                "the CPU's default stream runs inline, nothing can be held back on it: use another"
            )
        stream.submit(time.sleep, seconds)

    def capture(self, body: Callable[[], None], stream: Stream | None = None) -> Graph:
        """Raises ``InvalidArgumentError``: the CPU has no graphs."""
        raise InvalidArgumentError(f"{body!r} cannot be captured on {stream or 'any stream'}: the CPU has no graphs")

    def synchronize(self) -> None:
        """Block the host until every stream is empty; raises what their work raised."""
        cpu.synchronize()

    def memory(self) -> tuple[int, int]:
        """Available and total bytes of the machine's memory (proc(5), ``/proc/meminfo``)."""
        fields = _proc_fields(Path("/proc/meminfo"))
        if "MemAvailable" in fields and "MemTotal" in fields:
            return int(fields["MemAvailable"].split()[0]) * 1024, int(fields["MemTotal"].split()[0]) * 1024
        page = os.sysconf("SC_PAGE_SIZE")
        return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page

    def describe(self) -> dict[str, object]:
        """The processor's name and how many threads torch uses in one operation."""
        name = _proc_fields(Path("/proc/cpuinfo")).get("model name") or platform.processor()
        return {"type": "cpu", "name": name, "threads": torch.get_num_threads()}


def _nothing(*_kept_alive: object) -> None:
    """What ``retain`` queues: its arguments are the point."""


def _proc_fields(path: Path) -> dict[str, str]:
    """The ``key: value`` lines of a file under /proc; empty on systems without it."""
    if not path.exists():
        return {}
    pairs = (line.partition(":") for line in path.read_text().splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
