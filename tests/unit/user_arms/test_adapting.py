"""Users' objects behind our protocol: how each form is adapted and called in every order, with one rank over Gloo."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.arms import Order
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.config.user_arms import Adapter
from nccl_bench.errors import SetupError
from nccl_bench.streams import cpu
from nccl_bench.transports.gloo_operations import TORCH_REDOPS
from nccl_bench.user_arms.communicator import UserCommunicator
from tests.support.communicator_calls import COMPLETE_CALLS, Tensors
from tests.support.noting_communicators import SUM, Adapting, Noting, NotingOurs, in_place, is_closed
from tests.support.small_user_communicators import Returning, make_all_reduce
from tests.support.stream_control import Gate, PlantedError, finishes_within
from tests.support.user_communicators import EngineAfter, EngineBefore, OtherEngine

CURRENT, FORK_JOIN, BARE = Order.CURRENT, Order.FORK_JOIN, Order.BARE
PROTOCOL, PYNCCL, CALLABLE = Adapter.PROTOCOL, Adapter.PYNCCL, Adapter.CALLABLE
IN, OUT, RETURNED = Placement.IN_PLACE, Placement.OUT_OF_PLACE, Placement.RETURNED
ENGINE = {"all_reduce", "all_gather", "reduce_scatter", "broadcast", "send_recv"}
SIZED = {"all_gather", "reduce_scatter"}
ONLY, NONE = {"all_reduce"}, set[str]()
EVERY, RETURNS = [IN, RETURNED, OUT], [RETURNED, IN, OUT]
ON_CURRENT = partial(EngineBefore, use_current_stream=True)


def itself(tensor: Tensor, op: Any = SUM) -> Tensor:
    in_place(tensor)
    return tensor


def returning(tensor: Tensor) -> Tensor:
    result = torch.empty_like(tensor)
    cpu.current_stream().submit(result.copy_, tensor)
    return result


class OnPrivate:
    """An engine that returns a new tensor, which its private stream fills."""

    def __init__(self, group: dist.ProcessGroup, device: torch.device) -> None:
        self.stream = cpu.Stream()

    def all_reduce(self, tensor: Tensor, stream: Any = None) -> Tensor:
        result = torch.empty_like(tensor)
        (stream or self.stream).submit(result.copy_, tensor)
        return result


SHAPES = [
    # target, adapter, order, collectives, all-reduce's placements, only sums, with sizes, closes, described
    (
        EngineBefore,
        PYNCCL,
        FORK_JOIN,
        ENGINE,
        EVERY,
        NONE,
        SIZED,
        False,
        "run on the object's private stream",
    ),
    (ON_CURRENT, PYNCCL, CURRENT, ENGINE, EVERY, NONE, SIZED, False, "run on the current stream"),
    (
        EngineAfter,
        PYNCCL,
        CURRENT,
        ENGINE,
        EVERY,
        NONE,
        SIZED,
        False,
        "all_reduce in place, returning a new tensor and out of",
    ),
    (
        OtherEngine,
        PYNCCL,
        CURRENT,
        ENGINE - {"send_recv"},
        RETURNS,
        NONE,
        NONE,
        True,
        "run on the current stream",
    ),
    (Returning, PYNCCL, CURRENT, ONLY, [RETURNED], ONLY, NONE, False, "all_reduce returning a new tensor"),
    (OnPrivate, PYNCCL, FORK_JOIN, ONLY, [RETURNED], ONLY, NONE, False, "all_reduce returning a new tensor"),
    (make_all_reduce, CALLABLE, CURRENT, ONLY, [IN], ONLY, NONE, False, "made from (group, device)"),
    (in_place, CALLABLE, CURRENT, ONLY, [IN], ONLY, NONE, False, "callable: a function, all_reduce in place"),
    (itself, CALLABLE, CURRENT, ONLY, [IN], NONE, NONE, False, "all_reduce in place, calls"),
    (returning, CALLABLE, CURRENT, ONLY, [RETURNED], ONLY, NONE, False, "all_reduce returning a new tensor"),
    (
        StreamFreeCommunicator,
        PROTOCOL,
        CURRENT,
        {*COLLECTIVES},
        EVERY,
        NONE,
        SIZED,
        True,
        "protocol: made from",
    ),
    (
        DedicatedStreamCommunicator,
        PROTOCOL,
        FORK_JOIN,
        {*COLLECTIVES},
        EVERY,
        NONE,
        SIZED,
        True,
        "private stream",
    ),
]
EACH_SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: getattr(shape[0], "__name__", "on current"))


@EACH_SHAPE
def test_signatures_decide_how_an_object_is_adapted(shape: tuple[Any, ...], adapting: Adapting) -> None:
    target, adapter, order, collectives, placements, only_sums, takes_sizes, closes, described = shape
    adapted = adapting(target)
    assert (adapted.adapter, adapted.order, is_closed(adapted)) == (adapter, order, closes)
    uneven = {f"{collective}v" for collective in takes_sizes}
    assert {collective for collective, _ in adapted.supported} == collectives | uneven
    assert [placement for collective, placement in adapted.supported if collective == "all_reduce"] == placements
    assert (adapted.only_sums, adapted.takes_sizes) == (only_sums, takes_sizes)
    assert described in adapted.description
    assert (adapted.stream is None) is (order is CURRENT)
    assert (adapted.rank, adapted.world_size) == (0, 1)


def supported_calls(adapted: UserCommunicator) -> Iterator[str]:
    """Yield the names of the calls that a user's communicator supports."""
    for name, operation in COMPLETE_CALLS.items():
        collective = operation.method.removeprefix("outplace_")
        outwards = operation.method.startswith("outplace") or name.endswith("into out")
        rooted = collective in ("broadcast", "reduce", "all_reduce")
        placement = OUT if outwards or not rooted else IN
        if (collective, placement) in adapted.supported and ("sizes" not in name or collective in adapted.takes_sizes):
            yield name


