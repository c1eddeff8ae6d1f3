"""Finds lines of the user's code: the innermost line of an error, and the line of a definition."""

import functools
import inspect
import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_NCCL_BENCH = Path(__file__).parents[1]
_STDLIB = Path(os.__file__).parent
_INSTALLED = {"site-packages", "dist-packages"}


class _Frame(NamedTuple):
    file: Path
    line: int
    function: str  # the name of the function; empty for a syntax error, which is in no function


def user_line(error: BaseException, roots: Sequence[Path]) -> str | None:
    """Return "file:line" of the innermost frame of ``error`` that is in the files and directories ``roots``.

    If no frame is in ``roots``, return the innermost frame outside nccl-bench and the standard library, or ``None``
    without such a frame.
    """
    frames = _user_frames(error, roots)
    return _file_and_line(frames[-1].file, frames[-1].line) if frames else None


def user_call(error: BaseException, roots: Sequence[Path]) -> str | None:
    """Return the name of the outermost function among the frames that ``user_line`` chooses from."""
    return next((frame.function for frame in _user_frames(error, roots) if frame.function), None)


def definition_line(value: Callable[..., Any]) -> str | None:
    """Return "file:line" of the definition of ``value``, or ``None`` if ``inspect`` does not find it."""
    while isinstance(value, functools.partial):
        value = value.func
    for subject in (value, type(value)):
        try:
            unwrapped = inspect.unwrap(subject)
            return _file_and_line(Path(inspect.getsourcefile(unwrapped) or "?"), inspect.getsourcelines(unwrapped)[1])
        except (OSError, TypeError, ValueError):  # a built-in, code without a source file, or wrappers in a circle
            continue
    return None


def _file_and_line(file: Path, line: int) -> str:
    # Shorten a path below the current directory: people share records, and the directories above differ by machine.
    directory = Path.cwd()
    return f"{file.relative_to(directory) if file.is_relative_to(directory) else file}:{line}"


def _user_frames(error: BaseException, roots: Sequence[Path]) -> list[_Frame]:
    frames = [
        _Frame(Path(frame.f_code.co_filename), line, frame.f_code.co_qualname)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append(_Frame(Path(error.filename), error.lineno or 1, ""))
    candidates = [frame for frame in frames if not _is_known(frame.file)]
    resolved = [root.resolve() for root in roots]
    below_roots = [frame for frame in candidates if any(_is_in(frame.file, root) for root in resolved)]
    return below_roots or candidates


def _is_known(file: Path) -> bool:
    in_stdlib = file.is_relative_to(_STDLIB) and _INSTALLED.isdisjoint(file.parts)
    return file.name.startswith("<") or file.is_relative_to(_NCCL_BENCH) or in_stdlib


def _is_in(file: Path, root: Path) -> bool:
    # A virtual environment within the tree is not the user's code.
    return file.is_relative_to(root) and _INSTALLED.isdisjoint(file.relative_to(root).parts)
