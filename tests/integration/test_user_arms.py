"""User arms in the real command: measured, verified, and harmless to other arms when they fail."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from nccl_bench.catalog.collectives import Placement
from nccl_bench.errors import ExitCode
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash, Hang, Samples, Status
from tests.support.command import CommandResult, Sandbox

pytestmark = pytest.mark.timeout(240)

ENGINES = Path(__file__).parents[1] / "support" / "user_communicators.py"
SMALL = ENGINES.with_name("small_user_communicators.py")
EXAMPLE = Path(__file__).parents[2] / "nccl_bench" / "guide" / "my_communicator.py"
FAULTY = """\
import time


class Raises:
    def __init__(self, group, device):
        self.group = group

    def all_reduce(self, tensor, op=None) -> None:
        raise RuntimeError("out of order")


class Hangs(Raises):
    def all_reduce(self, tensor, op=None) -> None:
        time.sleep(1000)
"""
# The two trees hold two versions of a module that registers an operator. Torch accepts the operator once a process.
ENGINE = """\
import torch
import torch.distributed as dist

LIBRARY = torch.library.Library("nccl_bench_tests", "FRAGMENT")
LIBRARY.define("both_trees_have_it(Tensor x) -> Tensor")


class Comm:
    version = {version!r}

    def __init__(self, group, device):
        self.group = group

    def all_reduce(self, tensor, op=dist.ReduceOp.SUM):
        {work}
"""
IN_PLACE = "dist.all_reduce(tensor, op, group=self.group)"
# The refactor: the new version returns its result.
RETURNING = f"tensor = tensor.clone(); {IN_PLACE}; return tensor"
RUN = (
    *("run", "--sizes", "1K,16K", "--collective", "all_reduce,all_gather", "--timing", "eager"),
    *("--arms", "stream-free", "--baseline", "stream-free"),
    *("--rounds", "3", "--max-rounds", "3", "-n", "10", "-T", "5", "--width", "160", "--full"),
    *("--arm", f"mine={ENGINES}:EngineBefore", "--arm", f"moved={ENGINES}:EngineAfter"),
    *("--arm", "raises=faulty.py:Raises", "--arm", "hangs=faulty.py:Hangs"),
    *("--arm", f"next={ENGINES}:NextEngine", "--arm", f"custom={SMALL}:CustomAllReduce"),
    *("--arm", f"handles={SMALL}:Asynchronous"),
    *("--arm", f"example={EXAMPLE}:MyCommunicator"),
    *("--before-tree", "old", "--after-tree", "new", "--arm", "engine.comm:Comm"),
)
MEASURED = ("stream-free", "stream-free:twin", "mine", "moved", "example", "before", "after")
# Arms in the signatures of other engines.
OTHERS = ("next", "handles", "custom")


def write_files(cwd: Path) -> None:
    (cwd / "faulty.py").write_text(FAULTY, encoding="utf-8")
    for tree, work in (("old", IN_PLACE), ("new", RETURNING)):
        (cwd / tree / "engine").mkdir(parents=True)
        (cwd / tree / "engine" / "__init__.py").write_text("", encoding="utf-8")
        (cwd / tree / "engine" / "comm.py").write_text(ENGINE.format(version=tree, work=work), encoding="utf-8")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Run the command once with every user arm."""
    sandbox = Sandbox(tmp_path_factory.mktemp("user_arms"))
    write_files(sandbox.cwd)
    ended = sandbox.nccl_bench(*RUN)
    sandbox.assert_nothing_is_left()
    return SimpleNamespace(ended=ended, run=sandbox.only_run(), cwd=sandbox.cwd)


def test_every_working_arm_has_samples_of_what_it_supports(ran: SimpleNamespace) -> None:
    run: Run = ran.run
    right = {
        (line.arm, line.case.collective)
        for line in run.lines
        if isinstance(line, Samples) and line.status is Status.OK and line.samples_us
    }
    both = {(arm, collective) for arm in (*MEASURED, *OTHERS) for collective in ("all_reduce", "all_gather")}
    # These have only an all_reduce.
    assert right == both - {(arm, "all_gather") for arm in ("before", "after", "custom")}
    assert "before does not support all_gather" in " ".join(ran.ended.stdout.split())


def test_the_calls_of_every_size_show_their_placement_or_that_the_arm_declines(ran: SimpleNamespace) -> None:
    seen = {
        (line.arm, line.case.collective, line.case.size_bytes): line.reason or line.placement
        for line in ran.run.lines
        if isinstance(line, Samples) and line.arm in OTHERS
    }
    small, large = 1024, 16 * 1024
    assert seen == {
        ("next", "all_reduce", small): Placement.IN_PLACE,
        ("next", "all_reduce", large): Placement.RETURNED,
        ("handles", "all_reduce", small): Placement.IN_PLACE,
        ("handles", "all_reduce", large): Placement.IN_PLACE,
        ("custom", "all_reduce", small): Placement.RETURNED,
        ("custom", "all_reduce", large): "should_custom_ar returned False",
        **{("next", "all_gather", size): Placement.OUT_OF_PLACE for size in (small, large)},
        **{("handles", "all_gather", size): Placement.RETURNED for size in (small, large)},
    }
    declined = "custom declines all_reduce bfloat16 sum from 16K on: should_custom_ar returned False"
    assert declined in " ".join(ran.ended.stdout.split())


