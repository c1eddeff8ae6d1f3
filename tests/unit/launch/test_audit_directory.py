"""The directory in which the ranks of an audit meet under another launcher."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nccl_bench.errors import SetupError
from nccl_bench.launch.audit_directory import meeting_directory
from nccl_bench.launch.launchers import Attachment, Launcher

_ATTACHMENT = Attachment(
    launcher=Launcher.TORCHRUN,
    rank=0,
    world_size=2,
    local_rank=0,
    local_world_size=2,
    nodes=1,
    master_addr="localhost",
    master_port=29500,
)


def _open_to_all(path: Path) -> None:
    path.chmod(0o777)


def _replace_by_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def _replace_by_file(path: Path) -> None:
    path.rmdir()
    path.touch()


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_all_ranks_of_a_launch_meet_in_one_directory_of_this_user_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = meeting_directory(_ATTACHMENT)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert meeting_directory(_ATTACHMENT) == directory
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert meeting_directory(_ATTACHMENT) != directory


@pytest.mark.parametrize("change", [_open_to_all, _replace_by_link, _replace_by_file])
def test_a_directory_that_another_user_could_write_is_refused(change: Callable[[Path], None]) -> None:
    change(meeting_directory(_ATTACHMENT))
    with pytest.raises(SetupError, match="not a directory of this user alone"):
        meeting_directory(_ATTACHMENT)
