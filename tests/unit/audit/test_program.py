"""The end of a program in the process of a rank."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_CODE = """
import atexit, logging, logging.handlers, os, sys, weakref

weakref.finalize(atexit, print, "finalizer of the parent")
atexit.register(print, "function of the parent")

from nccl_bench.audit.program import end_as_interpreter, forget_exit_functions

forget_exit_functions()
weakref.finalize(atexit, print, "finalizer")
atexit.register(print, "function")
log = logging.handlers.MemoryHandler(100, target=logging.StreamHandler(sys.stdout))
log.handle(logging.makeLogRecord({"msg": "log", "levelno": logging.INFO}))
end_as_interpreter()
sys.stdout.flush()
os._exit(0)
"""


def test_the_end_of_a_program_runs_its_own_exit_functions_and_finalizers_and_flushes_its_log() -> None:
    ended = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["function", "finalizer", "log"]
    assert not ended.stderr


def test_a_syntax_error_is_described_in_one_line(tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text("def f(:\n")
    code = f"from nccl_bench.audit.program import Program; print(Program(name={str(script)!r}).run().error)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "SyntaxError: invalid syntax (broken.py, line 1)\n"
