"""The device that is watched: which tensors live on it, and on which stream its work runs now."""

from __future__ import annotations

import ctypes
import threading
from typing import Any, Protocol

import torch
from torch import Tensor

from nccl_bench.audit.order.places import Stream, StreamKind
from nccl_bench.streams import cpu

CPU_DEVICE = -1  # the number of the CPU in `Stream.device`
HOST = Stream(device=CPU_DEVICE, handle=0, kind=StreamKind.INLINE)  # work that the host does itself
_LEGACY, _PER_THREAD = 1, 2  # cudaStreamLegacy and cudaStreamPerThread in cuda_runtime_api.h
_NON_BLOCKING_FLAG = 1  # CU_STREAM_NON_BLOCKING in cuda.h
_NOT_CAPTURING = 0  # CU_STREAM_CAPTURE_STATUS_NONE in cuda.h
_RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED in cuda.h


class DeviceModel(Protocol):
    """The kind of device whose streams are watched."""

    has_callbacks: bool  # True if torch reports events, synchronisations and memory itself

    def holds(self, tensor: Tensor) -> bool:
        """Return whether the memory of ``tensor`` is on the device."""

    def current_stream(self, tensor: Tensor | None = None) -> Stream:
        """Return the current stream of the calling thread, on the device of ``tensor`` or the current device."""

    def stream(self, handle: int) -> Stream:
        """Return the stream with a raw handle."""

    def synchronize(self) -> None:
        """Block the host until all streams are empty."""


class CpuModel(DeviceModel):
    """The CPU with the streams of ``streams.cpu``."""

    has_callbacks = False

    def holds(self, tensor: Tensor) -> bool:
        return tensor.device.type == "cpu"

    def current_stream(self, tensor: Tensor | None = None) -> Stream:
        # torch does not know these streams. Its operators run in the caller's thread, except in a queued function.
        current = cpu.current_stream()
        return self.stream(current.handle if current.is_running_here() else 0)

    def stream(self, handle: int) -> Stream:
        return Stream(device=CPU_DEVICE, handle=handle) if handle else HOST

    def synchronize(self) -> None:
        cpu.drain()


class CudaModel(DeviceModel):
    """The CUDA devices of this process, with the driver's streams."""

    has_callbacks = True

    def __init__(self) -> None:
        self._current_handle = torch._C._cuda_getCurrentRawStream
        self._streams: dict[tuple[int, int], Stream] = {}
        self._devices: dict[int, int] = {}
        self._driver: ctypes.CDLL | None = None
        if torch.version.cuda is not None:  # ROCm has another driver
            self._driver = ctypes.CDLL("libcuda.so.1")

    def holds(self, tensor: Tensor) -> bool:
        return tensor.is_cuda

    def current_stream(self, tensor: Tensor | None = None) -> Stream:
        device = torch._C._cuda_getDevice() if tensor is None else tensor.get_device()
        return self._stream(device, self._current_handle(device))

    def stream(self, handle: int) -> Stream:
        """Return the stream with a raw handle. Only default streams have the same handle on all devices."""
        device = torch._C._cuda_getDevice() if handle <= _PER_THREAD else self._devices.get(handle)
        return self._stream(torch._C._cuda_getDevice() if device is None else device, handle)

    def synchronize(self) -> None:
        for device in {stream.device for stream in self._streams.values()}:
            torch.cuda.synchronize(device)

    def _stream(self, device: int, handle: int) -> Stream:
        if handle == _LEGACY:
            handle = 0
        if handle == _PER_THREAD:
            # Each thread has its own stream of this kind, on each device.
            return Stream(device=device, handle=-threading.get_ident(), kind=StreamKind.BLOCKING)
        stream = self._streams.get((device, handle))
        if stream is None:
            kind = StreamKind.LEGACY_DEFAULT if handle == 0 else self._kind(handle)
            stream = self._streams[device, handle] = Stream(device=device, handle=handle, kind=kind)
            self._devices.setdefault(handle, device)
        return stream

    def _kind(self, handle: int) -> StreamKind:
        # All streams of ROCm count as streams of torch's pool.
        return StreamKind.NON_BLOCKING if self._driver is None else ask_kind(self._driver, handle)


def ask_kind(driver: Any, handle: int) -> StreamKind:
    """Ask ``driver``, CUDA's libcuda, for the kind of a stream with a handle of its own.

    A stream under capture counts as a stream of torch's pool, because the question would break its capture.
    """
    status = ctypes.c_int()
    driver.cuStreamIsCapturing(ctypes.c_void_p(handle), ctypes.byref(status))
    if status.value != _NOT_CAPTURING:
        return StreamKind.NON_BLOCKING
    flags = ctypes.c_uint(_NON_BLOCKING_FLAG)
    # The question would also break a capture of another stream by this thread, except in the relaxed mode.
    mode = ctypes.c_int(_RELAXED)
    driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))
    try:
        driver.cuStreamGetFlags(ctypes.c_void_p(handle), ctypes.byref(flags))
    finally:
        driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))
    return StreamKind.NON_BLOCKING if flags.value & _NON_BLOCKING_FLAG else StreamKind.BLOCKING


def find_model() -> DeviceModel:
    """Return the model of the GPUs if torch sees one, otherwise that of the CPU."""
    return CudaModel() if torch.cuda.is_available() else CpuModel()
