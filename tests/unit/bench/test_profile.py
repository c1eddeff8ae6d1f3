"""Profiles: the calls that they have, and their files, which are written whole or not at all."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from nccl_bench.bench import profile
from nccl_bench.bench.profile import write_profile
from nccl_bench.catalog.timings import Timing
from nccl_bench.errors import RecordError


def test_an_arm_that_declines_in_graphs_has_no_profile_in_a_run_of_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "try_first_calls", lambda _context, _names: {})
    monkeypatch.setattr(profile, "try_captures", lambda _context, names: dict.fromkeys(names, "it returned None"))
    context = Mock()
    context.case.label, context.arms.visit.return_value = "all_reduce 8 B", ()
    assert profile.profile_case(context, ["mine"], [Timing.GRAPH], None) == []
    (of_eager_calls,) = profile.profile_case(context, ["mine"], [Timing.EAGER, Timing.GRAPH], None)
    assert (of_eager_calls["eager_calls"], of_eager_calls["graph_calls"]) == (profile.CALLS, 0)


def export(path: str) -> None:
    Path(path).write_text('{"traceEvents": []}', encoding="utf-8")


def export_into_a_full_disk(path: str) -> None:
    """Write a part, as torch does before it notices a full disk."""
    export(path)
    raise OSError(28, os.strerror(28))


def test_a_profile_replaces_an_earlier_one_and_is_compressed(tmp_path: Path) -> None:
    file = tmp_path / "profile" / "torch.json.gz"
    for _ in range(2):
        write_profile(export, file)
    assert gzip.decompress(file.read_bytes()) == b'{"traceEvents": []}'
    assert [*file.parent.iterdir()] == [file]


@pytest.mark.parametrize(
    ("exported", "reason"), [(export_into_a_full_disk, "No space left"), (lambda _path: None, "No such file")]
)
def test_a_profile_that_cannot_be_written_leaves_nothing_behind(exported: object, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "profile" / "torch.json.gz"
    with pytest.raises(RecordError, match=rf"the profile {file} cannot be written: {reason}"):
        write_profile(exported, file)  # type: ignore[arg-type]
    assert [*file.parent.iterdir()] == []


def test_a_file_in_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "profile").touch()
    with pytest.raises(RecordError, match="cannot be written: File exists"):
        write_profile(export, tmp_path / "profile" / "torch.json.gz")


def test_a_link_in_place_of_a_profile_is_replaced_and_not_followed(tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "profile" / "torch.json.gz", tmp_path / "elsewhere"
    file.parent.mkdir()
    elsewhere.write_text("kept", encoding="utf-8")
    for name in (file.name, f".{file.name}.json", f".{file.name}.part"):
        (file.parent / name).symlink_to(elsewhere)
    write_profile(export, file)
    assert (elsewhere.read_text(encoding="utf-8"), file.is_symlink()) == ("kept", False)
