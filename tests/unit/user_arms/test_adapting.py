"""Users' objects behind our protocol: every form, every order and every refusal, with one rank over Gloo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.arms import Order
from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.config.user_arms import Adapter
from nccl_bench.errors import InvalidArgumentError, SetupError
from nccl_bench.streams import cpu
from nccl_bench.transports.device import Device, open_device
from nccl_bench.transports.gloo_operations import TORCH_REDOPS
from nccl_bench.user_arms.communicator import UserCommunicator
from tests.support.communicator_calls import COMPLETE_CALLS, Tensors
from tests.support.communicators import one_rank_group
from tests.support.stream_control import Gate, PlantedError, finishes_within
from tests.support.user_communicators import EngineAfter, EngineBefore, OtherEngine, Returning, make_all_reduce

SUM = dist.ReduceOp.SUM
CURRENT, FORK_JOIN, BARE = Order.CURRENT, Order.FORK_JOIN, Order.BARE
PROTOCOL, PYNCCL, CALLABLE = Adapter.PROTOCOL, Adapter.PYNCCL, Adapter.CALLABLE
IN, OUT, RETURNED = Placement.IN_PLACE, Placement.OUT_OF_PLACE, Placement.RETURNED
ENGINE = {"all_reduce", "all_gather", "reduce_scatter", "broadcast", "send_recv"}
SIZED = {"all_gather", "reduce_scatter"}
ONLY, NONE = {"all_reduce"}, set[str]()
EVERY, RETURNS = [IN, RETURNED, OUT], [RETURNED, IN, OUT]
ON_CURRENT = partial(EngineBefore, use_current_stream=True)

Adapting = Callable[..., UserCommunicator]


@pytest.fixture(scope="module")
def group() -> Iterator[dist.ProcessGroup]:
    with one_rank_group() as group:
        yield group


@pytest.fixture
def adapting(group: dist.ProcessGroup) -> Iterator[Adapting]:
    """Yield a maker of user communicators, and close what it made."""
    made: list[UserCommunicator] = []

    def adapting(target: object, adapter: Adapter | None = None, order: Order | None = None) -> UserCommunicator:
        made.append(UserCommunicator(target, group, open_device("cpu", 0), adapter=adapter, order=order))
        return made[-1]

    yield adapting
    for adapted in made:
        adapted.close()


def in_place(tensor: Tensor) -> None:
    cpu.current_stream().submit(tensor.add_, 0)


def itself(tensor: Tensor, op: Any = SUM) -> Tensor:
    in_place(tensor)
    return tensor


def returning(tensor: Tensor) -> Tensor:
    result = torch.empty_like(tensor)
    cpu.current_stream().submit(result.copy_, tensor)
    return result


def unreadable(*args: Any) -> None: ...


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


def is_closed(adapted: UserCommunicator) -> bool:
    return adapted.reason_not_ended is None and not adapted.is_dropped


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


class Noting:
    """An object that records how it is called."""

    def __init__(self, *made_with: object) -> None:
        self.calls: list[object] = []

    def all_reduce(self, tensor: Tensor, op: Any = SUM) -> None:
        self.calls.append(op)


class NotingOurs(Noting):
    def all_reduce(self, tensor: Tensor, op: RedOp = RedOp.SUM) -> None:
        self.calls.append(op)


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


def test_a_constructor_gets_the_arguments_that_it_names(group: dist.ProcessGroup, adapting: Adapting) -> None:
    got: list[object] = []

    def note(*given: object) -> Noting:
        got[:] = given
        return Noting()

    def swapped(device: object, group: object, rest: int = 0) -> Noting:
        return note(group, device, rest)

    def other_names(pg: object, dev: Device) -> Noting:
        return note(pg, dev)

    adapting(swapped)
    assert got == [group, torch.device("cpu"), 0]
    adapting(other_names)
    assert got[0] is group
    assert isinstance(got[1], Device)
    adapting(unreadable, adapter=CALLABLE)  # this is the all-reduce and no constructor


@contextmanager
def _switched(thing: Any, on: bool) -> Iterator[None]:
    thing.disabled = not on
    try:
        yield
    finally:
        thing.disabled = True


class Switched(Noting):
    disabled, ended = True, 0
    change_state = _switched

    def shutdown(self) -> None:
        assert self.disabled
        self.ended += 1


def test_an_object_that_existed_before_the_arm_is_ready(adapting: Adapting) -> None:
    made = (EngineAfter, make_all_reduce, StreamFreeCommunicator)
    assert [adapting(target).ready for target in (*made, in_place)] == [False, False, False, True]


def test_an_object_is_enabled_until_it_is_closed_and_ended_once(group: dist.ProcessGroup) -> None:
    for made, closes in ((Switched(), True), (EngineBefore(group, "cpu"), False)):
        adapted = UserCommunicator(lambda *_, made=made: made, group, open_device("cpu", 0), adapter=PYNCCL)
        assert (made.disabled, is_closed(adapted)) == (False, closes)
        for _ in range(2):
            adapted.close()
            assert made.disabled
            assert getattr(made, "ended", 1) == 1


def test_a_ready_object_is_not_ended_and_one_that_does_not_fit_is(adapting: Adapting) -> None:
    ready, made = Switched(), Switched()
    adapted = adapting(ready)
    adapted.close()
    assert (adapted.ready, adapted.reason_not_ended is None, ready.ended, ready.disabled) == (True, False, 0, True)
    with pytest.raises(SetupError, match="needs a private stream"):
        adapting(lambda group, device: made, order=BARE)
    assert (made.ended, made.disabled) == (1, True)


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


def test_an_option_that_a_method_does_not_take_is_refused_when_it_is_used(adapting: Adapting) -> None:
    x, sizes = torch.zeros(2), [2]
    other, function = adapting(OtherEngine), adapting(in_place)
    for call, says in (
        (lambda: other.all_gather(x, x, sizes), r"OtherEngine.all_gather\(.*\) takes no sizes, and got \[2\]"),
        (lambda: other.broadcast(x, 0, x), "takes no out"),
        (lambda: function.all_reduce(x, RedOp.MAX), r"in_place\(tensor\) takes no op, and got max: it only sums"),
        (lambda: other.send_recv(x, x, 0, 0), "OtherEngine has no send_recv"),
        (lambda: other.change_state(False), "OtherEngine has no change_state"),
    ):
        with pytest.raises(InvalidArgumentError, match=says):
            call()


def making(**attributes: Any) -> Any:
    return lambda group, device: SimpleNamespace(**attributes)


LATER = 65  # more elements than the all-reduce that is tried
ALL_REDUCE = Case(
    scenario=Scenario.ISOLATED,
    collective="all_reduce",
    dtype="float32",
    redop=RedOp.SUM,
    placement=RETURNED,
    root=None,
    size_bytes=4,
    count=1,
)


@pytest.mark.parametrize(
    ("target", "adapter", "says"),
    [
        (making(available=False, disabled=True, all_reduce=in_place), None, r"not available .* the group has 1 rank\)"),
        (
            making(disabled=True, custom_all_reduce=in_place),
            None,
            r"is disabled and has no change_state\(True\): it does ",
        ),
        (type("Stuck", (Switched,), {"change_state": lambda self, on: _switched(self, False)}), None, "still disabled"),
        (
            making(run=in_place, size=1),
            None,
            r"fits no adapter: give an object with all_reduce\(.* the object has run, size",
        ),
        (making(), None, "the object has nothing"),
        (Noting, PROTOCOL, "does not fit Noting, whose `op` is torch.distributed's ReduceOp: use adapter=pynccl"),
        (NotingOurs, PYNCCL, "whose `op` is nccl_bench's RedOp: use adapter=protocol"),
        (EngineAfter, CALLABLE, "needs a function of one tensor, and EngineAfter cannot be called"),
        (make_all_reduce, PYNCCL, "the pynccl adapter looks for all_reduce.* has none of these"),
        (lambda a, b, c: None, None, r"\(a, b, c\) cannot be called: take \(group, device\) to make a communicator"),
        (lambda group: None, None, r"\(group\) cannot be called"),
        (lambda group, device: None, None, "returned None: it must return the communicator that it makes"),
        (making(all_reduce=lambda x, y: None), None, r"with these arguments, and got .*\(x, y\)"),
        (lambda tensor: tensor[1:], None, r"torch.float32 of shape \(64,\) returned a torch.float32 of shape \(63,\)"),
        (lambda tensor: tensor.double(), None, r"returned a torch.float64 of shape \(64,\): return None, the input"),
        (lambda tensor: "handle", None, r"test_adapting.py:\d+\) of a .* returned a str"),
    ],
)
def test_a_target_that_does_not_fit_is_refused_in_one_line(
    target: Any, adapter: Adapter | None, says: str, adapting: Adapting
) -> None:
    with pytest.raises(SetupError, match=says) as refused:
        adapting(target, adapter)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        (lambda tensor: tensor[1:].clone(), r"torch.float32 of shape \(64,\)"),
        (lambda tensor: tensor.half(), r"torch.float16 of shape \(65,\)"),
        (lambda tensor: tensor.to("meta"), r"torch.float32 of shape \(65,\) on meta"),
        (lambda tensor: tensor.tolist(), "list"),
    ],
)
def test_the_error_for_a_wrong_result_of_a_later_call_names_the_users_line(
    wrong: Any, got: str, adapting: Adapting
) -> None:
    def sum_of(tensor: Tensor) -> Any:
        return wrong(tensor) if tensor.numel() == LATER else tensor.clone()

    communicator, line = adapting(sum_of), sum_of.__code__.co_firstlineno
    message = rf"sum_of \(.*test_adapting.py:{line}\) of a torch.float32 of .* returned a {got}: return None, the input"
    given = torch.ones(LATER)
    with pytest.raises(SetupError, match=message):
        communicator.examine(ALL_REDUCE, communicator.returning("all_reduce")(given), given, torch.ones(LATER))
    few = torch.ones(3)
    assert communicator.examine(ALL_REDUCE, communicator.returning("all_reduce")(few), few, few) is RETURNED


@pytest.mark.parametrize(("first", "later"), [(IN, RETURNED), (RETURNED, IN)])
def test_the_result_of_each_call_shows_its_placement(first: Placement, later: Placement, adapting: Adapting) -> None:
    def sum_of(tensor: Tensor) -> Tensor:
        in_place = first is IN if tensor.numel() < LATER else later is IN
        return tensor if in_place else tensor.clone()

    communicator = adapting(sum_of)
    assert communicator.supported == (("all_reduce", first),)
    for size, placement in ((3, first), (LATER, later)):
        given = torch.ones(size)
        result = communicator.all_reduce(given)
        assert communicator.examine(replace(ALL_REDUCE, placement=first), result, given, given) is placement


def test_a_method_with_an_output_returns_a_new_tensor_without_one(adapting: Adapting) -> None:
    """The method is called so by default, as in its engine."""
    outputs: list[Tensor | None] = []

    def all_reduce(tensor: Tensor, out_tensor: Tensor | None = None) -> Tensor:
        outputs.append(out_tensor)
        return tensor.clone() if out_tensor is None else out_tensor.copy_(tensor)

    communicator, x = adapting(all_reduce), torch.ones(2)
    assert communicator.supported == (("all_reduce", RETURNED), ("all_reduce", IN), ("all_reduce", OUT))
    result: Any = communicator.returning("all_reduce")(x)
    assert (result is x, result.tolist(), outputs[-1]) == (False, [1, 1], None)
    with pytest.raises(InvalidArgumentError, match="has no all_gather that returns its output"):
        communicator.returning("all_gather")
