"""The first call of a user arm with each exchange: what it takes, in which placement, and what it declines."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.config.user_arms import UserArm
from nccl_bench.errors import SetupError
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.ranks.control import Control
from nccl_bench.transports.device import open_device
from nccl_bench.verify.rig import Rig, call

SMALL, LARGE = DEVICES["cpu"].probe_sizes


class _Comm:
    """An object over one rank."""

    def __init__(self, group: object, device: object) -> None: ...


class TooLarge(_Comm):
    def all_reduce(self, tensor: Tensor) -> Tensor | None:
        return None if tensor.nbytes > SMALL else tensor.clone()


class Changing(_Comm):
    def all_reduce(self, tensor: Tensor) -> Tensor:
        return tensor.clone() if tensor.nbytes > SMALL else tensor


class Asked(_Comm):
    def should_custom_ar(self, inp: Tensor) -> bool:
        return False

    def custom_all_reduce(self, input: Tensor) -> Tensor:
        raise AssertionError("called although it said no")


class Lists(_Comm):
    def all_gather(self, input_: Tensor, *, out_list: list[Tensor] | None = None) -> list[Tensor]:
        blocks = [torch.empty_like(input_)] if out_list is None else out_list
        blocks[0].copy_(input_)
        return blocks

    def reduce_scatter(self, output: Tensor, input_list: list[Tensor]) -> None:
        output.copy_(input_list[0])

    def all_reduce(self, tensor: Tensor) -> Tensor:
        raise NotImplementedError


class OtherCount(_Comm):
    def all_reduce(self, tensor: Tensor) -> Tensor:
        return tensor.clone() if tensor.nbytes <= SMALL else tensor[1:].clone()


@pytest.fixture
def rig_of(one_rank: dist.ProcessGroup) -> Iterator[Callable[[type[_Comm]], Rig]]:
    """Yield a maker of rigs for the classes of this file, and close their arms."""
    device = open_device("cpu", 0)
    made: list[Arm] = []

    def rig_of(kind: type[_Comm]) -> Rig:
        user_arm = UserArm(name="mine", target=f"{__file__}:{kind.__name__}")
        made.append(Arm("mine", one_rank, device, user_arms=[user_arm]))
        return Rig(
            arm_probe=ArmProbe(arm="mine", probe="producer"),
            device=device,
            device_spec=DEVICES["cpu"],
            control=Control(one_rank),
            get_shared_arm=lambda: made[-1],
            make_arm=lambda: made[-1],
            announce_trial=lambda trial: None,
        )

    yield rig_of
    for arm in made:
        arm.close()


@pytest.mark.parametrize(
    ("kind", "taken", "declined"),
    [
        (TooLarge, ["returned all_reduce 1K"], ["all_reduce 256K (all_reduce returned None)"]),
        (Changing, ["all_reduce 1K", "returned all_reduce 256K"], []),
        (
            Asked,
            [],
            [f"all_reduce {size} (should_custom_ar returned False)" for size in ("1K", "256K")],
        ),
        (
            Lists,
            ["all_gather 1K", "all_gather 256K", "reduce_scatter 1K", "reduce_scatter 256K"],
            [f"all_reduce {size} (all_reduce raised NotImplementedError)" for size in ("1K", "256K")],
        ),
    ],
)
def test_each_exchange_is_tried_in_the_placement_that_its_first_call_shows(
    kind: type[_Comm], taken: list[str], declined: list[str], rig_of: Callable[[type[_Comm]], Rig]
) -> None:
    rig = rig_of(kind)
    exchanges = rig.exchanges()
    assert [exchange.name for exchange in exchanges] == taken
    assert rig.declined == declined
    assert [exchange.name for exchange in rig.exchanges()] == taken  # without more first calls
    for exchange in exchanges:
        exchange.reset(1)
        call(rig.arm, exchange)
        rig.device.streams.synchronize()
        assert exchange.find_error(exchange.output, 1) is None
    finding = rig.make_finding()
    assert finding.declined == tuple(declined)
    assert (finding.detail is not None) is bool(declined)


def test_a_result_of_another_size_is_refused(rig_of: Callable[[type[_Comm]], Rig]) -> None:
    with pytest.raises(SetupError, match=r"OtherCount\.all_reduce .* returned a torch\.float32 of shape \(65535, 1\)"):
        rig_of(OtherCount).exchanges()
