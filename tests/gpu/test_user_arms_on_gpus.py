"""An engine's communicator over NCCL before and after its refactor: both are measured, and one is caught."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nccl_bench.catalog.collectives import Placement
from nccl_bench.errors import ExitCode
from nccl_bench.records.schema import Samples, Status
from tests.support.command import gpu_sandbox

pytestmark = pytest.mark.timeout(620)

ENGINE = Path(__file__).parents[1] / "support" / "user_communicators_cuda.py"
BEFORE, AFTER = f"before={ENGINE}:EngineBefore", f"after={ENGINE}:EngineAfter"


ADDS_IN_GRAPHS_AND_WRITES_LATE = """
import torch
import torch.distributed as dist


class AddsInGraphs:
    def __init__(self, group, device):
        self.group = dist.new_group(dist.get_process_group_ranks(group), backend="nccl")

    def all_reduce(self, tensor, op=dist.ReduceOp.SUM) -> None:
        dist.all_reduce(tensor, op, group=self.group)
        if torch.cuda.is_current_stream_capturing():
            tensor.add_(1)


class WritesLate(AddsInGraphs):
    def __init__(self, group, device):
        super().__init__(group, device)
        self.side = torch.cuda.Stream()

    def all_reduce(self, tensor, op=dist.ReduceOp.SUM) -> None:
        dist.all_reduce(tensor, op, group=self.group)
        if not torch.cuda.is_current_stream_capturing():
            with torch.cuda.stream(self.side):
                torch.cuda._sleep(20_000_000)
                tensor.fill_(3)
"""


def test_only_the_arms_that_are_wrong_in_graphs_or_write_late_are_called_wrong(tmp_path: Path) -> None:
    sandbox = gpu_sandbox(tmp_path)
    (tmp_path / "wrong.py").write_text(ADDS_IN_GRAPHS_AND_WRITES_LATE)
    added = [f"{name}={tmp_path / 'wrong.py'}:{name},order=current" for name in ("AddsInGraphs", "WritesLate")]
    few = ("--sizes", "8,1M", "--rounds", "3", "--max-rounds", "3", "--timing", "eager,graph", "--nproc", "1")
    ended = sandbox.nccl_bench("run", "--arms", "torch", "--arm", added[0], "--arm", added[1], *few)
    assert ended.code == ExitCode.WRONG_RESULT, ended.stderr
    lines = [line for line in sandbox.only_run().lines if isinstance(line, Samples)]
    wrong = {(line.arm, str(line.timing)) for line in lines if line.status is Status.WRONG}
    assert wrong - {("WritesLate", "graph")} == {("AddsInGraphs", "graph"), ("WritesLate", "eager")}
    assert all(line.late for line in lines if (line.arm, line.timing) == ("WritesLate", "eager"))


RETURNS = """
import torch
import torch.distributed as dist


class Returns:
    def __init__(self, group, device):
        self.group = dist.new_group(dist.get_process_group_ranks(group), backend="nccl")

    def all_reduce(self, tensor, op=dist.ReduceOp.SUM):
        out = tensor.clone()
        dist.all_reduce(out, op, group=self.group)
        return out

    def close(self):
        dist.destroy_process_group(self.group)


class ForgetsInGraphs(Returns):
    def all_reduce(self, tensor, op=dist.ReduceOp.SUM):
        if torch.cuda.is_current_stream_capturing():
            return torch.empty_like(tensor)
        return super().all_reduce(tensor, op)
