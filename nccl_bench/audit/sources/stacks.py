"""Stacks of calls: captured cheaply, and read only for a race.

A capture keeps code objects and positions in them. Line numbers and names are computed when somebody reads them.
Frames of torch, ctypes, the standard library and the communicator are folded: the first frame that is not folded is the
line of the user's program.
"""

from __future__ import annotations

import functools
import itertools
import linecache
import os
import sys
import sysconfig
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

import torch

import nccl_bench

_Position = tuple[CodeType, int]  # a code object, and the index of the instruction that it was at

_OWN_FOLDER = f"{Path(__file__).parent}{os.sep}"
_MOST_FRAMES = 100  # a deeper stack loses its outermost frames
# Parts of the paths of engines' communicators and coordinators, such as those of SGLang and vLLM.
_COMMUNICATOR_PATHS = ("/distributed/device_communicators/", "/distributed/parallel_state.py", "/communication_op.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One call of a stack."""

    path: str  # the file of the calling code
    line: int  # the line of the call
    function: str  # the qualified name of the calling function
    is_folded: bool  # True if the frame belongs to torch, ctypes, the standard library, nccl-bench or a communicator

    @property
    def source(self) -> str:
        """Return the text of the line; an empty string if the file cannot be read."""
        return linecache.getline(self.path, self.line).strip()


class Stack:
    """The calls that led to an action, the innermost first. Two stacks are equal if every call is the same."""

    __slots__ = ("_hash", "_positions")

    def __init__(self, positions: Sequence[_Position]) -> None:
        self._positions = tuple(positions)
        self._hash: int | None = None

    # A code object computes its hash and compares itself from all its constants, which is slow. Identity is enough.
    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(tuple((id(code), position) for code, position in self._positions))
        return self._hash

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Stack)
            and len(self._positions) == len(other._positions)
            and all(
                code is other_code and position == other_position
                for (code, position), (other_code, other_position) in zip(
                    self._positions, other._positions, strict=True
                )
            )
        )

    def __repr__(self) -> str:
        frame = self.user_frame
        return "Stack()" if frame is None else f"Stack({frame.path}:{frame.line})"

    def __add__(self, outer: Stack) -> Stack:
        """Return this stack with the calls of ``outer`` around it."""
        return Stack(self._positions + outer._positions)

    @property
    def frames(self) -> tuple[Frame, ...]:
        """Return all frames, the innermost first."""
        own = sum(1 for _ in itertools.takewhile(lambda each: _watches(each[0]), self._positions))
        caller = _communicator_class(self._positions[:own], self._positions[own:])
        frames = []
        for code, position in self._positions[own:]:
            is_own = caller is not None and (code.co_filename, _class_of(code)) == caller
            is_library = is_folded(code.co_filename)
            if not (is_own or is_library):
                caller = None  # the communicator's calls end where the program's begin
            frames.append(
                Frame(
                    path=code.co_filename,
                    line=_line(code, position),
                    function=code.co_qualname,
                    is_folded=is_own or is_library,
                )
            )
        return tuple(frames)

    @property
    def user_frame(self) -> Frame | None:
        """Return the innermost frame of the user's program; the innermost of all if all are folded; None if empty."""
        frames = self.frames
        return next((frame for frame in frames if not frame.is_folded), frames[0] if frames else None)


EMPTY = Stack(())


def capture() -> Stack:
    """Return the stack of the calling thread."""
    return Stack(_walk(sys._getframe(1)))


def capture_thread(thread: int) -> Stack:
    """Return the stack of another thread, for example of the one that waits while autograd's threads work for it."""
    return Stack(_walk(sys._current_frames().get(thread)))


def _walk(frame: FrameType | None) -> list[_Position]:
    positions: list[_Position] = []
    append = positions.append
    for _ in range(_MOST_FRAMES):
        if frame is None:
            break
        append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return positions


def _line(code: CodeType, position: int) -> int:
    for start, end, line in code.co_lines():
        if start <= position < end and line is not None:
            return line
    return code.co_firstlineno


def _class_of(code: CodeType) -> str:
    """Return the qualified name of the class that a method belongs to; an empty string for other functions."""
    return code.co_qualname.rpartition(".")[0].removesuffix(".<locals>")


def _watches(code: CodeType) -> bool:
    return code.co_filename.startswith(_OWN_FOLDER)


def _communicator_class(own: Sequence[_Position], others: Sequence[_Position]) -> tuple[str, str] | None:
    """Return the file and the class that called a function of NCCL; None if the stack is not of such a call.

    A communicator is a class whose methods call NCCL. Its frames say nothing about its caller. ``own`` are the frames
    of the audit, ``others`` those around them.
    """
    if not others or not any(Path(code.co_filename).name == "nccl_calls.py" for code, _ in own):
        return None
    caller = others[0][0]
    return (caller.co_filename, _class_of(caller)) if _is_method(caller) else None


def _is_method(code: CodeType) -> bool:
    return code.co_argcount > 0 and code.co_varnames[0] in ("self", "cls")


@functools.cache
def _library_folders() -> tuple[str, ...]:
    package = Path(nccl_bench.__file__).parent
    modules = [Path(torch.__file__).parent, package]
    for name in ("triton", "nccl"):
        module = sys.modules.get(name)
        modules += [Path(each) for each in getattr(module, "__path__", ())]
    return tuple(f"{os.path.normpath(each)}{os.sep}" for each in modules)


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


def current_thread_is_pythons() -> bool:
    """Return whether Python started the calling thread; C++ code starts others."""
    thread = threading._active.get(threading.get_ident())  # type: ignore[attr-defined]
    return thread is not None and not isinstance(thread, threading._DummyThread)
