"""A record on a disk that is full, and a record that is removed while it is written."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from nccl_bench.errors import ExitCode, RecordError, UsageError
from nccl_bench.ranks.failure import Failure, read_failures, reserve_failure
from nccl_bench.ranks.progress import Progress
from nccl_bench.records import store
from nccl_bench.records.reserve import reserve, write_into_reserve
from nccl_bench.records.run import FILES, Run
from nccl_bench.records.store import RESERVE, RESERVE_BYTES, RunStatus, RunStore
from tests.support.small_disk import FILLER, fill, small_disk
from tests.support.synthetic_runs import case, crash, meta, samples


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 4 * RESERVE_BYTES) as path:
        yield path


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for the files of a record, but not for its reserve."""
    with small_disk(tmp_path / "tiny", RESERVE_BYTES // 2) as path:
        yield path


def create(out: Path | None) -> RunStore:
    start = meta(device="cpu")
    return RunStore.create(
        out, name="made-up", **{key: start[key] for key in ("config", "launch", "left_out", "environment")}
    )


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_the_end_of_a_run_and_its_summary_are_recorded_on_a_full_disk(disk: Path) -> None:
    run_store = create(disk / "run")
    run_store.append(samples())
    run_store.update(worker={"loop_cost_us": 0.04})
    fill(disk)

    def append_until_the_last_block_is_full() -> None:
        for size_bytes in range(8, 8000, 8):
            run_store.append(samples(case=case(size_bytes)), samples("torch", case=case(size_bytes)))

    with pytest.raises(RecordError, match=r"samples.jsonl cannot be written: No space left on device; free space"):
        append_until_the_last_block_is_full()
    with pytest.raises(RecordError, match=r"run.json cannot be written: No space left on device"):
        run_store.update(worker={})
    run_store.finish(RunStatus.FAILED)
    run_store.append(crash())
    run_store.write_summary("size_bytes\n")
    run = Run.load(run_store.path)
    assert (run.meta["status"], run.meta["worker"], run.warnings) == ("failed", {"loop_cost_us": 0.04}, ())
    assert (run.lines[0], run.lines[-1]) == (samples(), crash())
    assert len(run.lines) % 2 == 0, "one append has all of its lines or none"
    assert names(run_store.path) == sorted(FILES)


@pytest.mark.parametrize("out", ["deep/run", None])
def test_a_record_without_room_for_its_end_leaves_nothing_behind(
    out: str | None, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_disk)
    with pytest.raises(UsageError, match=r"cannot be written: No space left on device; .* --out"):
        create(None if out is None else Path(out))
    assert names(tiny_disk) == []


def test_a_failed_start_keeps_the_files_of_others(tiny_disk: Path) -> None:
    (tiny_disk / "notes.txt").write_text("precious")
    with pytest.raises(UsageError):
        create(tiny_disk)
    assert names(tiny_disk) == ["notes.txt"]


def test_a_file_system_that_cannot_allocate_gets_a_reserve_that_is_written(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    reserve(disk / "reserve", RESERVE_BYTES)
    assert (disk / "reserve").stat().st_blocks * 512 >= RESERVE_BYTES
    with pytest.raises(OSError, match="No space left"):
        reserve(disk / "too much", 4 * RESERVE_BYTES)


def test_the_reason_why_a_rank_ended_is_written_on_a_full_disk(disk: Path) -> None:
    progress = Progress(None, 3, 1)
    reserve_failure(disk, 3)
    fill(disk)
    Failure.of(OSError(errno.ENOSPC, "No space left on device", "mine.log"), progress.position).write(disk)
    (failure,) = read_failures(disk)
    assert failure.message == "[Errno 28] No space left on device: 'mine.log'"
    assert names(disk) == ["failure-3", FILLER]
    assert Failure.of(MemoryError(), progress.position).message == "no memory is left"


def test_what_was_measured_is_readable_after_the_directory_was_removed(tmp_path: Path) -> None:
    run_store = create(tmp_path / "run")
    run_store.append(samples())
    shutil.rmtree(run_store.path)
    removed = f"{run_store.path} was removed or renamed, so nothing more can be recorded"
    for write in (
        lambda: run_store.append(samples("torch")),
        run_store.sync,
        lambda: run_store.update(worker={}),
        lambda: run_store.finish(RunStatus.FAILED),
        lambda: run_store.write_summary("size_bytes\n"),
    ):
        with pytest.raises(RecordError) as error:
            write()
        assert str(error.value).startswith(removed)
        assert error.value.exit_code == ExitCode.SETUP
    assert not run_store.path.exists()
    assert run_store.load().lines == (samples(),)


@pytest.mark.parametrize("name", ["run.json", "samples.jsonl"])
def test_a_removed_file_is_named_and_not_created_again(name: str, tmp_path: Path) -> None:
    run_store = create(tmp_path / "run")
    run_store.append(samples())
    (run_store.path / name).unlink()
    write = run_store.sync if name == "samples.jsonl" else partial(run_store.finish, RunStatus.FAILED)
    with pytest.raises(RecordError, match=f"{name} was removed or renamed"):
        write()
    if name == "samples.jsonl":
        with pytest.raises(RecordError, match=f"{name} was removed or renamed"):
            run_store.append(samples("torch"))
    assert not (run_store.path / name).exists()
    assert run_store.load().lines[0] == samples()


def test_lines_and_states_of_a_run_are_on_the_disk_when_their_call_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_store = create(tmp_path / "run")
    synced: list[tuple[str, int]] = []

    def fsync(descriptor: int) -> None:
        synced.append((Path(os.readlink(f"/proc/self/fd/{descriptor}")).name, os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    run_store.append(samples(), samples("torch"))
    run_store.sync()
    assert synced == [("samples.jsonl", (run_store.path / "samples.jsonl").stat().st_size)]
    synced.clear()
    run_store.update(worker={})
    size_bytes = (run_store.path / "run.json").stat().st_size
    assert (synced[0], synced[1][0]) == ((f".run.json.{os.getpid()}", size_bytes), "run")
    synced.clear()
    run_store.finish(RunStatus.COMPLETE)
    size_bytes = (run_store.path / "run.json").stat().st_size
    assert (synced[0], synced[1][0]) == ((RESERVE, size_bytes), "run")


def test_only_an_empty_record_is_discarded(tmp_path: Path) -> None:
    kept, empty = create(tmp_path / "kept"), create(tmp_path / "new" / "empty")
    kept.append(crash(case=None))
    assert (kept.discard_if_empty(), empty.discard_if_empty()) == (False, True)
    assert names(tmp_path) == ["kept"]
    # A rank did not create the directory.
    assert not RunStore(path=kept.path).discard_if_empty()


def test_a_reserve_that_cannot_be_written_is_given_back_to_the_disk(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_store = create(disk / "run")
    fill(disk)

    def copy_on_write(reserved: Path, target: Path, data: bytes) -> None:
        if reserved.name == RESERVE:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_into_reserve(reserved, target, data)

    monkeypatch.setattr(store, "write_into_reserve", copy_on_write)
    run_store.finish(RunStatus.COMPLETE)
    assert Run.load(run_store.path).meta["status"] == "complete"
    assert names(run_store.path) == sorted(FILES)
