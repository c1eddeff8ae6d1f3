"""Every Nth step is watched."""

from __future__ import annotations

import torch

from nccl_bench.audit import watch
from nccl_bench.audit.sampling import sampling
from nccl_bench.streams import cpu


class _Inner(torch.nn.Module):
    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor + 1


class _Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = _Inner()

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.inner(self.inner(tensor))  # type: ignore[no-any-return]


def _race() -> None:
    side, tensor = cpu.Stream(), torch.ones(8)
    with cpu.stream(side):
        side.submit(torch.Tensor.mul_, tensor, 3)
    tensor.add_(1)
    side.synchronize()


def test_one_of_every_three_steps_is_watched_with_what_follows_the_model() -> None:
    model = _Model()
    with watch() as watched, sampling(watched, 3) as sampler:
        _race()  # before the first step
        for _ in range(12):
            model(torch.ones(8))
            _race()
    assert sorted(race.count for race in watched.races) == [1, 4]
    sample = sampler.sample
    assert (sample.every, sample.steps, sample.watched) == (3, 12, 4)
    assert sample.watched_step_s is not None
    assert sample.paused_step_s is not None


def test_a_sample_meets_what_a_program_does_in_every_tenth_step() -> None:
    model = _Model()
    with watch() as watched, sampling(watched, 10):
        for step in range(300):
            model(torch.ones(8))
            if step % 10 == 9:
                _race()
    assert len(watched.races) == 1


def test_a_module_that_raises_ends_its_step_and_the_hooks_go() -> None:
    model = _Model()
    with watch() as watched, sampling(watched, 2) as sampler:
        for _ in range(3):
            try:
                model("no tensor")
            except TypeError:
                continue
    assert sampler.sample.steps == 3
    model(torch.ones(8))
    assert sampler.sample.steps == 3
