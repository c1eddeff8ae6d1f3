"""The file of a run: unknown keys, files that cannot be read, and the name of the run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nccl_bench.config.options import options_of
from nccl_bench.config.run import RunConfig, read_run_config, resolve
from nccl_bench.errors import UsageError

KEYS = tuple(options_of(RunConfig))


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("colectives", "did you mean 'collectives'?"),
        ("timeout", "did you mean 'timeout_s'?"),
        ("dtype", "did you mean 'dtypes'?"),
        ("zzz", f"allowed are {', '.join(KEYS)}"),
        ("", f"allowed are {', '.join(KEYS)}"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(key: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=re.escape(f"the unknown key {key!r}: {hint}")):
        resolve("cpu", {key: 1})
    file = tmp_path / "mine.toml"
    file.write_text(f"{json.dumps(key)} = 1\n", encoding="utf-8")
    with pytest.raises(UsageError, match=re.escape(f"{file} has the unknown key {key!r}")):
        read_run_config(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"rounds = ", "is not TOML"),
        (b"rounds = 1\nrounds = 2\n", "is not TOML"),
        (b"seed = " + b"9" * 5000, "is not TOML"),
        (b"arms = " + b"[" * 5000 + b"]" * 5000, "is not TOML"),
        (b"name = '\xff'", "is not TOML"),
        (None, "cannot be read: No such file"),
    ],
    ids=["syntax", "twice", "huge", "deep", "not UTF-8", "missing"],
)
def test_a_malformed_file_is_refused_by_name(content: bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(f"{file} {message}")):
        read_run_config(file)


def test_a_directory_is_refused_as_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: it is a directory, and only regular files are read"):
        read_run_config(tmp_path)


def test_a_run_is_named_after_its_file_unless_the_file_has_a_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("rounds = 3\n", encoding="utf-8")
    assert read_run_config(file) == {"name": "mine", "rounds": 3}
    file.write_text("name = 'theirs'\n", encoding="utf-8")
    assert read_run_config(file) == {"name": "theirs"}
