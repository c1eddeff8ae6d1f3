"""The command line of an audit, up to the point where ranks would start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nccl_bench.audit.program import Program
from nccl_bench.cli import app, launched_audit
from nccl_bench.errors import UsageError
from nccl_bench.report import Detail, Format


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """Return the audits that would be launched, in a directory with the script serve.py."""
    calls: list[dict[str, Any]] = []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "serve.py").touch()
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "__init__.py").touch()

    names = ("program", "ranks", "timeout_s", "every", "suppressions", "output")

    def launch(*values: Any) -> None:
        calls.append(dict(zip(names, values, strict=True)))

    monkeypatch.setattr(launched_audit, "audit_launched", launch)
    return calls


def _run(*arguments: str) -> None:
    app(["audit", *arguments], standalone_mode=False)


def test_what_is_behind_the_script_belongs_to_the_script(launched: list[dict[str, Any]]) -> None:
    _run("--nproc", "3", "serve.py", "--nproc", "7", "--help", "--", "-m")
    assert launched[0]["program"] == Program(name="serve.py", arguments=("--nproc", "7", "--help", "--", "-m"))
    assert launched[0]["ranks"] == 3


def test_every_option_reaches_the_audit(launched: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "known.txt").write_text("serve.py: known\n")
    _run(
        "-m",
        "--timeout",
        "7",
        "--sample",
        "10",
        "--suppress",
        "known.txt",
        "--to",
        "a.json",
        "--width",
        "90",
        "-q",
        "engine.bench",
        "-x",
    )
    (call,) = launched
    assert call["program"] == Program(name="engine.bench", arguments=("-x",), is_module=True)
    output = call["output"]
    assert (call["timeout_s"], call["every"]) == (7.0, 10)
    assert (output.format, output.to, output.width) == (Format.JSON, Path("a.json"), 90)
    assert output.detail is Detail.QUIET
    assert [each.reason for each in call["suppressions"]] == ["known"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.py",), "the script missing.py does not exist"),
        (("engine",), "the script engine is a directory"),
        (("-m", "no_such_engine.bench"), "there is no module no_such_engine.bench"),
        *(
            (("--timeout", text, "serve.py"), f"--timeout is {shown}: give a number of seconds above 0, and at most ")
            for text, shown in (("0", "0.0"), ("nan", "nan"), ("inf", "inf"))
        ),
        (("--sample", "0", "serve.py"), "--sample is 0: give 1 for every step, or a larger number"),
        (("--format", "csv", "serve.py"), "--format is 'csv'"),
        (("--width", "10", "serve.py"), "--width is 10: give at least 40"),
        (("--nprocs", "2", "serve.py"), "audit has no option --nprocs: did you mean '--nproc'?"),
    ],
)
def test_a_command_line_that_cannot_work_is_refused(
    launched: list[dict[str, Any]], arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        _run(*arguments)
    assert message in str(caught.value)
    assert not launched
