"""A pickle is read as plain data, or refused: nothing of it runs."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.safety.plain_pickle import load_plain_pickle

DATA: dict[str, Any] = {
    "entries": [{"sizes": [[4, 4096]], "name": "nccl:all_reduce", "group": ("0", "default_pg"), "retired": True}],
    "numbers": [0, 255, 65535, -1, 2**40, 1.5, None, False, (), (1,), (1, 2, 3), (1, 2, 3, 4), {}],
}


class Planted:
    """An object whose pickle calls a function when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: as_lists(each) for name, each in value.items()}
    return [as_lists(each) for each in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_are_read_from_every_protocol(protocol: int) -> None:
    assert load_plain_pickle(pickle.dumps(DATA, protocol)) == as_lists(DATA)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_calls_a_function_is_refused_and_calls_nothing(protocol: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only plain data is read"):
        load_plain_pickle(pickle.dumps({"entries": [Planted(tmp_path / "made")]}, protocol))
    assert not (tmp_path / "made").exists()


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value, value]
    return value


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps(OrderedDict(a=1)), "only plain data"),
        (pickle.dumps({1: 2}), "no text"),
        (pickle.dumps(nested(30)), "more than 5,000,000 values"),
        (pickle.dumps(endless()), "32 levels deep"),
        (pickle.dumps([2**200]), "between"),
        (b"\x80\x02r\xff\xff\xff\x7f.", "does not have"),
        (b"\x80\x02e.", "does not have"),
        (b"\x80\x02", "exhausted"),
        (b"\x80\x02h\x05.", "does not have"),
    ],
)
def test_a_pickle_that_is_damaged_or_holds_too_much_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        load_plain_pickle(content)
