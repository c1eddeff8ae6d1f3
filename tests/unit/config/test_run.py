"""The configuration of a run: its defaults, the rules between options, and any values."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nccl_bench.catalog.arms import ARMS, DEFAULT_ARMS
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import DEFAULT_THRESHOLD
from nccl_bench.config.options import options_of
from nccl_bench.config.run import (
    DEFAULT_MAX_ROUNDS,
    DEFAULT_MIN_ROUNDS,
    DEFAULT_ROUNDS,
    CallerStream,
    RunConfig,
    resolve,
)
from nccl_bench.errors import UsageError
from nccl_bench.plan.cases import make_plan

KEYS = tuple(options_of(RunConfig))


@pytest.mark.parametrize("device", DEVICES)
def test_the_defaults_are_complete_and_resolve(device: str) -> None:
    config = resolve(device)
    assert config.device == device
    assert config.device_spec is DEVICES[device]
    assert config.arms == DEFAULT_ARMS
    assert set(config.timings) == set(Timing) - set(DEVICES[device].missing_timings)
    make_plan(config, 2)


def test_later_layers_win_and_none_counts_as_absent() -> None:
    config = resolve("cpu", {"rounds": 3, "warmup": 2}, {"rounds": 4, "warmup": None})
    assert (config.rounds, config.warmup) == (4, 2)


def test_the_most_rounds_are_never_fewer_than_the_fewest() -> None:
    # A run whose time is limited and whose rounds are not can do fewer of them when the time is up.
    assert resolve("cpu").min_rounds == resolve("cpu").rounds == DEFAULT_ROUNDS
    assert resolve("cpu", {"max_seconds": 9}).min_rounds == DEFAULT_MIN_ROUNDS
    assert resolve("cpu", {"max_seconds": 9}, {"rounds": 7}).min_rounds == 7
    assert resolve("cpu", {"max_seconds": 9, "rounds": 2}).min_rounds == 2
    recorded = resolve("cpu", {"max_seconds": 9}).to_mapping()
    assert resolve("cpu", recorded).min_rounds == DEFAULT_MIN_ROUNDS
    assert resolve("cpu").max_rounds == DEFAULT_MAX_ROUNDS
    assert [resolve("cpu", {"launches": number}).rounds for number in (1, 2)] == [15, 6]
    assert resolve("cpu", {"rounds": DEFAULT_MAX_ROUNDS + 1}).max_rounds == DEFAULT_MAX_ROUNDS + 1
    assert resolve("cpu", {"rounds": 3, "max_rounds": 3}).max_rounds == 3
    assert resolve("cpu", {"max_rounds": 19}, {"arms": "torch", "threshold": 0.1}).arms == ("torch",)


def test_the_default_threshold_is_that_of_the_verdicts() -> None:
    assert resolve("cpu").threshold == DEFAULT_THRESHOLD


def test_a_library_of_nccl_is_refused_on_the_cpu() -> None:
    with pytest.raises(UsageError, match=r"the device cpu does not use NCCL: leave the option out"):
        resolve("cpu", {"nccl_library": "/opt/libnccl.so.2"})


@pytest.mark.parametrize(("option", "reason"), [("tuning", "Gloo, "), ("nvtx", "NVTX is a library of CUDA, ")])
def test_the_cpu_has_no_kernels_of_nccl_to_report_and_no_nvtx(option: str, reason: str) -> None:
    assert not getattr(resolve("cpu", {option: False}), option)
    with pytest.raises(UsageError, match=rf"^{option} is asked for on the device cpu: {reason}.*: leave it out$"):
        resolve("cpu", {option: True})


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.sampled_from(["all", "8:1K:x2", "8:1K:+8", "1K,2K", "4K", "side", "cuda", "a,b", "10**9", 10**400, -(2**63)])
    | st.sampled_from(["eager=communicator", "all_reduce.graph=torch", "coordinator,torch"])
    | st.sampled_from([*COLLECTIVES, *DTYPES, *RedOp, *Placement, *ARMS, *Timing, *CallerStream])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
)
LAYERS = st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), VALUES, max_size=3)


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(layer=LAYERS, device=st.sampled_from(list(DEVICES)))
@example(layer={"timeout_s": 10**400}, device="cpu")
@example(layer={"sizes": "9" * 400}, device="cpu")
@example(layer={"caller_stream": [["side"]]}, device="cpu")
@example(layer={"arms": "coordinator,torch", "routes": "eager=communicator"}, device="cpu")
def test_any_values_are_a_configuration_or_a_usage_error(layer: dict[str, object], device: str) -> None:
    try:
        config = resolve(device, layer)
    except UsageError:
        return
    assert isinstance(config, RunConfig)
    assert resolve(device, json.loads(json.dumps(config.to_mapping(), allow_nan=False))) == config
    assert config.baseline in config.arms
    try:
        plan = make_plan(config, 2)
    except UsageError:
        return
    assert plan.cases
    assert plan.timings
