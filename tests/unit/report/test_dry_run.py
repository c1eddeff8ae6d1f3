"""``--dry-run``: what would be measured, the memory and the time it takes, and what is left out; nothing happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.cli import app, attached_run, launched_run
from nccl_bench.config.run import resolve
from nccl_bench.errors import NcclBenchError
from nccl_bench.plan.cases import make_plan
from nccl_bench.plan.memory import plan_arena
from nccl_bench.plan.time import deadline_s, estimate_s
from nccl_bench.report.dry_run import plan_text

GIB = 1024**3


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty directory, with no launcher in the environment."""
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
        "3 cases on 2 ranks (cpu), 1 to 60 rounds of eager, gated, enqueue\n"
        "arms: stream-free, torch; baseline stream-free\n"
        "twin of stream-free, for the noise floor\n"
        "\n"
        "all_reduce bfloat16 sum in-place: 2 sizes, 8 to 64\n"
        "all_gather bfloat16 in-place: 1 size, 64\n"
        "\n"
        "memory for buffers: up to 0.13 GiB per rank, of 4.0 GiB free\n"
        "time: about 7 to 13 s, up to 124 s per case\n"
        "left out: all_gather bfloat16 of 8: too small for 2 ranks after nccl-tests' rounding\n"
    )


def test_each_message_of_a_model_is_listed_with_its_calls_and_where_they_are_made() -> None:
    printed = dry_run(
        "--model", "layers=61,hidden=7168,dense_layers=3,experts=256,tokens=1,decode_steps=2"
    ).splitlines()
    assert printed[2:6] == [
        "workload: 1 message, 246 calls in 2 steps, from --model "
        "layers=61,hidden=7168,dense_layers=3,experts=256,tokens=1,decode_steps=2",
        "  all_reduce bfloat16 14 KiB, graph: 246 calls",
        "    tensor-parallel decode of 1 token: 1 after the embedding, 61 after",
        "    attention, 3 after the MLP, 58 after the experts",
    ]
    assert "left out: the gather of the logits, because the model has no vocabulary" in printed


def test_overridden_routes_are_listed() -> None:
    layer: dict[str, object] = {"arms": "coordinator,torch", "sizes": "8"}
    listed = text(layer, {"routes": "eager=communicator,all_reduce.graph=torch"}).splitlines()
    without = text(layer).splitlines()
    assert listed[3] == "routes: eager=communicator, all_reduce.graph=torch"
    assert [*listed[:3], *listed[4:]] == without


def test_arms_in_processes_of_their_own_are_listed() -> None:
    few = {"name": "few", "target": "stream-free", "variables": {"NCCL_MAX_CTAS": "4"}}
    listed = text({"arms": "torch", "user_arms": [few]}).splitlines()
    assert listed[3] == "few: in separate processes (NCCL_MAX_CTAS=4 is set only in these processes)"


def test_nothing_is_written_or_started(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_arguments: object) -> None:
        raise AssertionError("started")

    monkeypatch.setattr(launched_run, "run_sweep", never)
    monkeypatch.setattr(launched_run, "run_launched", never)
    monkeypatch.setattr(attached_run, "run_attached", never)
    assert "on 2 ranks (cpu)" in dry_run("--out", "there")
    assert list(nowhere.iterdir()) == []


