"""The first call of each user arm in a case: its placement, or that it declines, in runs of one rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.bench import first_call
from nccl_bench.bench.first_call import try_captures
from nccl_bench.catalog.collectives import Placement
from nccl_bench.config.run import resolve
from nccl_bench.errors import SetupError
from nccl_bench.ranks.progress import Progress
from nccl_bench.records.schema import Samples, Status
from nccl_bench.transports.device import open_device
from tests.support.one_rank_run import run_on_one_rank

SMALL, LARGE = 1024, 4096


class _Comm:
    """An all-reduce over one rank."""

    def __init__(self, group: object, device: object) -> None: ...


class TooLarge(_Comm):
    def all_reduce(self, tensor: Tensor) -> Tensor | None:
        return None if tensor.nbytes > SMALL else tensor.clone()


class Asked(_Comm):
    def should_custom_ar(self, inp: Tensor) -> bool:
        return inp.nbytes <= SMALL

    def custom_all_reduce(self, input: Tensor) -> Tensor:
        assert self.should_custom_ar(input), "called without a question"
        return input.clone()


class Unfinished(_Comm):
    def all_reduce(self, tensor: Tensor) -> Tensor:
        if tensor.nbytes > SMALL:
            raise NotImplementedError("no kernel for this type")
        return tensor


class Changing(_Comm):
    def all_reduce(self, tensor: Tensor) -> Tensor:
        return tensor.clone() if tensor.nbytes > SMALL else tensor


class OtherShape(_Comm):
    def all_reduce(self, tensor: Tensor) -> list[Tensor]:
        return list(tensor.clone().view(4, -1))


class OtherType(_Comm):
    def all_reduce(self, tensor: Tensor) -> Tensor:
        return tensor.double() if tensor.nbytes > SMALL else tensor.clone()


class WrongInPlace(_Comm):
    def all_reduce(self, tensor: Tensor):  # type: ignore[no-untyped-def]
        tensor.add_(1)

    def outplace_all_reduce(self, in_tensor: Tensor, out_tensor: Tensor | None = None) -> Tensor | None:
        return in_tensor.clone() if out_tensor is None else out_tensor.copy_(in_tensor)


def run_arm(one_rank: dist.ProcessGroup, name: str, **options: Any) -> list[Samples]:
    """Run an arm of this file; return its lines."""
    config = resolve(
        "cpu",
        {
            "user_arms": [{"name": "mine", "target": f"{__file__}:{name}"}],
            "arms": "mine",
            "sizes": f"{SMALL},{LARGE}",
            "dtypes": "float32",
            "timings": "eager",
            "rounds": 1,
            "max_rounds": 1,
            "ops_per_batch": 4,
            "warmup": 1,
            **options,
        },
    )
    _, lines = run_on_one_rank(config, one_rank, open_device("cpu", 0), Progress(None, 0, 0))
    return [line for line in lines if isinstance(line, Samples)]


def seen(one_rank: dist.ProcessGroup, name: str, **options: Any) -> dict[int, str]:
    """Run an arm of this file; return what is recorded for each size."""
    samples = run_arm(one_rank, name, **options)
    for line in samples:
        declined = line.status is Status.DECLINED
        assert (line.reason is not None, bool(line.samples_us)) == (declined, not declined)
    return {line.case.size_bytes: line.reason or str(line.placement) for line in samples}


@pytest.mark.parametrize(
    ("name", "small", "large"),
    [
        ("TooLarge", "returned", "all_reduce returned None"),
        ("Asked", "returned", "should_custom_ar returned False"),
        ("Unfinished", "in-place", "all_reduce raised NotImplementedError: no kernel for this type"),
        ("Changing", "in-place", "returned"),
        ("OtherShape", "returned", "returned"),
    ],
)
def test_every_size_is_looked_at(one_rank: dist.ProcessGroup, name: str, small: str, large: str) -> None:
    assert seen(one_rank, name) == {SMALL: small, LARGE: large}


def test_a_wrong_result_in_place_is_wrong_although_another_method_returns_tensors(one_rank: dist.ProcessGroup) -> None:
    assert [line.status for line in run_arm(one_rank, "WrongInPlace")] == [Status.WRONG] * 2


def test_a_result_that_cannot_be_right_ends_the_arm_at_its_size(one_rank: dist.ProcessGroup) -> None:
    with pytest.raises(SetupError, match=r"OtherType\.all_reduce .* returned a torch\.float64 of shape \(1024,\)"):
        seen(one_rank, "OtherType")


def test_another_placement_than_the_configured_one_is_refused(one_rank: dist.ProcessGroup) -> None:
    with pytest.raises(SetupError, match=r"--placement asks for in-place, and the call in .* 4096 B was returned: "):
        seen(one_rank, "Changing", placements="in-place")


def captured_calls(returned: Mapping[str, object], others: Sequence[int]) -> Mapping[str, str]:
    """Capture a call of each arm, which returns what ``returned`` says; ``others`` counts the other rank's ``None``."""

    @contextmanager
    def captured(_context: object, names: Sequence[str], operations: int, keep: Any) -> Iterator[None]:
        assert operations == 1
        for name in names:
            keep[name].append(returned[name])
        yield

    arms = [{"name": name, "target": "a.py:A"} for name in returned]
    context: Any = SimpleNamespace(
        config=resolve("cpu", {"user_arms": arms, "arms": ",".join(returned)}),
        case=SimpleNamespace(label="the case"),
        placements=dict.fromkeys(returned, Placement.RETURNED) | {"torch": Placement.RETURNED},
        control=SimpleNamespace(sum=lambda values: [sum(pair) for pair in zip(values, others, strict=True)]),
        arms=SimpleNamespace(
            report=lambda name, phase: None, ranks=SimpleNamespace(own_set=SimpleNamespace(world_size=2))
        ),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first_call, "captured", captured)
        return try_captures(context, [*returned, "torch"])


def test_an_arm_can_decline_within_a_capture_only() -> None:
    returned = {"one": torch.zeros(1), "two": None}
    assert captured_calls(returned, [0, 1]) == {"two": "it returned None while a graph was captured"}
    with pytest.raises(SetupError, match="the case: two returned None on some ranks only, while it was captured"):
        captured_calls(returned, [0, 0])
