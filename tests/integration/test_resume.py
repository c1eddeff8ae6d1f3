"""A run of a workload in two launches whose command is killed, and its continuation, in real processes."""

from __future__ import annotations

import csv
import itertools
import signal
from types import SimpleNamespace

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.bench.profile import CALLS
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.workload import Workload, workload_text
from nccl_bench.plan.shuffling import cases_of_launches
from nccl_bench.records.run import FILES, PROFILES, Run
from nccl_bench.records.schema import Crash, Samples
from nccl_bench.traces.readers import read_recordings
from nccl_bench.traces.recording import Call, Message, Mode
from tests.support.command import Sandbox, wait_until
from tests.support.workloads import message

pytestmark = pytest.mark.timeout(200)
ROUNDS = ("--rounds", "1", "--max-rounds", "1", "-w", "1", "-n", "4")
RUN = ("run", "--arms", "stream-free,torch", *ROUNDS, "--launches", "2", "--seed", "3", "--profile")
MEASURED = ("stream-free", "torch", "stream-free:twin")
SIZES = (1024, 2048, 4096, 8192)
# Messages in graphs are measured gated, because the CPU has no graphs.
CELLS = ((1024, Timing.EAGER), (2048, Timing.GATED), (4096, Timing.EAGER), (4096, Timing.GATED), (8192, Timing.EAGER))
WORKLOAD = Workload(
    messages=tuple(
        message(size, count, Timing.GRAPH if timing is Timing.GATED else timing)
        for count, (size, timing) in enumerate(CELLS, start=1)
    )
)


@pytest.fixture(scope="module")
def continued(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Kill a run, and continue it. The last case of the first launch crashes then, and is measured in a second try."""
    sandbox = Sandbox(tmp_path_factory.mktemp("resume"))
    planted = [("hang", 4096), ("raise", 8192)]
    env = sandbox.environment(
        [
            {"rank": 1, "arm": "torch", "act": act, "size_bytes": size, "once": str(sandbox.cwd / act)}
            for act, size in planted
        ]
    )
    directory = sandbox.cwd / "there"
    (sandbox.cwd / "model.toml").write_text(workload_text(WORKLOAD), encoding="utf-8")
    process = sandbox.start("-m", "nccl_bench", *RUN, "model.toml", "--out", "there", env=env)
    wait_until((sandbox.cwd / "hang").exists, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    report = sandbox.nccl_bench("report", "there", "--width", "200")
    assert "  KILLED: " in report.stdout
    assert "; 2 of 8 cases in 2 launches\n" in report.stdout
    before = (directory / "samples.jsonl").read_bytes()

    resumed = sandbox.nccl_bench("run", "--resume", "there", "--width", "200", env=env)
    sandbox.assert_nothing_is_left()
    return SimpleNamespace(directory=directory, before=before, resumed=resumed)


def test_a_killed_run_is_continued_on_the_same_plan_and_loses_only_the_case_in_hand(continued: SimpleNamespace) -> None:
    directory, resumed = continued.directory, continued.resumed
    assert resumed.code == 3, resumed.stderr
    assert resumed.stderr == f"nccl-bench: recorded in {directory}\n"
    assert "; 8 of 8 cases in 2 launches\n" in resumed.stdout
    assert "ValueError: planted; the case was measured in another try" in resumed.stdout
    assert (directory / "samples.jsonl").read_bytes().startswith(continued.before)
    assert sorted(path.name for path in directory.iterdir()) == sorted((*FILES, PROFILES))
    run = Run.load(directory)
    assert (run.meta["status"], len(run.resumes), run.warnings) == ("complete", 1, ())
    measured = [
        (line.launch, line.case.size_bytes, line.arm, line.timing) for line in run.lines if isinstance(line, Samples)
    ]
    assert sorted(measured) == sorted(
        (launch, size, arm, timing) for launch, (size, timing), arm in itertools.product((1, 2), CELLS, MEASURED)
    )
    # The second launch has an order of its own.
    second = dict.fromkeys(size for launch, size, _, _ in measured if launch == 2)
    assert list(second) == [SIZES[index] for index in cases_of_launches(len(SIZES), 2, seed=3)[1]] != list(SIZES)
    with (directory / "summary.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cells = [row for row in rows if row["timing"]]
    assert len(cells) == len(CELLS) * len(MEASURED)
    assert {(row["launches"], row["rounds"]) for row in cells} == {("2", "2")}
    assert all(float(row["communicator_variance"]) > 0 for row in cells if row["verdict"])
    # Each launch has a step time of its own.
    step = Analysis.of(run).step
    assert step is not None
    assert [(arm.arm, arm.missing) for arm in step.arms] == [("stream-free", ()), ("torch", ())]
    assert [each.launches for each in step.comparisons] == [2]
    (crash,) = (line for line in run.lines if not isinstance(line, Samples))
    assert isinstance(crash, Crash)
    assert (crash.case and crash.case.size_bytes, crash.arm, crash.launch) == (8192, "torch", 1)


def test_profiles_have_the_calls_that_were_made(continued: SimpleNamespace) -> None:
    profiles = Run.load(continued.directory).meta["worker"]["profiles"]
    assert [(each["arm"], each["case"].split()[-2]) for each in profiles] == [
        (arm, str(size)) for size in (SIZES[0], SIZES[-1]) for arm in ("stream-free", "torch")
    ]
    assert {path.name for path in (continued.directory / PROFILES).iterdir()} == {
        each["file"].removeprefix(f"{PROFILES}/") for each in profiles
    }
    for each in profiles:
        size_bytes = int(each["case"].split()[-2])
        (recording,) = read_recordings(continued.directory / each["file"])
        message = Message("all_reduce", "bfloat16", size_bytes, size_bytes, 2)
        assert recording.calls == {Call(message, Mode.EAGER, ""): CALLS}
        assert (each["eager_calls"], each["graph_calls"], recording.rank) == (CALLS, 0, 0)
    assert "4 profiles of torch.profiler are in the directory `profile`" in continued.resumed.stdout
