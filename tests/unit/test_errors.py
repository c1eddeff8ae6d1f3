"""The exception tree matches the drawing in its docstring."""

from __future__ import annotations

import inspect
import re

import pytest

from nccl_bench import errors
from nccl_bench.errors import ExitCode, NcclBenchError, NcclError

Tree = dict[str, tuple[str, int]]


def drawn(docstring: str) -> Tree:
    """Return the parent and the exit code of each class, as drawn."""
    tree: Tree = {}
    above: list[tuple[int, str]] = []
    for line in docstring.splitlines():
        match = re.match(r"    ([ │├└─]*)(\w+) +(\d+)\b", line)
        if match is None:
            continue
        indent = len(match[1])
        above = [(column, name) for column, name in above if column < indent]
        tree[match[2]] = (above[-1][1] if above else "Exception", int(match[3]))
        above.append((indent, match[2]))
    return tree


def defined() -> Tree:
    return {
        name: (cls.__bases__[0].__name__, int(cls.exit_code))
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, NcclBenchError)
    }


def test_the_drawing_matches_the_classes() -> None:
    assert errors.__doc__ is not None
    assert len(defined()) > 8
    assert drawn(errors.__doc__) == defined()


def test_a_wrong_drawing_is_detected() -> None:
    assert errors.__doc__ is not None
    moved = errors.__doc__.replace("│   └── DisabledError ", "├── DisabledError     ")
    renumbered = errors.__doc__.replace("InterruptedRunError          130", "InterruptedRunError            3")
    for changed in (moved, renumbered):
        assert changed != errors.__doc__
        assert drawn(changed) != defined()


def test_every_exception_of_the_module_is_in_the_tree() -> None:
    classes = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if cls.__module__ == errors.__name__]
    assert {cls.__name__ for cls in classes} == {*defined(), "ExitCode"}
    assert all(len(cls.__bases__) == 1 for cls in classes if issubclass(cls, NcclBenchError))


def test_exit_codes_are_the_documented_numbers() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0,
        "USAGE": 2,
        "SETUP": 3,
        "WRONG_RESULT": 4,
        "RACE": 5,
        "HANG": 6,
        "SLOWER": 7,
        "INCONCLUSIVE": 8,
        "BLIND_DETECTOR": 9,
        "INTERRUPTED": 130,
    }


@pytest.mark.parametrize(
    ("last_error", "text"),
    [("", "ncclSend returned 3 (internal)"), ("no route", "ncclSend returned 3 (internal): no route")],
)
def test_an_nccl_error_has_the_text_of_the_library(last_error: str, text: str) -> None:
    error = NcclError("ncclSend", 3, "internal", last_error)
    assert (error.function, error.result, str(error)) == ("ncclSend", 3, text)
