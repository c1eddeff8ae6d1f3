"""The exchanges of a verification: their results, computed a second way, and that no input looks like another."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from nccl_bench.catalog.routes import ROUTES
from nccl_bench.errors import SetupError
from nccl_bench.streams import cpu
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.verify.exchanges import EXCHANGES, POISON, Exchange, Participants
from tests.support.stream_control import Gate

SIZES = (1024, 6000)
WORLD_SIZES = range(2, 6)
SALTS = 6


def ranks(name: str, world_size: int, size_bytes: int) -> list[Exchange]:
    """Return the exchange of every rank."""
    return [
        EXCHANGES[name](Participants(rank=rank, world_size=world_size, device=torch.device("cpu")), size_bytes)
        for rank in range(world_size)
    ]


def plain(name: str, inputs: list[list[float]], lengths: list[int]) -> list[list[float]]:
    """Return every rank's result, computed element by element."""
    if "all_gather" in name:
        return [list(itertools.chain(*inputs))] * len(inputs)
    summed = [sum(column) for column in zip(*inputs, strict=True)]
    if "reduce_scatter" not in name:
        return [summed] * len(inputs)
    ends = list(itertools.accumulate(lengths, initial=0))
    return [summed[begin:end] for begin, end in itertools.pairwise(ends)]


@pytest.mark.parametrize("name", EXCHANGES)
@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_expected_results_agree_with_a_plain_computation(name: str, world_size: int) -> None:
    for size_bytes, salt in itertools.product(SIZES, range(3)):
        exchanges = ranks(name, world_size, size_bytes)
        inputs = [exchange.make_input(salt).flatten().tolist() for exchange in exchanges]
        lengths = [exchange.output.numel() for exchange in exchanges]
        results = plain(name, inputs, lengths)
        for exchange, result in zip(exchanges, results, strict=True):
            assert exchange.make_expected(salt).flatten().tolist() == result
            assert exchange.make_expected(salt).shape == exchange.output.shape
            assert exchange.make_input(salt).shape == exchange.input.shape


@pytest.mark.parametrize("name", EXCHANGES)
@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_inputs_of_two_salts_differ_in_every_element_and_from_the_poison(name: str, world_size: int) -> None:
    for exchange in ranks(name, world_size, SIZES[1]):
        for first, second in itertools.combinations(range(SALTS), 2):
            assert not torch.any(exchange.make_input(first) == exchange.make_input(second))
        assert torch.all(exchange.make_input(0) != POISON)
        # Sums may happen to agree, but never in half of the elements.
        for first, second in itertools.combinations(range(SALTS), 2):
            agreeing = (exchange.make_expected(first) == exchange.make_expected(second)).double().mean()
            assert agreeing < 0.5, (first, second)


def test_what_is_written_into_an_input_or_a_result_changes_no_later_one() -> None:
    (exchange, _) = ranks("all_reduce", 2, 64)
    for make in (exchange.make_input, exchange.make_expected):
        before = make(3).clone()
        make(3).fill_(POISON)
        assert torch.equal(make(3), before)


@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_no_two_ranks_send_the_same(world_size: int) -> None:
    sent = [exchange.make_input(1) for exchange in ranks("all_reduce", world_size, 1024)]
    assert not any(torch.any(first == second) for first, second in itertools.combinations(sent, 2))


@pytest.mark.parametrize("name", EXCHANGES)
def test_exchanges_with_sizes_are_uneven_and_every_message_has_about_the_requested_size(name: str) -> None:
    exchanges = ranks(name, 4, 6000)
    lengths = [min(exchange.input.numel(), exchange.output.numel()) for exchange in exchanges]
    assert (len(set(lengths)) > 1) == name.endswith("v")
    for exchange in exchanges:
        assert 0.9 < max(exchange.input.nbytes, exchange.output.nbytes) / 6000 <= 1
    assert (exchanges[0].input is exchanges[0].output) == (name == "all_reduce")


def test_every_exchange_has_its_own_name_with_its_size() -> None:
    names = [
        EXCHANGES[name](Participants(rank=0, world_size=2, device=torch.device("cpu")), 1024).name for name in EXCHANGES
    ]
    assert len(set(names)) == len(EXCHANGES)
    assert all(name.endswith(" 1K") for name in names)