"""


def test_returned_results_are_right_in_every_timing_and_an_unwritten_one_is_called_wrong(tmp_path: Path) -> None:
    sandbox = gpu_sandbox(tmp_path)
    (tmp_path / "returns.py").write_text(RETURNS)
    added = [f"{name}={tmp_path / 'returns.py'}:{name}" for name in ("Returns", "ForgetsInGraphs")]
    few = ("--sizes", "8,1M,64M", "--rounds", "3", "--max-rounds", "3", "--timing", "all", "--nproc", "1")
    arms = ("--arms", "stream-free,dedicated-stream,coordinator", "--arm", added[0], "--arm", added[1])
    ended = sandbox.nccl_bench("run", *arms, "--placement", "returned", *few)
    assert ended.code == ExitCode.WRONG_RESULT, ended.stderr
    lines = [line for line in sandbox.only_run().lines if isinstance(line, Samples)]
    assert {line.placement for line in lines} == {Placement.RETURNED}
    wrong = {(line.arm, str(line.timing)) for line in lines if line.status is Status.WRONG}
    assert wrong == {("ForgetsInGraphs", "graph")}
    assert all(line.samples_us for line in lines if line.arm != "ForgetsInGraphs")
    verified = sandbox.nccl_bench("verify", "--arm", added[0], "--format", "json")
    assert verified.code == ExitCode.OK, verified.stderr
    statuses = {
        cell["probe"]: cell["status"] for cell in json.loads(verified.stdout)["cells"] if cell["arm"] == "Returns"
    }
    assert {probe for probe, status in statuses.items() if status == "pass"} == {
        *("order", "producer", "consumer", "allocator", "capture", "many", "lifetime"),
    }


@pytest.mark.gpus(2)
def test_an_engine_before_and_after_and_an_arm_in_its_own_processes_have_right_results(tmp_path: Path) -> None:
    sandbox = gpu_sandbox(tmp_path)
    arms = ("--arms", "stream-free", "--arm", BEFORE, "--arm", AFTER, "--arm", "few=stream-free,NCCL_MAX_CTAS=2")
    few = ("--sizes", "8,1M", "--collective", "all_reduce,all_gather", "--rounds", "3", "--max-rounds", "3")
    ended = sandbox.nccl_bench("run", *arms, *few, "--baseline", "stream-free")
    assert ended.code == ExitCode.OK, ended.stderr
    run = sandbox.only_run()
    lines = [line for line in run.lines if isinstance(line, Samples)]
    assert all(line.status is Status.OK and line.wrong == 0 for line in lines)
    assert {line.arm for line in lines} == {"stream-free", "stream-free:twin", "before", "after", "few"}
    orders = {user_arm["arm"]: user_arm["order"] for user_arm in run.meta["worker"]["user_arms"]}
    assert orders == {"before": "fork-join", "after": "current"}
    assert [process_set["arms"] for process_set in run.meta["worker"]["process_sets"]][1] == ["few"]


def test_verify_catches_the_engine_before_its_refactor_used_bare_and_passes_it_after(tmp_path: Path) -> None:
    sandbox = gpu_sandbox(tmp_path)
    ended = sandbox.nccl_bench("verify", "--arm", f"{BEFORE},order=bare", "--arm", AFTER, "--format", "json")
    assert ended.code == ExitCode.RACE, ended.stderr
    statuses = {(cell["arm"], cell["probe"]): cell["status"] for cell in json.loads(ended.stdout)["cells"]}
    assert {statuses["before", probe] for probe in ("order", "producer", "consumer")} == {"FAIL"}
    assert {probe for (arm, probe), status in statuses.items() if arm == "after" and status == "pass"} == {
        *("order", "producer", "consumer", "allocator", "capture", "many", "lifetime"),
    }


OTHERS = ("CustomAllReduce", "Asynchronous", "NextEngine")


def arms_of_others() -> list[str]:
    return [text for name in OTHERS for text in ("--arm", f"{name}={ENGINE}:{name}")]


def test_every_way_of_calling_works_eagerly_and_in_graphs(tmp_path: Path) -> None:
    sandbox = gpu_sandbox(tmp_path)
    few = ("--sizes", "1K,1M", "--rounds", "3", "--max-rounds", "3", "--timing", "eager,graph", "--nproc", "1")
    collectives = ("--collective", "all_reduce,all_gather,reduce_scatter", "--arms", "torch")
    ended = sandbox.nccl_bench("run", *collectives, *arms_of_others(), *few)
    assert ended.code == ExitCode.OK, ended.stdout + ended.stderr
    lines = [line for line in sandbox.only_run().lines if isinstance(line, Samples) and line.arm in OTHERS]
    assert {line.wrong for line in lines if line.status is Status.OK} == {0}
    declined = {
        (line.arm, line.case.collective, line.case.size_bytes, str(line.timing)): line.reason
        for line in lines
        if line.status is Status.DECLINED
    }
    large, captured = 1024**2, "it returned None while a graph was captured"
    assert declined == {
        ("CustomAllReduce", "all_reduce", large, "eager"): "should_custom_ar returned False",
        ("CustomAllReduce", "all_reduce", large, "graph"): "should_custom_ar returned False",
        ("NextEngine", "all_gather", 1024, "graph"): captured,
        ("NextEngine", "all_gather", large, "graph"): captured,
    }
    measured = {(line.arm, line.case.collective, str(line.placement)) for line in lines if line.status is Status.OK}
    assert measured == {
        ("CustomAllReduce", "all_reduce", "returned"),
        ("Asynchronous", "all_reduce", "in-place"),
        ("Asynchronous", "all_gather", "returned"),
        ("NextEngine", "all_reduce", "in-place"),
        ("NextEngine", "all_gather", "returned"),
        ("NextEngine", "reduce_scatter", "in-place"),
    }


def test_verify_passes_every_way_of_calling(tmp_path: Path) -> None:
    sandbox = gpu_sandbox(tmp_path)
    probes = ("--probes", "producer,consumer,allocator,capture,many", "--format", "json")
    ended = sandbox.nccl_bench("verify", *arms_of_others()[:4], *probes)
    assert ended.code == ExitCode.OK, ended.stdout + ended.stderr
    cells = [cell for cell in json.loads(ended.stdout)["cells"] if cell["arm"] in OTHERS]
    assert {cell["status"] for cell in cells} == {"pass"}
    assert {tuple(cell["declined"]) for cell in cells if cell["arm"] == "CustomAllReduce"} != {()}