@pytest.mark.parametrize("order", [CURRENT, FORK_JOIN, BARE])
@EACH_SHAPE
def test_every_operation_runs_on_the_stream_of_its_order(
    shape: tuple[Any, ...], order: Order, adapting: Adapting
) -> None:
    if order is not CURRENT and shape[2] is CURRENT:
        with pytest.raises(SetupError, match=f"order={order} needs a private stream"):
            adapting(shape[0], order=order)
        return
    adapted = adapting(shape[0], order=order)
    for name in supported_calls(adapted):
        operation, tensors, mine = COMPLETE_CALLS[name], Tensors(0, 1), cpu.Stream()
        source, target = getattr(tensors, operation.source), getattr(tensors, operation.target)
        before, after = source.clone(), torch.full_like(source, 7)
        gate = Gate(mine)
        with cpu.stream(mine):
            mine.submit(source.copy_, after)
            result: Any = operation.call(adapted, tensors)
            target = result if name == "outplace_all_reduce" else target
            if order is CURRENT:
                assert not finishes_within(mine, 0)
            else:
                # Nothing forks and joins here, so the call overtakes the write of its input.
                adapted.stream.synchronize()
                assert torch.equal(target, before), name
            gate.open()
        cpu.synchronize()
        assert torch.equal(target, after if order is CURRENT or target is source else before), name


class NotingText(Noting):
    def all_reduce(self, tensor: Tensor, op: str = "sum") -> None:
        self.calls.append(op)


class NotingStreams(Noting):
    def __init__(self, *made_with: object) -> None:
        super().__init__(*made_with)
        self.stream = cpu.Stream()

    def broadcast(self, tensor: Tensor, src: int, stream: Any = None) -> None:
        self.calls.append((src, stream))


@pytest.mark.parametrize(
    ("kind", "adapter", "words"),
    [(Noting, PYNCCL, TORCH_REDOPS), (NotingOurs, PROTOCOL, None), (NotingText, PROTOCOL, None)],
)
def test_reductions_are_named_as_the_user_names_them(
    kind: type[Noting], adapter: Adapter, words: Any, adapting: Adapting
) -> None:
    made = kind()
    adapted = adapting(lambda group, device: made)
    assert adapted.adapter is adapter
    made.calls.clear()  # without the all-reduce that was tried
    adapted.all_reduce(torch.zeros(1))
    for op in RedOp:
        adapted.all_reduce(torch.zeros(1), op)
    assert made.calls == [op if words is None else words[op] for op in (RedOp.SUM, *RedOp)]


@pytest.mark.parametrize(("order", "hands"), [(CURRENT, True), (FORK_JOIN, False), (BARE, False)])
def test_a_private_stream_is_replaced_by_the_current_one_or_called_as_it_is(
    order: Order, hands: bool, adapting: Adapting
) -> None:
    made = NotingStreams()
    adapted, mine = adapting(lambda group, device: made, order=order), cpu.Stream()
    made.calls.clear()
    with cpu.stream(mine):
        adapted.broadcast(torch.zeros(1), 0)
    assert made.calls == [(0, mine if hands else None)]
    assert adapted.stream is (None if hands else made.stream)
    # Its all-reduce takes no stream, so it would run on the private one.
    assert (("all_reduce", IN) in adapted.supported) is not hands


def test_a_method_with_our_signature_is_not_wrapped(adapting: Adapting, group: dist.ProcessGroup) -> None:
    made = EngineAfter(group, 0)
    assert adapting(lambda group, device: made).all_gather == made.all_gather


def test_in_place_the_output_is_the_tensor_itself(adapting: Adapting) -> None:
    got: list[Tensor | None] = []
    x, y = torch.zeros(1), torch.zeros(1)

    def all_reduce(tensor: Tensor, out_tensor: Tensor | None = None) -> None:
        got.append(out_tensor)

    communicator = adapting(all_reduce)
    communicator.all_reduce(x)
    communicator.outplace_all_reduce(x, y)
    assert got[0] is x
    assert got[1] is y


def test_a_group_is_ended_although_its_receive_raises(adapting: Adapting, group: dist.ProcessGroup) -> None:
    class Halves(EngineAfter):
        ends = 0

        def recv(self, tensor: Tensor, src: int) -> None:
            raise PlantedError

        def group_end(self) -> None:
            self.ends += 1

    made = Halves(group, "cpu")
    adapted = adapting(lambda group, device: made)
    with pytest.raises(PlantedError):
        adapted.send_recv(torch.zeros(1), torch.zeros(1), 0, 0)
    assert made.ends == 1
