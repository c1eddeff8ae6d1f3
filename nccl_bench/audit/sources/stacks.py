"""Stacks of calls: captured cheaply, and read only for a race.

torch captures a stack in C++, as code objects and positions in them. Lines and names are looked up only when they are
read. Frames of torch, ctypes, the standard library and the communicator are folded: the first frame that is not folded
is the line of the user's program.
"""

from __future__ import annotations

import ast
import functools
import itertools
import linecache
import os
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch._C._profiler import gather_traceback, symbolize_tracebacks

import nccl_bench
from nccl_bench.audit.sources.ranges import Touched

_Call = tuple[str, int, str]  # the file, the line and the function of a call

_OWN_FOLDER = f"{Path(__file__).parent}{os.sep}"
# Parts of the paths of engines' communicators and coordinators, such as those of SGLang and vLLM.
_COMMUNICATOR_PATHS = ("/distributed/device_communicators/", "/distributed/parallel_state.py", "/communication_op.py")
# The module through which all sources see NCCL. A stack with a frame of this module belongs to a call of NCCL.
_NCCL_MODULE = f"{_OWN_FOLDER}nccl_calls.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A call of a stack."""

    path: str  # the file of the calling code
    line: int  # the line of the call
    function: str  # the name of the calling function
    is_folded: bool  # True if the frame belongs to torch, ctypes, the standard library, nccl-bench or a communicator

    @property
    def source(self) -> str:
        """Return the text of the line; an empty string if the file cannot be read."""
        return linecache.getline(self.path, self.line).strip()


class Stack:
    """The calls that led to an action, the innermost first. Two stacks are equal if every call is the same."""

    __slots__ = ("_calls", "_captured", "_outer", "touched")

    def __init__(
        self, captured: Any = None, outer: Stack | None = None, calls: tuple[_Call, ...] | None = None
    ) -> None:
        """Keep torch's ``captured`` stack or, without one, ``calls``. ``outer`` is the stack around it."""
        self._captured = captured
        self._outer = outer
        self._calls = calls
        self.touched: Touched | None = None  # the bytes that a work uses, for a closer look at a race

    def __hash__(self) -> int:
        return hash(self.calls)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stack) and (self is other or self.calls == other.calls)

    def __repr__(self) -> str:
        frame = self.user_frame
        return "Stack()" if frame is None else f"Stack({frame.path}:{frame.line})"

    @property
    def calls(self) -> tuple[_Call, ...]:
        """Return file, line and function of all calls, also of the audit's own."""
        if self._calls is None:
            with _without_import_of_inductor():
                (frames,) = symbolize_tracebacks([self._captured])
            self._calls = tuple((frame["filename"], int(frame["line"]), frame["name"]) for frame in frames)
            self._captured = None
        return self._calls if self._outer is None else self._calls + self._outer.calls

    @property
    def frames(self) -> tuple[Frame, ...]:
        """Return all frames except the audit's own frames, the innermost first."""
        own = list(itertools.takewhile(lambda call: call[0].startswith(_OWN_FOLDER), self.calls))
        around = self.calls[len(own) :]
        communicator = None
        if around and any(path == _NCCL_MODULE for path, _, _ in own):
            communicator = _communicator_class(around[0])
        frames = []
        for path, line, function in around:
            is_communicator = communicator is not None and (path, enclosing_class(path, line)) == communicator
            is_library = is_folded(path)
            if not (is_communicator or is_library):
                communicator = None  # the communicator's calls end where the program's begin
            frames.append(Frame(path=path, line=line, function=function, is_folded=is_communicator or is_library))
        return tuple(frames)

    @property
    def user_frame(self) -> Frame | None:
        """Return the innermost frame of the user's program; the innermost of all if all are folded; None if empty."""
        frames = self.frames
        return next((frame for frame in frames if not frame.is_folded), frames[0] if frames else None)


def capture(outer: Stack | None = None) -> Stack:
    """Return the stack of the calling thread, and ``outer`` around it."""
    return Stack(gather_traceback(True, False, False), outer)  # the stack of Python, not of TorchScript and C++


@contextmanager
def _without_import_of_inductor() -> Iterator[None]:
    """Prevent torch's import of ``torch._inductor``, which takes seconds and serves only generated code."""
    if "_inductor" in vars(torch):
        yield
        return
    empty = SimpleNamespace()
    vars(torch)["_inductor"] = empty
    try:
        yield
    finally:
        if vars(torch).get("_inductor") is empty:  # otherwise another thread has imported it meanwhile
            del vars(torch)["_inductor"]


def capture_thread(thread: int) -> Stack:
    """Return the stack of another thread, for example of a thread that waits for autograd's threads."""
    calls = traceback.walk_stack(sys._current_frames().get(thread))
    return Stack(calls=tuple((frame.f_code.co_filename, line, frame.f_code.co_name) for frame, line in calls))


def current_thread_is_pythons() -> bool:
    """Return whether Python started the calling thread. C++ code also starts threads."""
    thread = threading._active.get(threading.get_ident())  # type: ignore[attr-defined]
    return thread is not None and not isinstance(thread, threading._DummyThread)


def _communicator_class(caller: _Call) -> tuple[str, str] | None:
    """Return the file and the class whose method called a function of NCCL; None if a plain function did.

    A communicator is a class whose methods call NCCL. Its frames say nothing about its caller.
    """
    path, line, _ = caller
    name = enclosing_class(path, line)
    return (path, name) if name else None


def enclosing_class(path: str, line: int) -> str:
    """Return the name of the innermost class around a line of a file; an empty string if there is none."""
    around = [name for start, end, name in _classes(path) if start <= line <= end]
    return around[-1] if around else ""


@functools.cache
def _classes(path: str) -> tuple[tuple[int, int, str], ...]:
    """Return first line, last line and name of each class of a file, outer classes first."""
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except (SyntaxError, ValueError):
        return ()
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return tuple(sorted((node.lineno, node.end_lineno or node.lineno, node.name) for node in classes))


@functools.cache
def _library_folders() -> tuple[str, ...]:
    folders = [Path(torch.__file__).parent, Path(nccl_bench.__file__).parent]
    for name in ("triton", "nccl"):
        folders += [Path(each) for each in getattr(sys.modules.get(name), "__path__", ())]
    return tuple(f"{os.path.normpath(each)}{os.sep}" for each in folders)


@functools.cache
def is_folded(path: str) -> bool:
    """Return whether the frames of a file say nothing about the user's program."""
    if path.startswith("<frozen"):
        return True
    standard = sysconfig.get_path("stdlib") + os.sep
    packages = tuple(sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib"))
    if path.startswith(standard) and not path.startswith(packages):
        return True
    return path.startswith(_library_folders()) or any(part in path for part in _COMMUNICATOR_PATHS)
