"""Communicators with one defect each, which a probe of the verification must catch."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.devices import DEVICES
from nccl_bench.communicators.coordinator import GroupCoordinator
from nccl_bench.communicators.protocol import Communicator
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.transports.device import Device

SKIP_EVERY = 150
# The size of the verification's small messages.
SMALL_BYTES = 1024
_LEAKED: list[Any] = []


class _OnPrivateStream(StreamFreeCommunicator):
    """Runs on a private stream; ``forks`` and ``joins`` say whether it waits for the caller's stream and is awaited."""

    forks = False
    joins = False

    def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
        super().__init__(group, device)
        self._private = device.streams.new_stream()
        self._current_handle = lambda: device.streams.handle(self._private)  # type: ignore[assignment]

    @contextmanager
    def _ordered(self) -> Iterator[None]:
        caller = self._streams.current_stream()
        if self.forks:
            self._private.wait_stream(caller)
        yield
        if self.joins:
            caller.wait_stream(self._private)

    def all_reduce(self, *arguments: Any) -> None:
        with self._ordered():
            super().all_reduce(*arguments)

    def outplace_all_reduce(self, *arguments: Any) -> Tensor:
        with self._ordered():
            return super().outplace_all_reduce(*arguments)

    def all_gather(self, *arguments: Any) -> None:
        with self._ordered():
            super().all_gather(*arguments)

    def reduce_scatter(self, *arguments: Any, **keywords: Any) -> None:
        with self._ordered():
            super().reduce_scatter(*arguments, **keywords)


class ForgetsTheFork(_OnPrivateStream):
    joins = True


class ForgetsTheJoin(_OnPrivateStream):
    forks = True


class ForgetsTheJoinOnceInAHundredCalls(_OnPrivateStream):
    forks = True
    calls = 0

    @property
    def joins(self) -> bool:  # type: ignore[override]
        self.calls += 1
        return self.calls % 100 != 0


class ForgetsTheJoinSlowly(ForgetsTheJoin):
    """Keeps the host for longer than the shortest delay of a late rank, as a busy machine does."""

    @contextmanager
    def _ordered(self) -> Iterator[None]:
        with super()._ordered():
            yield
        time.sleep(1.5 * DEVICES["cpu"].probe_delay_s)


class ForgetsBoth(_OnPrivateStream):
    pass


class CachesTheStream(StreamFreeCommunicator):
    """Uses the stream that was current at its construction."""

    def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
        super().__init__(group, device)
        handle = self._current_handle()
        self._current_handle = lambda: handle  # type: ignore[assignment]


class UsesThePreviousStream(StreamFreeCommunicator):
    """Uses the stream that was current at the previous call."""

    def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
        super().__init__(group, device)
        self._previous = device.streams.current_stream()
        self._current_handle = self._handle_before  # type: ignore[assignment]

    def _handle_before(self) -> int:
        before, self._previous = self._previous, self._streams.current_stream()
        return self._streams.handle(before)


class LeavesItsStateOpen(StreamFreeCommunicator):
    @contextmanager
    def change_state(self, enable: bool | None = None) -> Iterator[None]:
        before, self.disabled = self.disabled, enable is False
        yield
        self.disabled = before


class DropsTheSizes(StreamFreeCommunicator):
    """Treats every rank's block as if it were as long as the shortest."""

    def all_gather(self, output: Tensor, input: Tensor, sizes: Sequence[int] | None = None) -> None:
        rows = min(sizes or input.shape)
        super().all_gather(output[: rows * self.world_size], input[:rows])

    def reduce_scatter(
        self, output: Tensor, input: Tensor, op: Any = "sum", sizes: Sequence[int] | None = None
    ) -> None:
        rows = min(sizes or output.shape)
        super().reduce_scatter(output[:rows], input[: rows * self.world_size], op)


class KeepsItsWarmUpStream(StreamFreeCommunicator):
    def _warm_up(self, stream: Any) -> None:
        super()._warm_up(stream)
        self._warmed_up_on = stream


class LeavesAThreadAndAFile(StreamFreeCommunicator):
    def close(self) -> None:
        super().close()
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        _LEAKED.append(open(os.devnull, "rb"))  # noqa: SIM115


class OpensAFileOnce(StreamFreeCommunicator):
    """Opens a file once, on one rank, when the second communicator closes. That is not a leak."""

    ended = 0

    def close(self) -> None:
        super().close()
        OpensAFileOnce.ended += 1
        if OpensAFileOnce.ended == 2 and dist.get_rank() == 1:
            _LEAKED.append(open(os.devnull, "rb"))  # noqa: SIM115


class WritesWhenDisabled(StreamFreeCommunicator):
    def all_gather(self, output: Tensor, input: Tensor, sizes: Sequence[int] | None = None) -> None:
        if self.disabled:
            self._streams.submit(output.zero_)
        super().all_gather(output, input, sizes)


class SilentWhenDisabled(StreamFreeCommunicator):
    """Does nothing and raises nothing when it is disabled, as communicators of engines did."""

    def all_reduce(self, *arguments: Any) -> None:
        if not self.disabled:
            super().all_reduce(*arguments)


