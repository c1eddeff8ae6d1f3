"""The collectives that a proof tries: their results, worked out once more, and what tells one input from another."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from nccl_bench.catalog.routes import ROUTES
from nccl_bench.verify.exchanges import EXCHANGES, POISON, Exchange, Participants, sum_tensors

SIZES = (1024, 6000)
WORLDS = range(2, 6)
SALTS = 6


def ranks(name: str, world_size: int, size_bytes: int) -> list[Exchange]:
    """The exchange as each rank has it."""
    return [
        EXCHANGES[name](Participants(rank=rank, world_size=world_size, device=torch.device("cpu")), size_bytes)
        for rank in range(world_size)
    ]


def plain(name: str, inputs: list[list[float]], lengths: list[int]) -> list[list[float]]:
    """Every rank's result, element by element."""
    if name.startswith("all_gather"):
        return [list(itertools.chain(*inputs))] * len(inputs)
    summed = [sum(column) for column in zip(*inputs, strict=True)]
    if "reduce_scatter" not in name:
        return [summed] * len(inputs)
    ends = list(itertools.accumulate(lengths, initial=0))
    return [summed[begin:end] for begin, end in itertools.pairwise(ends)]


@pytest.mark.parametrize("name", EXCHANGES)
@pytest.mark.parametrize("world_size", WORLDS)
def test_the_expected_result_is_that_of_a_plain_computation(name: str, world_size: int) -> None:
    for size_bytes, salt in itertools.product(SIZES, range(3)):
        found = ranks(name, world_size, size_bytes)
        inputs = [exchange.make_input(salt).flatten().tolist() for exchange in found]
        lengths = [exchange.output.numel() for exchange in found]
        results = plain(name, inputs, lengths)
        for exchange, result in zip(found, results, strict=True):
            assert exchange.make_expected(salt).flatten().tolist() == result
            assert exchange.make_expected(salt).shape == exchange.output.shape
            assert exchange.make_input(salt).shape == exchange.input.shape


@pytest.mark.parametrize("name", EXCHANGES)
@pytest.mark.parametrize("world_size", WORLDS)
def test_no_element_of_one_salt_is_that_of_another_or_the_poison(name: str, world_size: int) -> None:
    for exchange in ranks(name, world_size, SIZES[1]):
        for one, other in itertools.combinations(range(SALTS), 2):
            assert not torch.any(exchange.make_input(one) == exchange.make_input(other))
        assert torch.all(exchange.make_input(0) != POISON)
        # A result may be what another salt's is where sums happen to agree, but that of no rank is all of it.
        for one, other in itertools.combinations(range(SALTS), 2):
            agreeing = (exchange.make_expected(one) == exchange.make_expected(other)).double().mean()
            assert agreeing < 0.5, (one, other)


@pytest.mark.parametrize("world_size", WORLDS)
def test_no_two_ranks_send_the_same(world_size: int) -> None:
    sent = [exchange.make_input(1) for exchange in ranks("all_reduce", world_size, 1024)]
    assert not any(torch.any(one == other) for one, other in itertools.combinations(sent, 2))


@pytest.mark.parametrize("name", EXCHANGES)
def test_sizes_are_uneven_where_they_are_said_to_be_and_messages_about_as_large_as_asked_for(name: str) -> None:
    found = ranks(name, 4, 6000)
    lengths = [min(exchange.input.numel(), exchange.output.numel()) for exchange in found]
    assert (len(set(lengths)) > 1) == name.endswith("v")
    for exchange in found:
        assert 0.9 < max(exchange.input.nbytes, exchange.output.nbytes) / 6000 <= 1
    assert (found[0].input is found[0].output) == (name == "all_reduce")


def test_every_exchange_has_a_name_of_its_own_with_its_size() -> None:
    names = [
        EXCHANGES[name](Participants(rank=0, world_size=2, device=torch.device("cpu")), 1024).name for name in EXCHANGES
    ]
    assert len(set(names)) == len(EXCHANGES)
    assert all(name.endswith(" 1K") for name in names)


@pytest.mark.parametrize("name", EXCHANGES)
def test_its_operation_is_one_that_coordinators_route(name: str) -> None:
    operation_name = ranks(name, 2, 1024)[0].operation_name
    assert operation_name == name.removeprefix("outplace_")
    assert operation_name in ROUTES


class _Calls:
    """A communicator that notes its calls."""

    def __getattr__(self, name: str) -> Any:
        def note(*arguments: object, **keywords: object) -> None:
            self.__dict__.setdefault("calls", []).append((name, arguments, keywords))

        return note


@pytest.mark.parametrize("name", EXCHANGES)
def test_an_operation_is_the_collective_on_the_exchange_s_tensors(name: str) -> None:
    exchange = ranks(name, 3, 1024)[1]
    communicator = _Calls()
    exchange.operation(communicator)()
    ((called, arguments, keywords),) = communicator.calls
    assert called == name.removesuffix("v")
    tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
    given = {"all_reduce": [exchange.input], "outplace_all_reduce": [exchange.input, exchange.output]}
    expected = given.get(name, [exchange.output, exchange.input])
    assert [id(tensor) for tensor in tensors] == [id(tensor) for tensor in expected]
    sizes = [argument for argument in (*arguments, *keywords.values()) if isinstance(argument, list)]
    assert sizes == ([[1, 2, 3]] if name.endswith("v") else [])


@pytest.mark.parametrize("name", EXCHANGES)
def test_a_reset_leaves_the_input_and_a_poisoned_output(name: str) -> None:
    exchange = ranks(name, 2, 1024)[0]
    exchange.reset(3)
    assert torch.equal(exchange.input, exchange.make_input(3))
    assert exchange.output is exchange.input or torch.all(exchange.output == POISON)


def test_what_is_wrong_is_counted_and_its_first_element_told() -> None:
    exchange = ranks("all_gather", 2, 1024)[0]
    result = exchange.make_expected(2)
    assert exchange.find_error(result, 2) is None
    result.view(-1)[[7, 200]] = torch.tensor([POISON, 1000.0])
    assert exchange.find_error(result, 2) == "2 of 256 elements are wrong; element 7 is -1 and must be 209"
    result.fill_(torch.nan)
    assert (exchange.find_error(result, 2) or "").startswith("256 of 256 elements are wrong; element 0 is nan")


def test_a_sum_is_exact() -> None:
    assert sum_tensors([torch.full((3,), 250.0)] * 2000).tolist() == [500_000.0] * 3
