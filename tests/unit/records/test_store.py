"""Writing run directories: they are made, written by several processes, and changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nccl_bench.config.run import resolve
from nccl_bench.errors import UsageError
from nccl_bench.records.run import FILES, VERIFICATION_FILES, Run
from nccl_bench.records.store import RESERVE, RunStatus, RunStore
from tests.support.synthetic_runs import case, hang, samples


def create(out: Path | None, name: str = "made-up") -> RunStore:
    return RunStore.create(
        out,
        name=name,
        command=["nccl-bench", "run"],
        config=resolve("cpu").to_mapping(),
        launch={"world_size": 2},
        left_out=["graph timing is absent"],
        environment={},
    )


def test_create_makes_all_files_of_a_run(tmp_path: Path) -> None:
    store = create(tmp_path / "deep" / "run")
    assert sorted(file.name for file in store.path.iterdir()) == sorted((*FILES, RESERVE))
    run = Run.load(store.path)
    assert (run.meta["status"], run.meta["finished"], run.meta["worker"]) == ("running", None, None)
    assert (run.world_size, run.device, run.baseline) == (2, "cpu", "dedicated-stream")
    assert resolve("cpu", run.meta["config"]) == resolve("cpu")


def test_each_run_gets_a_new_default_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stores = [create(None) for _ in range(5)]
    assert len({store.path for store in stores}) == 5
    assert all(store.path.parent == tmp_path / "results" and "-made-up" in store.path.name for store in stores)


@pytest.mark.parametrize("file", [*FILES, *VERIFICATION_FILES])
def test_create_refuses_a_directory_that_holds_a_record(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text("precious")
    with pytest.raises(UsageError, match=r"already holds a record .* --out"):
        create(tmp_path)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [(file, "precious")]


@pytest.mark.parametrize("below", ["file", "file/run"])
def test_create_refuses_a_path_that_cannot_be_written(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot be written: .* --out"):
        create(tmp_path / below)


def test_lines_of_several_writers_are_all_kept(tmp_path: Path) -> None:
    path = create(tmp_path / "run").path
    RunStore(path=path).append(samples())
    RunStore(path=path).append(hang())
    RunStore(path=path).append(samples(arm="torch", case=case(64)))
    assert Run.load(path).lines == (samples(), hang(), samples(arm="torch", case=case(64)))


def test_only_the_last_attempt_of_a_case_counts(tmp_path: Path) -> None:
    store = create(tmp_path / "run")
    broken = replace(hang(), arm="mine", case=case())
    first = [samples("mine"), samples("torch"), samples("torch", case=case(64))]
    again = [samples("torch", samples_us=(9.0, 9.1, 9.2)), samples("stream-free")]
    for line in (*first, broken, *again):
        store.append(line)
    assert Run.load(store.path).lines == (first[2], broken, *again)


def test_an_update_keeps_changes_of_another_process(tmp_path: Path) -> None:
    store = create(tmp_path / "run")
    RunStore(path=store.path).update(worker={"loop_cost_us": 0.04})
    store.finish(RunStatus.COMPLETE)
    meta_after = Run.load(store.path).meta
    assert meta_after["worker"] == {"loop_cost_us": 0.04}
    assert meta_after["status"] == "complete"
    assert meta_after["finished"] >= meta_after["started"]
    assert sorted(file.name for file in store.path.iterdir()) == sorted(FILES)


def test_a_failed_update_keeps_the_old_file(tmp_path: Path) -> None:
    store = create(tmp_path / "run")
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.update(worker={"loop_cost_us": float("nan")})
    assert Run.load(store.path).meta["worker"] is None
