"""Communicators of the user's in the real command: measured, proven, and of no harm to others where they fail."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from nccl_bench.errors import ExitCode
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash, Hang, Samples, Status
from tests.support.command import CommandResult, Sandbox

pytestmark = pytest.mark.timeout(240)

ENGINES = Path(__file__).parents[1] / "support" / "user_communicators.py"
EXAMPLE = Path(__file__).parents[2] / "nccl_bench" / "guide" / "my_communicator.py"
FAULTY = """\
import time


class Raises:
    def __init__(self, group, device):
        self.group = group

    def all_reduce(self, tensor, op=None) -> None:
        raise RuntimeError("no luck today")


class Hangs(Raises):
    def all_reduce(self, tensor, op=None) -> None:
        time.sleep(1000)
"""
# Two versions of one module, each of which registers the same operator with torch, which takes it once a process.
ENGINE = """\
import torch
import torch.distributed as dist

LIBRARY = torch.library.Library("nccl_bench_tests", "FRAGMENT")
LIBRARY.define("both_trees_have_it(Tensor x) -> Tensor")


class Comm:
    version = {version!r}

    def __init__(self, group, device):
        self.group = group

    def all_reduce(self, tensor, op=dist.ReduceOp.SUM) -> None:
        dist.all_reduce(tensor, op, group=self.group)
"""
RUN = (
    *("run", "--sizes", "1K", "--collective", "all_reduce,all_gather", "--timing", "eager", "--arms", "stream-free"),
    *("--rounds", "3", "--max-rounds", "3", "-n", "10", "-T", "5", "--width", "160", "--baseline", "stream-free"),
    *("--arm", f"mine={ENGINES}:EngineBefore", "--arm", f"moved={ENGINES}:EngineAfter"),
    *("--arm", "raises=faulty.py:Raises", "--arm", "hangs=faulty.py:Hangs"),
    *("--arm", f"example={EXAMPLE}:MyCommunicator", "--arm", "quiet=stream-free,NCCL_BENCH_TESTS=1"),
    *("--before-tree", "old", "--after-tree", "new", "--arm", "engine.comm:Comm"),
)
MEASURED = ("stream-free", "stream-free:twin", "mine", "moved", "example", "before", "after", "quiet")


def write_files(cwd: Path) -> None:
    (cwd / "faulty.py").write_text(FAULTY, encoding="utf-8")
    for tree in ("old", "new"):
        (cwd / tree / "engine").mkdir(parents=True)
        (cwd / tree / "engine" / "__init__.py").write_text("", encoding="utf-8")
        (cwd / tree / "engine" / "comm.py").write_text(ENGINE.format(version=tree), encoding="utf-8")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """One run of everything."""
    place = Sandbox(tmp_path_factory.mktemp("user_arms"))
    write_files(place.cwd)
    ended = place.nccl_bench(*RUN)
    place.assert_nothing_is_left()
    return SimpleNamespace(ended=ended, run=place.the_run(), cwd=place.cwd)


def test_every_arm_that_works_has_its_column(ran: SimpleNamespace) -> None:
    run: Run = ran.run
    right = {
        (line.arm, line.case.collective)
        for line in run.lines
        if isinstance(line, Samples) and line.status is Status.OK and line.samples_us
    }
    both = {(arm, collective) for arm in MEASURED for collective in ("all_reduce", "all_gather")}
    # The engine in the trees has an all_reduce and nothing else.
    assert right == both - {("before", "all_gather"), ("after", "all_gather")}
    assert "before: unsupported by it: all_gather in-place" in " ".join(ran.ended.stdout.split())


def test_what_fails_is_one_message_with_the_arm_the_call_and_the_line_of_the_user(ran: SimpleNamespace) -> None:
    ended: CommandResult = ran.ended
    (crash,) = (line for line in ran.run.lines if isinstance(line, Crash))
    line = re.escape("(faulty.py:9)")
    assert crash.arm == "raises"
    assert re.search(rf"the arm raises: Raises\.all_reduce raised RuntimeError: no luck today {line}$", crash.message)
    (hang,) = (line for line in ran.run.lines if isinstance(line, Hang))
    assert hang.case is not None
    assert (hang.arm, hang.case.collective) == ("hangs", "all_reduce")
    assert hang.call == "all_reduce (faulty.py:14)"
    assert "Traceback" not in ended.stdout + ended.stderr
    assert ended.code == ExitCode.HANG


def test_what_cannot_be_beside_another_is_in_processes_of_its_own_and_that_is_said(ran: SimpleNamespace) -> None:
    process_sets = {tuple(world["arms"]): world for world in ran.run.meta["worker"]["process_sets"]}
    assert process_sets["quiet",]["variables"] == {"NCCL_BENCH_TESTS": "1"}
    # Torch takes an operator once, so the second of the trees has to be elsewhere.
    assert "both_trees_have_it" in process_sets["after",]["reason"]
    said = " ".join(ran.ended.stdout.split())
    across = "in processes of its own, so its pairs are across processes, which take turns on the same devices"
    assert f"quiet: {across}: NCCL_BENCH_TESTS=1 is for it alone" in said
    assert f"after: {across}: beside the others it did not get past set-up, engine.comm:Comm: importing" in said


def test_how_an_arm_is_adapted_and_ordered_is_said(ran: SimpleNamespace) -> None:
    orders = {
        user_arm["arm"]: (user_arm["adapter"], user_arm["order"]) for user_arm in ran.run.meta["worker"]["user_arms"]
    }
    assert orders["mine"] == ("pynccl", "fork-join")
    assert orders["moved"] == ("pynccl", "current")
    assert "order fork-join" in ran.ended.stdout


def test_before_is_caught_when_it_is_used_bare_and_after_passes(tmp_path: Path) -> None:
    place = Sandbox(tmp_path)
    arms = ("--arm", f"before={ENGINES}:EngineBefore,order=bare", "--arm", f"after={ENGINES}:EngineAfter")
    arms = (*arms, "--arm", f"example={EXAMPLE}:MyCommunicator")
    ended = place.nccl_bench("verify", *arms, "--probes", "producer,consumer,lifetime")
    place.assert_nothing_is_left()
    rows = dict(re.findall(r"(?m)^(before|after|example) +(.*)$", ended.stdout))
    # The engine's have nothing to end what they make.
    assert {arm: row.split() for arm, row in rows.items()} == {
        "before": ["FAIL", "FAIL", "-"],
        "after": ["pass", "pass", "-"],
        "example": ["pass", "pass", "pass"],
    }
    assert "nothing can end what it makes" in " ".join(ended.stdout.split())
    assert ended.code == ExitCode.RACE
