"""A user's object in the contexts of its engine: captures of graphs, and windows."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist
from torch import Tensor

from nccl_bench.errors import SetupError
from nccl_bench.streams import cpu
from nccl_bench.transports.device import open_device
from nccl_bench.user_arms.communicator import UserCommunicator
from nccl_bench.user_arms.contexts import graph_capture, window_registration
from tests.support.stream_control import PlantedError

STREAM = cpu.Stream()


class Custom:
    """A custom all-reduce: in the context it knows that a graph is captured, then it registers the graph's buffers."""

    def __init__(self) -> None:
        self.events: list[str] = []

    @contextmanager
    def capture(self) -> Iterator[None]:
        self.events.append("begin")
        yield
        self.register_graph_buffers()

    def register_graph_buffers(self) -> None:
        self.events.append("register")


class Switched(Custom):
    """A single communicator, whose context switches it on."""

    def graph_capture_context(self) -> AbstractContextManager[None]:
        return self.change_state(enable=True)

    @contextmanager
    def change_state(self, enable: bool) -> Iterator[None]:
        self.events.append(f"enable={enable}")
        yield
        self.events.append("restored")


class Coordinator(Switched):
    """A group coordinator, whose context makes the capture stream current and yields it in an object."""

    graph_capture_context = None  # type: ignore[assignment]

    @contextmanager
    def graph_capture(self, stream: cpu.Stream | None = None) -> Iterator[SimpleNamespace]:
        with cpu.stream(stream or STREAM), self.capture():
            yield SimpleNamespace(stream=stream or STREAM)


class SeveralBackends(Switched):
    """A communicator whose backends have a context each."""

    def graph_capture_context(self) -> Any:
        return [self.capture(), self.change_state(enable=True), nullcontext(STREAM)]


class NeedsNothing(Switched):
    def graph_capture_context(self) -> Any:
        return None


class OnlyRegisters(Custom):
    capture = None  # type: ignore[assignment]


class OtherCapture(Custom):
    """An object whose method has a name of an engine's and means something else."""

    def capture(self, body: Callable[[], None]) -> Any:
        raise PlantedError


@pytest.mark.parametrize(
    ("kind", "stream", "events"),
    [
        (Custom, None, ["begin", "body", "register"]),
        (Switched, None, ["enable=True", "body", "restored"]),
        (Coordinator, STREAM, ["begin", "body", "register"]),
        (SeveralBackends, STREAM, ["begin", "enable=True", "body", "restored", "register"]),
        (NeedsNothing, None, ["body"]),
        (OnlyRegisters, None, ["body", "register"]),
        (OtherCapture, None, ["body", "register"]),
    ],
)
def test_a_graph_is_captured_within_the_contexts_of_the_object(
    kind: type[Custom], stream: cpu.Stream | None, events: list[str]
) -> None:
    made = kind()
    before = cpu.current_stream()
    with graph_capture(made) as given:
        made.events.append("body")
        assert given is stream
        assert cpu.current_stream() is (STREAM if kind is Coordinator else before)
    assert made.events == events
    assert cpu.current_stream() is before


def test_a_method_that_returns_no_context_is_refused() -> None:
    made = SimpleNamespace(capture=lambda: 3)
    says = r"\(\) returned a int: return a context manager, a list of .*, or None"
    with pytest.raises(SetupError, match=says), graph_capture(made):
        pytest.fail("the body ran")


@pytest.mark.parametrize("handle", [ctypes.c_void_p(64), 64, ctypes.c_void_p(), 0, None])
def test_memory_is_registered_as_a_window_and_a_null_handle_is_none(handle: Any) -> None:
    given: list[object] = []
    made = SimpleNamespace(
        register_comm_window_raw=lambda ptr, size: given.append((ptr, size)) or handle,
        deregister_comm_window=given.append,
    )
    functions = window_registration(made)
    assert functions is not None
    register, deregister = functions
    assert register(4096, 512) is (handle if getattr(handle, "value", handle) else None)
    deregister(handle)
    assert given == [(4096, 512), handle]
    assert window_registration(Custom()) is None


class PyNccl(Custom):
    """A custom all-reduce with windows."""

    def all_reduce(self, tensor: Tensor) -> None: ...

    def register_comm_window_raw(self, ptr: int, size: int) -> int:
        return ptr + size

    def deregister_comm_window(self, window: int) -> None: ...


def test_an_arm_captures_and_registers_as_its_object_does(one_rank: dist.ProcessGroup) -> None:
    made = PyNccl()
    adapted = UserCommunicator(lambda group, device: made, one_rank, open_device("cpu", 0))
    with adapted.graph_capture():
        assert made.events == ["begin"]
    assert made.events == ["begin", "register"]
    windows = adapted.registration(window=True)
    assert windows is not None
    assert windows[0](4096, 512) == 4608
    assert adapted.registration(window=False) is None
    adapted.close()
