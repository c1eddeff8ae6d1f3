"""A program of the user, run in this process as Python itself would run it."""

from __future__ import annotations

import atexit
import importlib.util
import logging
import os
import runpy
import shlex
import sys
import threading
import time
import traceback
import weakref
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from nccl_bench.audit.findings.describing import path_below
from nccl_bench.audit.findings.record import Line, ProgramEnd
from nccl_bench.safety.secrets import masked

# The file that calls the program. In a stack, calls outside of this file do not belong to the program.
CALLER = __file__
# The exit code of Python after an exception.
_RAISED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A script or a module with its arguments."""

    name: str  # the file of a script, or the name of a module
    arguments: tuple[str, ...] = ()  # the arguments
    is_module: bool = False  # True if the name is that of a module, as in `python -m`

    @property
    def text(self) -> str:
        """The program and its arguments, for a title, without possible secrets."""
        words = ("-m", self.name, *self.arguments) if self.is_module else (self.name, *self.arguments)
        return masked(shlex.join(words))

    def missing(self) -> str | None:
        """Return why the program cannot be found; None if it is there. The program itself is not imported."""
        if not self.is_module:
            path = Path(self.name)
            what = "is a directory" if path.is_dir() else "does not exist"
            return None if path.is_file() else f"the script {self.name} {what}: give the file of a Python program"
        before = list(sys.path)
        sys.path.insert(0, os.getcwd())
        try:
            is_there = importlib.util.find_spec(self.name.partition(".")[0]) is not None
        except (ImportError, ValueError):
            is_there = False
        finally:
            sys.path[:] = before
        return None if is_there else f"there is no module {self.name}: give the name that `python -m` would take"

    def run(self) -> ProgramEnd:
        """Run the program as ``__main__`` and return how it ended. An exception is printed as Python prints it."""
        sys.argv = [self.name, *self.arguments]
        sys.path.insert(0, os.getcwd() if self.is_module else str(Path(self.name).resolve().parent))
        try:
            if self.is_module:
                runpy.run_module(self.name, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(self.name, run_name="__main__")
        except SystemExit as end:
            return _end_of_exit(end)
        except BaseException as error:  # noqa: BLE001 - the report says how the program ended, whatever ended it
            frames = _frames_of_program(error)
            sys.excepthook(type(error), error.with_traceback(frames), frames)
            return ProgramEnd(
                exit_code=_RAISED,
                error=_describe(error),
                line=_last_line(frames),
                ended_at=time.monotonic(),
            )
        return ProgramEnd(exit_code=0, ended_at=time.monotonic())


def _describe(error: BaseException) -> str:
    """Return the name and the text of an exception. That of a ``SyntaxError`` has its file and line already."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error}"
    return "".join(traceback.format_exception_only(error)).strip()


def end_as_interpreter() -> None:
    """Wait for the program's threads, then run its ``atexit`` functions, as Python does at the end of a process."""
    for thread in threading.enumerate():
        if not thread.daemon and thread not in (threading.main_thread(), threading.current_thread()):
            thread.join()
    atexit._run_exitfuncs()


def forget_exit_functions() -> None:
    """Forget the functions that were registered before the program: a fork must not do the work of its parent."""
    atexit._clear()
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False
    # These modules register their exit functions only once, at import. The program needs these functions too.
    atexit.register(logging.shutdown)
    atexit.register(weakref.finalize._exitfunc)  # type: ignore[attr-defined]


def _end_of_exit(end: SystemExit) -> ProgramEnd:
    if end.code is None or isinstance(end.code, int):
        return ProgramEnd(exit_code=end.code or 0, ended_at=time.monotonic())
    sys.stderr.write(f"{end.code}\n")
    return ProgramEnd(exit_code=_RAISED, error=str(end.code), ended_at=time.monotonic())


def _frames_of_program(error: BaseException) -> TracebackType | None:
    """Return the traceback of ``error`` without the frames of this module and of runpy."""
    frames = error.__traceback__
    while frames is not None and (
        frames.tb_frame.f_code.co_filename == __file__ or frames.tb_frame.f_globals.get("__name__") == "runpy"
    ):
        frames = frames.tb_next
    return frames


def _last_line(frames: TracebackType | None) -> Line | None:
    """Return the innermost line of the program in a traceback; if there is none, the innermost line at all."""
    from nccl_bench.audit.sources.stacks import is_folded

    calls = traceback.extract_tb(frames)
    if not calls:
        return None
    last = next((call for call in reversed(calls) if not is_folded(call.filename)), calls[-1])
    path = path_below(Path.cwd(), last.filename)
    return Line(path=path, number=last.lineno or 0, function=last.name, source=last.line or "")
