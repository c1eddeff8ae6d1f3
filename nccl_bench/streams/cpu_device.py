"""The CPU's streams as an implementation of ``Streams``."""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.autograd.profiler import profile

from nccl_bench.errors import InvalidArgumentError
from nccl_bench.records.environment import proc_fields
from nccl_bench.streams import cpu
from nccl_bench.streams.base import Graph, Streams
from nccl_bench.streams.cpu import Event, Stream


class CpuStreams(Streams):
    """The streams of the CPU, which is one device with index 0. The default stream runs work inline."""

    follows = False
    new_stream = staticmethod(Stream)
    current_stream = staticmethod(cpu.current_stream)
    default_stream = staticmethod(cpu.default_stream)
    stream = staticmethod(cpu.stream)
    from_handle = staticmethod(cpu.from_handle)
    synchronize = staticmethod(cpu.synchronize)

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.index = 0
        self.current_handle = lambda index: cpu.current_stream().handle

    def new_event(self, *, timing: bool = False) -> Event:
        return Event(enable_timing=timing)

    def handle(self, stream: Stream) -> int:
        return stream.handle

    def retain(self, handle: int, *tensors: object) -> None:
        """Keep ``tensors`` alive until all work that is now in the stream with this ``handle`` is done."""
        cpu.from_handle(handle).submit(_nothing, *tensors)

    def submit(self, fn: Callable[..., object], *args: object) -> None:
        cpu.current_stream().submit(fn, *args)

    def hold(self, seconds: float) -> None:
        """Keep the current stream busy for ``seconds``; raise ``InvalidArgumentError`` on the default stream."""
        stream = cpu.current_stream()
        if stream is cpu.default_stream():
            raise InvalidArgumentError(
                "the CPU's default stream runs work inline and cannot be kept busy: make another stream current"
            )
        stream.submit(time.sleep, seconds)

    def capture(self, body: Callable[[], None], stream: Stream | None = None) -> Graph:
        """Raise ``InvalidArgumentError``: the CPU has no CUDA graphs."""
        raise InvalidArgumentError(f"{body!r} cannot be captured on {stream or 'any stream'}: CPUs have no graphs")

    def memory(self) -> tuple[int, int]:
        """Return the available and the total bytes of the machine's memory (proc(5), ``/proc/meminfo``)."""
        fields = proc_fields(Path("/proc/meminfo"))
        if "MemAvailable" in fields and "MemTotal" in fields:
            return int(fields["MemAvailable"].split()[0]) * 1024, int(fields["MemTotal"].split()[0]) * 1024
        page = os.sysconf("SC_PAGE_SIZE")
        return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page

    def profiler(self) -> profile:
        # The work of a stream runs in a thread of its own, which a profiler sees since torch 2.7.
        from torch._C._profiler import _ExperimentalConfig

        config = _ExperimentalConfig(profile_all_threads=True) if torch.__version__ >= "2.7" else None
        return profile(use_kineto=True, record_shapes=True, experimental_config=config)

    def describe(self) -> dict[str, object]:
        """Return the name of the processor and the number of threads that torch uses in one operation."""
        name = proc_fields(Path("/proc/cpuinfo")).get("model name") or platform.processor()
        return {"type": "cpu", "name": name, "threads": torch.get_num_threads()}


def _nothing(*_kept_alive: object) -> None:
    """Do nothing: while this call is in the queue, its arguments stay alive."""
