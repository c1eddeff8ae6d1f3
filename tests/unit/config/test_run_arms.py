"""The arms of a run, its baseline, and the twin of the baseline."""

from __future__ import annotations

import pytest

from nccl_bench.catalog.arms import DEFAULT_BASELINE
from nccl_bench.config.run import resolve
from nccl_bench.errors import UsageError


def test_the_default_baseline_is_the_dedicated_stream_or_the_first_arm() -> None:
    assert resolve("cpu").baseline == DEFAULT_BASELINE
    assert resolve("cpu", {"arms": "torch,dedicated-stream"}).baseline == DEFAULT_BASELINE
    assert resolve("cpu", {"arms": "torch,transport"}).baseline == "torch"
    assert resolve("cpu", {"baseline": "torch"}, {"arms": "transport,torch"}).baseline == "torch"
    with pytest.raises(UsageError, match="'torch', which is no arm of this run: allowed are transport"):
        resolve("cpu", {"baseline": "torch"}, {"arms": "transport"})


def test_the_baseline_has_a_twin_where_arms_are_compared() -> None:
    assert resolve("cpu", {"arms": "stream-free"}).measured_arms == ("stream-free",)
    config = resolve("cpu", {"arms": "stream-free,torch", "baseline": "torch"})
    assert config.measured_arms == ("stream-free", "torch", "torch:twin")
    # A user cannot name a twin.
    with pytest.raises(UsageError, match="arms has 'torch:twin': did you mean 'torch'\\? Allowed are"):
        resolve("cpu", {"arms": "torch,torch:twin"})