def test_ranks_of_all_nodes_are_planned_for() -> None:
    assert "on 12 ranks (cpu)" in dry_run(
        "--nproc", "4", "--nnodes", "3", "--node-rank", "2", "--rdzv-endpoint", "node0:29500"
    )


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_only_the_first_attached_rank_prints(rank: str, lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = {"RANK": rank, "WORLD_SIZE": "4", "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "node0"}
    for name, value in ranks.items():
        monkeypatch.setenv(name, value)
    assert dry_run("--attach").count("on 4 ranks (cpu)") == lines


def test_a_case_that_lacks_an_arm_says_so_and_why() -> None:
    plan = text({"placements": "out-of-place", "sizes": "8"}, {"collectives": "all_reduce,all_gather"})
    assert "all_reduce bfloat16 sum out-of-place: 1 size, 8, without torch, torch-async\n" in plan
    reason = "torch.distributed has no out-of-place form of this collective"
    assert f"left out: torch, torch-async do not run all_reduce bfloat16 sum out-of-place: {reason}\n" in plan


def test_the_delays_of_a_late_rank_have_their_unit_and_a_line_with_commas() -> None:
    plan = text({"scenario": "skew", "delays": "0,20", "sizes": "8"})
    assert "delays: 0, 20 us\n" in plan
    assert "skew (0 us late), skew (20 us late) all_reduce bfloat16 sum in-place: 1 size each, 8\n" in plan


def test_cases_that_differ_only_in_data_type_reduction_and_placement_share_a_line() -> None:
    layer: dict[str, object] = {
        "collectives": "all_reduce,all_to_all",
        "placements": "in-place,out-of-place",
        "sizes": "1K,4K",
    }
    plan = text(layer, {"dtypes": "all", "redops": "sum,avg", "arms": "stream-free,torch"})
    floats, integers = "float64,float32,float16,bfloat16", "int8,uint8,int32,int64"
    reason = "torch.distributed has no out-of-place form of this collective"
    assert plan.splitlines()[4:] == [
        f"all_reduce {floats} sum,avg in-place: 2 sizes each, 1K to 4K",
        f"all_reduce {integers} sum in-place: 2 sizes each, 1K to 4K",
        f"all_reduce {floats} sum,avg out-of-place: 2 sizes each, 1K to 4K, without torch",
        f"all_reduce {integers} sum out-of-place: 2 sizes each, 1K to 4K, without torch",
        "all_to_all all dtypes out-of-place: 2 sizes each, 1K to 4K",
        "",
        *plan.splitlines()[10:12],
        "left out: all_to_all has no in-place form: it is measured out-of-place",
        f"left out: torch does not run all_reduce {floats} sum,avg out-of-place and all_reduce {integers} sum "
        f"out-of-place: {reason}",
        "left out: no arm runs all_reduce float8_e4m3fn,float8_e5m2 sum,avg in-place,out-of-place: "
        "Gloo does not reduce float8",
        f"left out: no arm runs all_reduce {integers} avg in-place,out-of-place: Gloo does not average integers",
    ]


def test_sizes_that_fit_only_in_place_are_listed_apart() -> None:
    layer: dict[str, object] = {"sizes": "1K,8G", "placements": "in-place,out-of-place", "same_buffer": True}
    plan = text(layer, {"arms": "stream-free"}, device="cuda", world_size=8, memory=33 * GIB).splitlines()
    assert plan[3:6] == [
        "all_reduce bfloat16 sum in-place: 2 sizes, 1K to 8G",
        "all_reduce bfloat16 sum out-of-place: 2 sizes, 1K to 8G",
        "  8G does not fit in memory and will be skipped",
    ]


def test_a_timing_the_device_lacks_is_left_out_with_the_reason() -> None:
    assert "left out: graph timing is absent: the CPU has no CUDA graphs\n" in text({"timings": "all"})


def test_sizes_that_do_not_fit_are_listed() -> None:
    plan = text({"sizes": "1K,64G"}, device="cuda", world_size=8, memory=80 * GIB)
    assert "  64G does not fit in memory and will be skipped\n" in plan
    assert "1K does not fit" not in plan
    assert "does not fit" not in text({"sizes": "1K,64G"}, device="cuda", world_size=8, memory=None)


@pytest.mark.parametrize("collective", COLLECTIVES)
def test_memory_is_that_of_the_largest_arena(collective: str) -> None:
    config = resolve("cuda", {"collectives": collective, "sizes": "1M:1G:x4"})
    plan = make_plan(config, 8)
    arenas = [plan_arena(config, planned.case, 8, 100 * GIB) for planned in plan.cases]
    largest = max(arena.total_bytes for arena in arenas if arena) / GIB
    assert f"memory for buffers: up to {largest:.2f} GiB per rank, of 100.0" in plan_text(config, plan, 8, 100 * GIB)


def test_unknown_free_memory_is_not_printed() -> None:
    assert re.search(r"^memory for buffers: up to \d+\.\d\d GiB per rank$", text(memory=None), re.MULTILINE)


def test_time_grows_with_cases_rounds_and_arms() -> None:
    def seconds(**layer: object) -> float:
        config = resolve("cpu", layer)
        return estimate_s(config, make_plan(config, 2))[0]

    least = seconds(sizes="1M", rounds=1, arms="torch")
    assert least < seconds(sizes="1M,2M", rounds=1, arms="torch")
    assert least < seconds(sizes="1M", rounds=2, arms="torch")
    assert least < seconds(sizes="1M", rounds=1, arms="torch,transport")
    layer: dict[str, object] = {"sizes": "1M", "rounds": 1, "arms": "torch", "timeout_s": 7.5}
    config = resolve("cpu", layer)
    plan = make_plan(config, 2)
    most = deadline_s(config, plan.cases[0])
    assert most > 7.55
    assert f"time: about {least:.0f} s, up to {most:.2f} s per case" in text(layer)


def test_a_run_of_one_arm_has_one_number_of_rounds_and_no_twin() -> None:
    plan = text({"arms": "torch", "sizes": "1M", "rounds": 9})
    assert "twin" not in plan
    assert ", 9 rounds of eager, gated, enqueue\n" in plan
    assert "time: about 7 s, up to" in plan


def test_the_twin_is_listed_once() -> None:
    layer: dict[str, object] = {"collectives": "all_reduce,broadcast", "placements": "all", "sizes": "1K,4K"}
    plan = text(layer, {"baseline": "torch", "arms": "stream-free,dedicated-stream,torch"})
    assert plan.count("twin") == plan.count("twin of torch, for the noise floor\n") == 1
    assert "out-of-place: 2 sizes, 1K to 4K, without torch\n" in plan


def test_the_time_given_bounds_the_estimate() -> None:
    layer: dict[str, object] = {"sizes": "64M", "rounds": 5, "arms": "torch,stream-free"}
    least = re.search(r"time: about (\d+) to \d+ s", text(layer, {"max_seconds": 8000}))
    assert least
    assert f"time: about {least[1]} to 80 s" in text(layer, {"max_seconds": 80})
    assert f"time: about {least[1]} s, up to" in text(layer, {"max_seconds": 1})


def test_a_case_that_does_not_fit_takes_no_time() -> None:
    def time(sizes: str) -> str:
        return text({"sizes": sizes}, memory=2 * GIB).partition("\ntime: ")[2]

    assert time("1K,8G") == time("1K")
    assert time("8G") == "about 7 s, up to 0 s per case\n"


def test_a_limit_that_cannot_be_kept_is_reported_with_the_seconds_that_are_needed() -> None:
    def messages(*arguments: str) -> str:
        return CliRunner().invoke(app, ["run", "--device", "cpu", "--dry-run", *arguments]).stderr

    assert "--max-seconds is 2, and this run takes at least about 8 s" in messages("--max-seconds", "2")
    of_two_arms = ("--max-seconds", "2", "--arms", "stream-free,torch")
    assert "makes 3 communicators" in messages(*of_two_arms)
    assert "makes 6 communicators" in messages(*of_two_arms, "--scenario", "contended")
    assert messages("--max-seconds", "60") == messages() == ""


def test_a_dry_run_refuses_what_the_run_would_refuse_and_leaves_nothing_behind(nowhere: Path) -> None:
    (nowhere / "taken").mkdir()
    (nowhere / "taken" / "run.json").touch()
    (nowhere / "file").touch()
    (nowhere / "broken.py").write_text("import nosuch\nclass C: ...\n")
    (nowhere / "mine.py").write_text("class C: ...\n")
    for arguments, code, reason in (
        (("--out", "taken"), 2, "already holds a record"),
        (("--out", "file"), 2, "cannot be written"),
        (("--arm", "x=broken.py:C"), 2, "there is no module nosuch, which"),
        (("--arm", "x=mine.py:D"), 2, "there is no 'D'"),
        (("--device", "cuda", "--nproc", "1"), 3, "no GPU is visible on this machine"),
    ):
        result = CliRunner().invoke(app, ["run", "--device", "cpu", "--dry-run", *arguments])
        assert isinstance(result.exception, NcclBenchError)
        assert reason in str(result.exception)
        assert result.exception.exit_code == code
        # A plan can be of another machine.
        assert ("memory for buffers" in result.stdout) == (code == 3)
    dry_run("--arm", "x=mine.py:C", "--out", "new/folder")
    assert sorted(path.name for path in nowhere.iterdir()) == ["broken.py", "file", "mine.py", "taken"]


def test_the_placement_of_a_user_arm_is_not_known_before_it_is_loaded() -> None:
    layer: dict[str, object] = {"sizes": "8", "user_arms": [{"name": "mine", "target": "mine.py:Mine"}]}
    assert "all_reduce bfloat16 sum: 1 size, 8\n" in text(layer)
    assert "all_reduce bfloat16 sum in-place: 1 size, 8\n" in text({"sizes": "8"})
    assert "all_reduce bfloat16 sum returned: 1 size, 8, without torch\n" in text(layer, {"placements": "returned"})


def test_several_launches_are_named_and_take_their_time() -> None:
    assert "3 launches, each with new ranks and all cases\n" in dry_run("--launches", "3")
    assert "launches" not in dry_run()
    options = {"sizes": "1M", "rounds": 6, "max_seconds": 1000}
    once, thrice = (
        estimate_s(config, make_plan(config, 2))
        for config in (resolve("cpu", {**options, "launches": number}) for number in (1, 3))
    )
    for single, three in zip(once, thrice, strict=True):
        # The agent of all launches imports torch only once.
        assert 1.5 * single < three < 3 * single