class GathersOnTheCallersStream(StreamFreeCommunicator):
    def cp_all_gather_into_tensor(self, output: Tensor, input: Tensor, stream: Any, sizes: Any = None) -> None:
        self.all_gather(output, input, sizes)
        stream.wait_stream(self._streams.current_stream())


class BlocksTheCallerOnceInAWhile(StreamFreeCommunicator):
    """Blocks the caller's stream for small messages on rank 0 only."""

    def cp_all_gather_into_tensor(self, output: Tensor, input: Tensor, stream: Any, sizes: Any = None) -> None:
        super().cp_all_gather_into_tensor(output, input, stream, sizes)
        if self.rank == 0 and output.nbytes <= SMALL_BYTES:
            self._streams.current_stream().wait_stream(stream)


class GathersUnforked(StreamFreeCommunicator):
    """Gathers on a private stream that does not wait for the given stream."""

    def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
        super().__init__(group, device)
        self._private = device.streams.new_stream()

    def cp_all_gather_into_tensor(self, output: Tensor, input: Tensor, stream: Any, sizes: Any = None) -> None:
        super().cp_all_gather_into_tensor(output, input, self._private, sizes)
        stream.wait_stream(self._private)


class GathersUnjoined(StreamFreeCommunicator):
    """Gathers on a private stream that no other stream waits for."""

    def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
        super().__init__(group, device)
        self._private = device.streams.new_stream()

    def cp_all_gather_into_tensor(self, output: Tensor, input: Tensor, stream: Any, sizes: Any = None) -> None:
        self._private.wait_stream(stream)
        super().cp_all_gather_into_tensor(output, input, self._private, sizes)


class SkipsOperations(StreamFreeCommunicator):
    """Skips every 500th operation, on all ranks."""

    def __init__(self, group: dist.ProcessGroup, device: Device) -> None:
        super().__init__(group, device)
        self._operations = 0

    def _skips(self) -> bool:
        self._operations += 1
        return self._operations % SKIP_EVERY == 0 and not self.disabled

    def all_reduce(self, *arguments: Any) -> None:
        if not self._skips():
            super().all_reduce(*arguments)

    def outplace_all_reduce(self, input: Tensor, out: Tensor | None = None, op: Any = "sum") -> Tensor:
        return super().outplace_all_reduce(input, out, op) if out is None or not self._skips() else out

    def all_gather(self, *arguments: Any) -> None:
        if not self._skips():
            super().all_gather(*arguments)

    def reduce_scatter(self, *arguments: Any, **keywords: Any) -> None:
        if not self._skips():
            super().reduce_scatter(*arguments, **keywords)


class StaysOnAfterACapture(GroupCoordinator):
    @contextmanager
    def graph_capture(self) -> Iterator[Any]:
        try:
            with super().graph_capture() as stream:
                yield stream
        except BaseException:
            self.communicator.disabled = False
            raise


class CapturesUnordered(GroupCoordinator):
    """Its capture stream and the caller's stream do not wait for each other."""

    @contextmanager
    def graph_capture(self) -> Iterator[Any]:
        with self._streams.stream(self._capture_stream), super().graph_capture() as stream:
            yield stream


class RoutesToTorch(GroupCoordinator):
    def _carrier(self, operation: str) -> Any:
        return self.device_group


class Hangs(StreamFreeCommunicator):
    """The last rank skips the gather that only the probe ``async`` calls, so that the other ranks wait forever."""

    def cp_all_gather_into_tensor(self, output: Tensor, input: Tensor, stream: Any, sizes: Any = None) -> None:
        if self.rank < self.world_size - 1:
            super().cp_all_gather_into_tensor(output, input, stream, sizes)


class IsKilledAtItsEnd(StreamFreeCommunicator):
    def close(self) -> None:
        if self.rank == self.world_size - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        super().close()


DEFECTS: Mapping[str, Callable[[dist.ProcessGroup, Device], Communicator]] = {
    "forgets-the-fork": ForgetsTheFork,
    "forgets-the-join": ForgetsTheJoin,
    "forgets-the-join-slowly": ForgetsTheJoinSlowly,
    "forgets-the-join-once-in-a-hundred-calls": ForgetsTheJoinOnceInAHundredCalls,
    "forgets-both": ForgetsBoth,
    "caches-the-stream": CachesTheStream,
    "uses-the-previous-stream": UsesThePreviousStream,
    "leaves-its-state-open": LeavesItsStateOpen,
    "drops-the-sizes": DropsTheSizes,
    "keeps-its-warm-up-stream": KeepsItsWarmUpStream,
    "leaves-a-thread-and-a-file": LeavesAThreadAndAFile,
    "opens-a-file-once": OpensAFileOnce,
    "writes-when-disabled": WritesWhenDisabled,
    "silent-when-disabled": SilentWhenDisabled,
    "gathers-on-the-callers-stream": GathersOnTheCallersStream,
    "blocks-the-caller-once-in-a-while": BlocksTheCallerOnceInAWhile,
    "gathers-unforked": GathersUnforked,
    "gathers-unjoined": GathersUnjoined,
    "skips-operations": SkipsOperations,
    "stays-on-after-a-capture": StaysOnAfterACapture,
    "captures-unordered": CapturesUnordered,
    "routes-to-torch": RoutesToTorch,
    "hangs": Hangs,
    "is-killed-at-its-end": IsKilledAtItsEnd,
}
