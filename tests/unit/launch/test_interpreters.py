"""An interpreter that cannot run ranks is refused before ranks start."""

from pathlib import Path

import pytest

from nccl_bench.errors import SetupError
from nccl_bench.launch.interpreters import refuse_unfit_interpreter


def _script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("echo Python 3.10", "which is Python 3.10"),
        ("echo Python 3.12 torch numpy", "which has no torch and no numpy"),
        ("echo a start-up file; echo Python 3.9 torch", "which is Python 3.9"),
        ("echo this needs -x >&2; exit 2", r"which is no Python \(this needs -x\)"),
        ("echo Hello", "which is no Python"),
        ("", "which is no Python"),
    ],
)
def test_an_interpreter_that_cannot_run_ranks_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(SetupError, match=f"{problem}.*3.11 or later, with torch and numpy"):
        refuse_unfit_interpreter(_script(tmp_path / "python", text))


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"does not start \(Permission denied\)"):
        refuse_unfit_interpreter(str(tmp_path))


@pytest.mark.timeout(60)
def test_a_fit_interpreter_is_accepted(tmp_path: Path) -> None:
    refuse_unfit_interpreter(_script(tmp_path / "python", "echo Python 3.11"))
