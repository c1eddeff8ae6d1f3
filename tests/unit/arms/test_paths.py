"""The recorded path of an arm, and the report's warning about two arms with the same path."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.arms import twin_of
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.routes import Mode
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.routes import override
from nccl_bench.config.user_arms import UserArm
from nccl_bench.errors import InvalidArgumentError
from nccl_bench.transports.device import Device
from tests.support.synthetic_runs import case, run, samples

OURS = "gloo all_reduce on the current stream"
TORCH = "torch.distributed, synchronous"


def paths(arm: Arm, collective: str = "all_reduce") -> tuple[str, str]:
    """Return the path of a collective, eagerly and in graphs."""
    tensor = torch.zeros(8, dtype=torch.bfloat16)
    by_mode = arm.paths(case(16, collective), tensor, tensor)
    return by_mode[Mode.EAGER], by_mode[Mode.GRAPH]


@pytest.mark.parametrize(
    ("name", "eager", "graph"),
    [
        ("stream-free", OURS, OURS),
        ("transport", OURS, OURS),
        ("dedicated-stream", *["gloo all_reduce on a private stream, fork-join"] * 2),
        ("dedicated-stream-wait-stream", *["gloo all_reduce on a private stream, wait-stream"] * 2),
        ("torch", TORCH, TORCH),
        ("torch-async", *["torch.distributed, asynchronous"] * 2),
        ("coordinator", TORCH, OURS),
        ("coordinator-legacy", TORCH, OURS),
    ],
)
def test_a_path_names_the_calls_and_the_stream(
    one_rank: dist.ProcessGroup, device: Device, name: str, eager: str, graph: str
) -> None:
    with device.streams.stream(device.streams.new_stream()):
        arm = Arm(name, one_rank, device)
        assert paths(arm) == (eager, graph)
        arm.close()


def test_a_private_stream_that_is_current_counts_as_the_current_stream(
    one_rank: dist.ProcessGroup, device: Device
) -> None:
    arm = Arm("dedicated-stream", one_rank, device)
    with device.streams.stream(arm.communicator.stream):
        assert paths(arm)[0] == OURS
    with device.streams.stream(device.streams.new_stream()):
        assert paths(arm)[0] != OURS
        arm.move(device.streams.current_stream())
        assert paths(arm)[0] == OURS
    arm.close()


def test_a_coordinators_path_follows_its_routes(one_rank: dist.ProcessGroup, device: Device) -> None:
    arm = Arm("coordinator", one_rank, device, override(["eager=communicator", "graph=torch"]))
    assert paths(arm) == (OURS, TORCH)
    arm.close()


def test_the_path_of_an_arm_with_variables_names_them(one_rank: dist.ProcessGroup, device: Device) -> None:
    for target, path in (("torch", TORCH), ("stream-free", OURS)):
        user_arm = UserArm(name="mine", target=target, variables={"NCCL_ALGO": "Ring"})
        arm = Arm("mine", one_rank, device, user_arms=[user_arm])
        assert paths(arm)[0] == f"{path}, NCCL_ALGO=Ring"
        arm.close()


def test_the_path_of_send_recv_names_both_calls(one_rank: dist.ProcessGroup, device: Device) -> None:
    arm = Arm("stream-free", one_rank, device)
    assert "send_recv" in COLLECTIVES
    assert paths(arm, "send_recv")[0] == "gloo send and recv on the current stream"
    arm.close()


def test_tracing_ends_with_its_block_also_after_an_exception(one_rank: dist.ProcessGroup, device: Device) -> None:
    arm = Arm("stream-free", one_rank, device)
    communicator: Any = arm.communicator
    with pytest.raises(InvalidArgumentError), communicator.traced() as calls:
        communicator.all_reduce(torch.zeros(1, device="meta"))
    communicator.all_reduce(torch.zeros(1))
    assert calls == []
    with communicator.traced() as calls:
        communicator.all_reduce(torch.zeros(1))
    communicator.all_reduce(torch.zeros(1))
    assert len(calls) == 1
    arm.close()


def warnings(*paths: tuple[str, str, str], timings: tuple[Timing, ...] = (Timing.GATED, Timing.GRAPH)) -> list[str]:
    """Return the report's warnings about arms with these paths, eagerly and in graphs; the first is the baseline."""
    names = [name for name, _, _ in paths]
    made = run([samples(name, timing) for name in names for timing in timings], baseline=names[0], arms=names)
    made.meta["worker"] = {
        "paths": [{"collective": "all_reduce", "arm": name, "eager": a, "graph": b} for name, a, b in paths]
    }
    return [text for text in Analysis.of(made).warnings if "same path" in text]


def test_two_arms_with_one_path_are_reported_by_mode() -> None:
    (text,) = warnings(("torch", TORCH, TORCH), ("coordinator", TORCH, OURS))
    assert "coordinator and torch run the same path in all_reduce (gated): torch.distributed, synchronous." in text
    assert len(warnings(("torch", TORCH, TORCH), ("mine", TORCH, TORCH))) == 2
    assert len(warnings(("torch", TORCH, TORCH), ("mine", TORCH, TORCH), timings=(Timing.GRAPH,))) == 1


def test_other_paths_and_the_baselines_twin_are_not_reported() -> None:
    assert warnings(("torch", TORCH, TORCH), ("stream-free", OURS, OURS), (twin_of("torch"), TORCH, TORCH)) == []
    assert warnings(("torch", TORCH, TORCH)) == []


def test_a_run_without_paths_has_no_such_warning() -> None:
    assert [text for text in Analysis.of(run([samples("torch")])).warnings if "same path" in text] == []
