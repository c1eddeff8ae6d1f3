"""The messages between the command and its agent."""

from __future__ import annotations

from pathlib import Path

from nccl_bench.launch.messages import Exit, LaunchEnd

KILLED = LaunchEnd(exits=(Exit(rank=1, local_rank=1, code=-9),))


def test_the_end_of_a_launch_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert LaunchEnd.read(tmp_path) is None
    KILLED.write(tmp_path)
    assert LaunchEnd.read(tmp_path) == KILLED


def test_a_reader_never_sees_an_end_that_is_being_written(tmp_path: Path) -> None:
    KILLED.write(tmp_path)
    (path,) = tmp_path.iterdir()
    complete = path.read_text(encoding="utf-8")
    with path.open(encoding="utf-8") as reader:
        LaunchEnd(lost_node="node 1 has ended").write(tmp_path)
        # A write into the file itself would first make it empty for this reader.
        assert reader.read() == complete
    assert list(tmp_path.iterdir()) == [path]