def test_one_case_compares_the_engine_in_place_before_with_the_engine_returning_after(ran: SimpleNamespace) -> None:
    placements = {line.arm: line.placement for line in ran.run.lines if isinstance(line, Samples)}
    assert (placements["before"], placements["after"]) == (Placement.IN_PLACE, Placement.RETURNED)
    printed = " ".join(ran.ended.stdout.split())
    assert "Against stream-free: all_reduce bfloat16 sum in-place" in printed
    assert "Against stream-free: all_reduce bfloat16 sum, returned against in-place" in printed
    # Their columns are in one table.
    header = next(line.split() for line in ran.ended.stdout.splitlines() if line.strip().startswith("(in-place) "))
    assert {"(in-place)", "(returned)"} <= {*header}


def test_a_failing_user_arm_is_one_message_with_arm_call_and_source_line(ran: SimpleNamespace) -> None:
    ended: CommandResult = ran.ended
    (crash,) = (line for line in ran.run.lines if isinstance(line, Crash))
    line = re.escape("(faulty.py:9)")
    assert crash.arm == "raises"
    assert re.search(rf"the arm raises: Raises\.all_reduce raised RuntimeError: out of order {line}$", crash.message)
    (hang,) = (line for line in ran.run.lines if isinstance(line, Hang))
    assert hang.case is not None
    assert (hang.arm, hang.case.collective) == ("hangs", "all_reduce")
    assert hang.call == "all_reduce (faulty.py:14)"
    assert "Traceback" not in ended.stdout + ended.stderr
    assert ended.code == ExitCode.HANG


def test_arms_that_cannot_share_processes_get_their_own_and_the_report_gives_the_reason(ran: SimpleNamespace) -> None:
    process_sets = {tuple(process_set["arms"]): process_set for process_set in ran.run.meta["worker"]["process_sets"]}
    # Torch accepts an operator once a process, so the second tree needs other processes.
    assert "both_trees_have_it" in process_sets["after",]["reason"]
    printed = " ".join(ran.ended.stdout.split())
    reason = "the arm's set-up failed beside other arms: engine.comm:Comm: importing"
    assert f"after: in separate processes ({reason}" in printed


def test_the_record_names_adapter_and_order_of_each_user_arm(ran: SimpleNamespace) -> None:
    orders = {
        user_arm["arm"]: (user_arm["adapter"], user_arm["order"]) for user_arm in ran.run.meta["worker"]["user_arms"]
    }
    assert orders["mine"] == ("pynccl", "fork-join")
    assert orders["moved"] == ("pynccl", "current")
    assert "order fork-join" in ran.ended.stdout


def test_verify_catches_the_engine_before_its_refactor_used_bare_and_passes_it_after(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    arms = ("--arm", f"before={ENGINES}:EngineBefore,order=bare", "--arm", f"after={ENGINES}:EngineAfter")
    arms = (*arms, "--arm", f"example={EXAMPLE}:MyCommunicator", "--arm", f"dropped={SMALL}:EndsWhenDropped")
    arms = (*arms, "--arm", f"handles={SMALL}:Asynchronous", "--arm", f"custom={SMALL}:CustomAllReduce")
    arms = (*arms, "--arm", f"returning={SMALL}:ReturningBefore,order=bare")
    ended = sandbox.nccl_bench("verify", *arms, "--probes", "producer,consumer,async,lifetime")
    sandbox.assert_nothing_is_left()
    rows = dict(
        re.findall(r"(?m)^(before|after|example|dropped|handles|custom|returning) +([a-zA-Z-]+ .*)$", ended.stdout)
    )
    # The engine's classes have no method that ends a communicator, and torch keeps their groups.
    assert {arm: row.split() for arm, row in rows.items()} == {
        "before": ["FAIL", "FAIL", "-", "-"],
        "after": ["pass", "pass", "pass", "leaks"],
        "example": ["pass", "pass", "-", "pass"],
        "dropped": ["pass", "pass", "-", "pass"],
        "handles": ["pass", "pass", "-", "pass"],
        "custom": ["pass", "pass", "-", "leaks"],
        "returning": ["FAIL", "FAIL", "-", "-"],
    }
    printed = " ".join(ended.stdout.split())
    assert "custom was not tried with all_reduce 256K (should_custom_ar returned False)" in printed
    assert re.search(r"- after, \S.*?, rank \d: \d+ after one communicator, .*? for each communicator - ", printed)
    assert "No method ends the object of after, custom, so the arm dropped it" in printed
    assert ended.code == ExitCode.RACE
