"""The cases of a chain and of a late rank, and what these scenarios cannot measure."""

from __future__ import annotations

import itertools

import pytest

from nccl_bench.config.run import resolve
from nccl_bench.errors import UsageError
from nccl_bench.plan.cases import make_plan


def test_a_chain_has_a_case_for_each_number_of_layers_and_tokens() -> None:
    options = {"scenario": "chain", "hidden": "64,128", "layers": "2,4", "tokens": "1,8", "arms": "torch"}
    cases = [planned.case for planned in make_plan(resolve("cpu", options), 4).cases]
    expected = list(itertools.product((64, 128), (2, 4), (1, 8)))
    assert [(case.hidden, case.layers, case.tokens) for case in cases] == expected
    assert all(case.size_bytes == 2 * case.hidden * case.tokens for case in cases if case.hidden and case.tokens)


def test_a_chain_leaves_out_what_it_cannot_measure() -> None:
    options = {"scenario": "chain", "collectives": "all_gather", "redops": "max", "dtypes": "int8,float"}
    plan = make_plan(resolve("cpu", options), 2)
    assert {planned.case.collective for planned in plan.cases} == {"all_reduce"}
    assert {planned.case.dtype for planned in plan.cases} == {"float32"}
    assert plan.left_out == (
        "the scenario chain has no all_gather: it measures all_reduce",
        "the scenario chain has no max: it measures sum",
        "no arm runs all_reduce int8 sum: the scenario chain multiplies matrices of bfloat16, float16, float32, "
        "float64",
    )


def test_a_chain_whose_ranks_cannot_share_a_token_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--hidden has 100: 3 ranks share .* give a multiple of 6"):
        make_plan(resolve("cpu", {"scenario": "chain", "hidden": 100}), 3)


def test_a_late_rank_for_which_no_other_rank_waits_is_refused() -> None:
    with pytest.raises(UsageError, match="other ranks wait: give --nproc 2 or more"):
        make_plan(resolve("cpu", {"scenario": "skew"}), 1)


def test_a_chain_of_more_ranks_than_stay_exact_is_left_out() -> None:
    config = resolve("cpu", {"scenario": "chain", "hidden": 1024, "dtypes": "bfloat16,float", "arms": "torch"})
    plan = make_plan(config, 128)
    assert {planned.case.dtype for planned in plan.cases} == {"float32"}
    assert plan.left_out == (
        "no arm runs all_reduce bfloat16 sum: with 128 ranks the results of the scenario chain would not be exact",
    )
