"""The command ``run`` with two real ranks on the CPU, from the command line to the tables and the records."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from nccl_bench.analysis.summary import COLUMNS
from nccl_bench.catalog.arms import ARMS, twin_of
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.run import resolve
from nccl_bench.ranks.spec import WorkerSpec
from nccl_bench.records.run import FILES, Run
from nccl_bench.records.schema import SCHEMA, Samples, Status
from nccl_bench.records.store import RunStore
from tests.support.command import CommandResult, Sandbox
from tests.support.trace_events import lanes_of

SIZES = (1024, 65536)
COLLECTIVES = ("all_reduce", "all_gather")
CPU_TIMINGS = (Timing.EAGER, Timing.GATED, Timing.ENQUEUE)
MEASURED = (*(name for name, arm in ARMS.items() if arm.timed and arm.extra is None), twin_of("dedicated-stream"))
ARGUMENTS = ["--sizes", "1K,64K", "--collective", "all_reduce,all_gather", "--arms", "all", "--rounds", "2"]
ARGUMENTS += ["--max-rounds", "2", "--max-seconds", "600", "--threshold", "5%"]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return Sandbox(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def ended(sandbox: Sandbox) -> CommandResult:
    return sandbox.nccl_bench("run", *ARGUMENTS, "--name", "everything")


@pytest.fixture(scope="module")
def directory(ended: CommandResult, sandbox: Sandbox) -> Path:
    assert ended.code == 0, ended.stderr
    (directory,) = (sandbox.cwd / "results").iterdir()
    return directory


@pytest.fixture(scope="module")
def reports(directory: Path, sandbox: Sandbox) -> dict[tuple[str, ...], CommandResult]:
    """The reports of the run, by the options of the command."""
    options = ((), ("--full",), ("--format", "csv"), ("--format", "json"), ("--format", "perfetto"))
    ends = sandbox.in_turn(*(("report", str(directory), *each) for each in options))
    return dict(zip(options, ends, strict=True))


def test_a_run_ends_with_success_and_prints_its_directory(
    directory: Path, ended: CommandResult, sandbox: Sandbox
) -> None:
    assert ended.stderr == f"nccl-bench: recorded in {directory}\n"
    assert re.fullmatch(r"\d{8}-\d{6}-everything", directory.name)
    assert sorted(path.name for path in directory.iterdir()) == sorted(FILES)
    assert [path.name for path in sandbox.cwd.iterdir()] == ["results"]
    sandbox.assert_nothing_is_left()


def test_run_json_holds_command_options_launch_and_worker(directory: Path) -> None:
    meta = json.loads((directory / "run.json").read_text(encoding="utf-8"))
    assert list(meta) == [
        *("schema", "tool", "version", "name", "started", "finished", "status", "command", "config", "launch"),
        *("cases", "left_out", "environment", "worker"),
    ]
    assert (meta["schema"], meta["tool"], meta["name"], meta["status"]) == (
        SCHEMA,
        "nccl-bench",
        "everything",
        "complete",
    )
    assert meta["started"] < meta["finished"]
    assert meta["command"][1:] == ["run", *ARGUMENTS, "--name", "everything"]
    options = {"collectives": list(COLLECTIVES), "sizes": list(SIZES), "arms": "all", "rounds": 2, "name": "everything"}
    limits = {"max_rounds": 2, "max_seconds": 600, "threshold": 0.05}
    assert resolve("cpu", meta["config"]) == resolve("cpu", options, limits)
    assert meta["launch"] == {"mode": "torchrun", "world_size": 2, "nproc": 2, "nnodes": 1}
    assert meta["left_out"] == []
    assert meta["worker"]["loop_cost_us"] > 0
    assert meta["worker"]["torch"]
    assert meta["worker"]["transport"]
    # The CPU has no memory of its own, and no allocator that strands any.
    assert {arm: {*memory} for arm, memory in meta["worker"]["memory"].items()} == {
        arm: {"host_bytes"} for arm in MEASURED
    }
    assert all(len(memory["host_bytes"]) == 2 for memory in meta["worker"]["memory"].values())


def test_every_case_arm_and_timing_has_one_line_of_right_results(directory: Path) -> None:
    lines = Run.load(directory).lines
    assert all(isinstance(line, Samples) for line in lines)
    measured = [line for line in lines if isinstance(line, Samples)]
    keys = [(line.case.collective, line.case.size_bytes, line.timing, line.arm) for line in measured]
    assert sorted(keys) == sorted(itertools.product(COLLECTIVES, SIZES, CPU_TIMINGS, MEASURED))
    for line in measured:
        assert (line.status, line.wrong, line.tolerance_ulp, line.world_size) == (Status.OK, 0, 0, 2)
        assert len(line.rounds) <= 2
        assert set(line.slowest_rank) <= {0, 1}
        assert all(fast <= slow for fast, slow in zip(line.fastest_rank_us, line.samples_us, strict=True))
        assert line.per_iteration is None
    assert {line.rounds for line in measured if line.timing is Timing.EAGER} == {(0, 1)}
    # Nothing was discarded, so the lines of a case have the place of every arm in its rounds.
    eager = [line for line in measured if line.timing is Timing.EAGER]
    for case in {line.case for line in eager}:
        of_case = [line for line in eager if line.case == case]
        places = [line.arms_before for line in of_case]
        assert [sorted(of_round) for of_round in zip(*places, strict=True)] == [list(range(len(MEASURED)))] * 2
        batches = [each for line in of_case for each in zip(line.rounds, line.arms_before, line.began_s, strict=True)]
        begins_s = [began_s for _, _, began_s in sorted(batches)]
        assert begins_s == sorted({*begins_s})


def test_summary_csv_is_what_report_prints_as_csv(
    directory: Path, reports: dict[tuple[str, ...], CommandResult]
) -> None:
    text = (directory / "summary.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == list(COLUMNS)
    assert len(rows) == len(Run.load(directory).lines)
    assert {row["ratio"] for row in rows if row["arm"] == "dedicated-stream"} == {""}
    assert reports["--format", "csv"] == CommandResult(code=0, stdout=text, stderr="")


def test_a_timeline_has_the_batches_where_they_began(
    directory: Path, reports: dict[tuple[str, ...], CommandResult]
) -> None:
    lanes = lanes_of(reports["--format", "perfetto"].stdout)
    assert list(lanes) == ["cases", "rank 0", "rank 1"]
    begins_s = sorted(Run.load(directory).samples.began_s.numbers)
    late_s = [each.begin_ns / 1e9 - began_s for each, began_s in zip(lanes["rank 0"], begins_s, strict=True)]
    # A batch is moved if the batch before it took longer on rank 1.
    assert min(late_s) == pytest.approx(0.0, abs=1e-6)
    assert sorted(late_s)[len(late_s) // 2] == pytest.approx(0.0, abs=1e-6)


def test_tables_in_a_pipe_are_ascii_of_80_columns_and_report_prints_them_again(
    ended: CommandResult, reports: dict[tuple[str, ...], CommandResult]
) -> None:
    full = reports["--full",].stdout
    for text in (ended.stdout, full):
        assert text.isascii()
        assert "\x1b" not in text
        # A word of a command to copy is never broken, however long the list of arms is.
        too_long = [line for line in text.splitlines() if len(line) > 80]
        assert [line for line in too_long if len(line.removesuffix(" \\").split()) > 1] == []
    for collective, timing in itertools.product(COLLECTIVES, ("eager latency", "gated latency", "enqueue cost")):
        assert re.search(rf"^{collective} bfloat16 .*2 ranks, {timing} \(us\)$", full, re.MULTILINE)
    assert reports[()] == CommandResult(code=0, stdout=ended.stdout, stderr="")


def test_report_prints_the_run_and_its_rows_as_json(
    directory: Path, reports: dict[tuple[str, ...], CommandResult]
) -> None:
    report = json.loads(reports["--format", "json"].stdout)
    assert report["runs"][0]["meta"] == json.loads((directory / "run.json").read_text(encoding="utf-8"))
    assert len(report["summary"]) == len(Run.load(directory).lines)


def test_options_of_the_measurement_reach_the_worker_of_a_run_of_one_rank(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    arms = ("transport", "stream-free", "dedicated-stream-wait-stream")
    options = ["--sizes", "1K", "--arms", ",".join(arms), "--baseline", "transport", "--rounds", "2"]
    options += ["--max-rounds", "2"]
    options += ["--caller-stream", "default", "--same-buffer", "-c", "0", "-n", "3", "-w", "1", "-I", "-d", "float"]
    options += ["--nproc", "1", "--collective", "all_gather"]
    ended = sandbox.nccl_bench("run", *options, "--out", "there", "--format", "json")
    assert ended.code == 0, ended.stderr
    measured = [*arms, "transport:twin"]
    assert len(json.loads(ended.stdout)["summary"]) == len(measured)
    run = Run.load(sandbox.cwd / "there")
    assert (run.world_size, run.meta["status"]) == (1, "complete")
    # The default stream runs its work inline and cannot be held back, so only eager timing is left.
    assert [text.split()[0] for text in run.meta["left_out"]] == ["gated", "enqueue"]
    assert [line.arm for line in run.lines if isinstance(line, Samples)] == measured
    for line in run.lines:
        assert isinstance(line, Samples)
        assert (line.status, line.timing) == (Status.OK, Timing.EAGER)
        assert (line.case.collective, line.case.dtype, line.case.count) == ("all_gather", "float32", 256)
        assert (line.ops_per_batch, line.wrong, line.arena.slots) == (3, None, 1)
        assert line.per_iteration is not None
        assert line.per_iteration.operations >= 300
        assert line.per_iteration.min_us <= line.per_iteration.p50_us <= line.per_iteration.max_us
    sandbox.assert_nothing_is_left()


def test_a_relaunched_worker_continues_with_the_time_limit_of_the_whole_run(tmp_path: Path) -> None:
    # Four rounds are too few for an interval, so rounds would continue, but the time of the run is used up.
    layer = {"collectives": "all_gather", "sizes": "1K", "arms": "stream-free,transport", "rounds": 1, "max_rounds": 4}
    config = resolve("cpu", {**layer, "max_seconds": 500})
    store = RunStore.create(
        tmp_path / "run",
        name="late",
        command=[],
        config=config.to_mapping(),
        launch={"world_size": 1},
        left_out=[],
        environment={},
    )
    sandbox = Sandbox(tmp_path / "sandbox")
    spec_file = tmp_path / "spec.json"
    spec = WorkerSpec(config=config, run_dir=str(store.path), scratch=str(tmp_path))
    replace(spec, started=spec.started - 1000).write(spec_file)
    one_rank = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    worker = sandbox.start(
        "-m", "nccl_bench.bench.worker", str(spec_file), env=sandbox.environment(**one_rank, **meeting)
    )
    ended = sandbox.wait(worker)
    assert ended.code == 0, ended.stderr
    lines = [line for line in Run.load(store.path).lines if isinstance(line, Samples)]
    assert len(lines) == 3 * len(CPU_TIMINGS)
    assert {(line.status, line.wrong) for line in lines} == {(Status.OK, 0)}
    assert {line.rounds for line in lines if line.timing is not Timing.GATED} == {(0,)}