@pytest.mark.parametrize("name", EXCHANGES)
def test_every_operation_is_one_that_coordinators_route(name: str) -> None:
    operation_name = ranks(name, 2, 1024)[0].operation_name
    assert operation_name == name.removeprefix("outplace_").removeprefix("return_")
    assert operation_name in ROUTES


class _Calls:
    """A communicator that records its calls."""

    def __getattr__(self, name: str) -> Any:
        def note(*arguments: object, **keywords: object) -> None:
            self.__dict__.setdefault("calls", []).append((name, arguments, keywords))

        return note


@pytest.mark.parametrize("name", [name for name in EXCHANGES if not name.startswith("return_")])
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


@pytest.mark.parametrize("name", [name for name in EXCHANGES if name.startswith("return_")])
def test_what_a_call_returns_is_received_in_the_order_of_the_current_stream(name: str) -> None:
    exchange, mine = ranks(name, 2, 1024)[1], cpu.Stream()
    exchange.reset(1)
    calls: list[str] = []

    def returning(collective: str) -> Callable[[Tensor], Tensor]:
        calls.append(collective)
        return lambda sent: exchange.make_expected(1) if sent is exchange.input else sent

    with cpu.stream(mine):
        gate = Gate(mine)
        exchange.operation(SimpleNamespace(returning=returning))()
        exchange.receive(CpuStreams())
    assert exchange.find_error(exchange.output, 1) is not None
    gate.open()
    mine.synchronize()
    assert (exchange.find_error(exchange.output, 1), calls) == (None, [name.removeprefix("return_")])


def test_each_queued_call_receives_its_own_result() -> None:
    exchange, mine = ranks("return_all_reduce", 2, 1024)[1], cpu.Stream()
    results = iter([exchange.make_expected(1), exchange.make_expected(2)])
    communicator = SimpleNamespace(returning=lambda collective: lambda sent: next(results))
    received = [torch.empty_like(exchange.output) for _ in range(2)]
    with cpu.stream(mine):
        gate = Gate(mine)
        for copy in received:
            exchange.operation(communicator)()
            exchange.receive(CpuStreams())
            CpuStreams().submit(copy.copy_, exchange.output)
    gate.open()
    mine.synchronize()
    assert [exchange.find_error(copy, salt) for copy, salt in zip(received, (1, 2), strict=True)] == [None, None]


@pytest.mark.parametrize(
    ("result", "got"),
    [(None, "NoneType"), (torch.zeros(3), "3 elements"), ([torch.zeros(256), torch.zeros(8)], "264 elements")],
)
def test_a_result_that_cannot_be_right_is_refused(result: object, got: str) -> None:
    exchange = ranks("return_all_reduce", 2, 1024)[0]
    communicator = SimpleNamespace(returning=lambda collective: lambda sent: result)
    with pytest.raises(SetupError, match=rf"returned all_reduce 1K returned {got}: return 256 elements"):
        exchange.operation(communicator)()


@pytest.mark.parametrize("name", EXCHANGES)
def test_a_reset_leaves_the_input_and_a_poisoned_output(name: str) -> None:
    exchange = ranks(name, 2, 1024)[0]
    exchange.reset(3)
    assert torch.equal(exchange.input, exchange.make_input(3))
    assert exchange.output is exchange.input or torch.all(exchange.output == POISON)


def test_wrong_elements_are_counted_and_the_first_is_described() -> None:
    exchange = ranks("all_gather", 2, 1024)[0]
    result = exchange.make_expected(2)
    assert exchange.find_error(result, 2) is None
    result.view(-1)[[7, 200]] = torch.tensor([POISON, 1000.0])
    assert exchange.find_error(result, 2) == "2 of 256 elements are wrong; element 7 is -1 and must be 209"
    result.fill_(torch.nan)
    assert (exchange.find_error(result, 2) or "").startswith("256 of 256 elements are wrong; element 0 is nan")


def test_a_sum_over_thousands_of_ranks_is_exact() -> None:
    participants = Participants(rank=0, world_size=2000, device=torch.device("cpu"))
    inputs = [participants.make_input(rank, 1, (3, 1)) for rank in range(2000)]
    assert participants.sum_inputs(1, (3, 1)).tolist() == torch.stack(inputs).to(torch.int64).sum(0).tolist()
