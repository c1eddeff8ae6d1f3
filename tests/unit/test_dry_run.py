"""``--dry-run``: what would be measured, the memory and the time it takes, and what is left out; nothing happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nccl_bench.cli import app, session
from nccl_bench.collectives import COLLECTIVES
from nccl_bench.config import resolve
from nccl_bench.plan import estimate_s, make_plan, plan_arena
from nccl_bench.report.dry_run import plan_text

GIB = 1024**3


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No launcher around, and a current directory that nothing may be written to."""
    for name in ("TORCHELASTIC_RUN_ID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def text(*layers: dict[str, object], device: str = "cpu", world_size: int = 2, memory: int | None = None) -> str:
    config = resolve(device, *layers)
    return plan_text(config, make_plan(config, world_size), world_size, memory)


def dry_run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["run", "--device", "cpu", "--dry-run", *arguments])
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def test_a_plan_reads_as_it_should() -> None:
    layer: dict[str, object] = {"sizes": "8:64:x8", "collectives": "all_reduce,all_gather", "rounds": 1}
    assert text(layer, {"arms": "stream-free,torch"}, memory=4 * GIB) == (
        "3 cases on 2 ranks (cpu), 1 round of eager, gated, enqueue\n"
        "arms: stream-free, torch; baseline stream-free\n"
        "\n"
        "all_reduce bfloat16 sum in-place: 2 sizes, 8 to 64\n"
        "all_gather bfloat16 in-place: 1 size, 64\n"
        "\n"
        "memory: up to 0.13 GiB a rank of 4.0 GiB free, for buffers\n"
        "time: about 6 s, at most 120 s a case\n"
        "left out: all_gather bfloat16 of 8 is empty on 2 ranks, as nccl-tests rounds it\n"
    )


def test_nothing_is_written_or_started(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_arguments: object) -> None:
        raise AssertionError("started")

    monkeypatch.setattr(session, "run_sweep", never)
    monkeypatch.setattr(session, "run_launched", never)
    monkeypatch.setattr(session, "run_attached", never)
    assert "on 2 ranks (cpu)" in dry_run("--out", "there")
    assert list(nowhere.iterdir()) == []


def test_ranks_of_all_nodes_are_planned_for() -> None:
    assert "on 12 ranks (cpu)" in dry_run(
        "--nproc", "4", "--nnodes", "3", "--node-rank", "2", "--rdzv-endpoint", "node0:29500"
    )


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_of_attached_ranks_only_the_first_prints(rank: str, lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = {"RANK": rank, "WORLD_SIZE": "4", "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "node0"}
    for name, value in ranks.items():
        monkeypatch.setenv(name, value)
    assert dry_run("--attach").count("on 4 ranks (cpu)") == lines


def test_a_case_without_an_arm_says_so_and_why() -> None:
    found = text({"placements": "out-of-place", "sizes": "8"}, {"collectives": "all_reduce,all_gather"})
    assert "all_reduce bfloat16 sum out-of-place: 1 size, 8, without torch, torch-async\n" in found
    for arm in ("torch", "torch-async"):
        reason = "torch.distributed has no out-of-place form of it"
        assert f"left out: {arm} does not run all_reduce bfloat16 sum out-of-place: {reason}\n" in found


def test_a_timing_the_device_lacks_is_left_out_with_the_reason() -> None:
    assert "left out: graph timing is absent: the CPU has no CUDA graphs\n" in text({"timings": "all"})


def test_what_does_not_fit_is_told_before_it_is_tried() -> None:
    found = text({"sizes": "1K,64G"}, device="cuda", world_size=8, memory=80 * GIB)
    assert "  64G does not fit and will be skipped\n" in found
    assert "1K does not fit" not in found
    assert "does not fit" not in text({"sizes": "1K,64G"}, device="cuda", world_size=8, memory=None)


@pytest.mark.parametrize("collective", COLLECTIVES)
def test_memory_is_that_of_the_largest_arena(collective: str) -> None:
    config = resolve("cuda", {"collectives": collective, "sizes": "1M:1G:x4"})
    plan = make_plan(config, 8)
    arenas = [plan_arena(config, planned.case, 8, 100 * GIB) for planned in plan.cases]
    largest = max(arena.total_bytes for arena in arenas if arena) / GIB
    assert f"memory: up to {largest:.2f} GiB a rank of 100.0 GiB free" in plan_text(config, plan, 8, 100 * GIB)


def test_memory_that_is_not_known_is_not_told() -> None:
    assert re.search(r"^memory: up to \d+\.\d\d GiB a rank, for buffers$", text(memory=None), re.MULTILINE)


def test_time_grows_with_cases_rounds_and_arms() -> None:
    def seconds(**layer: object) -> float:
        config = resolve("cpu", layer)
        return estimate_s(config, make_plan(config, 2))

    least = seconds(sizes="1M", rounds=1, arms="torch")
    assert least < seconds(sizes="1M,2M", rounds=1, arms="torch")
    assert least < seconds(sizes="1M", rounds=2, arms="torch")
    assert least < seconds(sizes="1M", rounds=1, arms="torch,transport")
    assert f"time: about {least:.0f} s, at most 7.5 s a case" in text(
        {"sizes": "1M", "rounds": 1, "arms": "torch", "timeout_s": 7.5}
    )
