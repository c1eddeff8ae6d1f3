"""The scenario `chain`: its values are exact, and its check finds layers that read a message too early."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from nccl_bench.arms import arm as arms
from nccl_bench.bench.scenarios.chain import element_values, rank_shares, token_values, weight_factors
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.scenarios import SCENARIOS, Scenario
from nccl_bench.config.run import resolve
from nccl_bench.plan.scenarios import largest_element
from nccl_bench.ranks.progress import Progress
from nccl_bench.records.schema import Samples, Skipped, Status
from nccl_bench.transports.device import open_device
from tests.support.one_rank_run import fork_without_join, run_on_one_rank

RANKS = (1, 2, 3, 4, 7, 8, 62, 63)


def chained(one_rank: dist.ProcessGroup, **options: Any) -> list[Samples]:
    config = resolve(
        "cpu",
        {"scenario": "chain", "hidden": 64, "tokens": "1,3", "rounds": 1, "max_rounds": 1, "min_rounds": 1, **options},
    )
    _, lines = run_on_one_rank(config, one_rank, open_device("cpu", 0), Progress(None, 0, 0))
    return [line for line in lines if isinstance(line, Samples)]


@pytest.mark.parametrize("dtype", SCENARIOS[Scenario.CHAIN].dtypes)
@pytest.mark.parametrize("ranks", RANKS)
def test_every_product_and_every_sum_over_some_ranks_is_exact(ranks: int, dtype: str) -> None:
    hidden, part = 8 * ranks, 8
    elements = element_values(hidden, largest_element(dtype, ranks), ranks)
    result = np.outer(token_values(5), elements)
    shares = rank_shares(ranks)
    sent = []
    for rank, share in enumerate(shares):
        own = slice(rank * part, (rank + 1) * part)
        weights = np.outer(weight_factors(part, share), elements)
        assert (weights != 0).all()
        sent.append(result[:, own] @ weights)
    assert (sum(sent) == result).all()
    most = DTYPES[dtype].exact_integer
    for of_some in ([share for share in shares if share > 0], [share for share in shares if share < 0]):
        assert abs(sum(of_some)) * result.max() <= most
    if ranks > 1:
        assert not any((message == result).any() for message in sent)


@pytest.mark.parametrize("dtype", SCENARIOS[Scenario.CHAIN].dtypes)
def test_torch_computes_the_products_exactly(dtype: str) -> None:
    kind, part = getattr(torch, dtype), 512
    elements = element_values(part, largest_element(dtype, 2), 1)
    tensors = [torch.from_numpy(each).to(kind) for each in (token_values(9), elements, weight_factors(part, 2))]
    tokens, of_hidden, factors = tensors
    result = torch.outer(tokens, of_hidden)
    assert torch.equal(torch.mm(result, torch.outer(factors, of_hidden)), result * 2)


@pytest.mark.parametrize(
    "options",
    [{}, {"placements": "out-of-place"}, {"placements": "returned"}, {"same_buffer": True}, {"dtypes": "all"}],
)
def test_each_layer_of_a_chain_is_right(one_rank: dist.ProcessGroup, options: dict[str, Any]) -> None:
    lines = chained(one_rank, arms="stream-free,dedicated-stream", layers=6, **options)
    assert {line.status for line in lines} == {Status.OK}
    assert {line.ops_per_batch for line in lines} == {6}
    assert {line.case.tokens for line in lines} == {1, 3}
    assert all(line.wrong == 0 and line.samples_us for line in lines)


def test_the_check_finds_products_that_do_not_wait_for_the_collective(
    one_rank: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arms, "fork_join", fork_without_join)
    lines = chained(one_rank, arms="dedicated-stream", placements="out-of-place", layers=4)
    assert {line.status for line in lines} == {Status.WRONG}


def test_a_chain_that_does_not_fit_into_memory_is_skipped_with_the_options_to_change(
    one_rank: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = open_device("cpu", 0)
    monkeypatch.setattr(device.streams, "memory", lambda: (2**28, 2**28))
    config = resolve("cpu", {"scenario": "chain", "hidden": "16K", "tokens": 1, "arms": "torch"})
    _, (line,) = run_on_one_rank(config, one_rank, device, Progress(None, 0, 0))
    assert isinstance(line, Skipped)
    # One copy of the weights has 512 MiB.
    assert line.reason.startswith("the buffers need 0.6")
    assert line.reason.endswith("use smaller --hidden or --tokens")
