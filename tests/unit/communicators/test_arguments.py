"""Calls that the communicators refuse: each with its message, and none of them reaches the library."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.over_transport import TransportCommunicator
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.communicators.torch_distributed import ProcessGroupCommunicator
from nccl_bench.errors import InvalidArgumentError
from nccl_bench.streams import cpu
from nccl_bench.transports.device import Device, open_device
from tests.support.communicators import BOTH_POLICIES, CommunicatorMaker
from tests.support.fake_nccl import FakeNccl

Kind = type[TransportCommunicator]
Mate = Callable[[int], Tensor]


@pytest.fixture(params=[StreamFreeCommunicator, DedicatedStreamCommunicator], ids=["stream-free", "dedicated"])
def communicator(request: pytest.FixtureRequest, make: CommunicatorMaker) -> Any:
    return make(request.param)


def rows(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(count, 4, dtype=dtype)


def check_refused(fake: FakeNccl, message: str, call: Callable[[], object]) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        call()
    assert fake.calls() == []


# Every place where an operation takes a tensor: `x` has four rows and columns, and `mate` makes the tensor beside it.
PLACES: dict[str, Callable[[Any, Tensor, Mate], object]] = {
    "all_reduce": lambda c, x, mate: c.all_reduce(x),
    "outplace_all_reduce": lambda c, x, mate: c.outplace_all_reduce(x),
    "outplace_all_reduce, input": lambda c, x, mate: c.outplace_all_reduce(x, mate(4)),
    "outplace_all_reduce, out": lambda c, x, mate: c.outplace_all_reduce(mate(4), x),
    "all_gather, output": lambda c, x, mate: c.all_gather(x, mate(1)),
    "all_gather, input": lambda c, x, mate: c.all_gather(mate(16), x),
    "all_gather, output, sizes": lambda c, x, mate: c.all_gather(x, mate(1), [1, 1, 1, 1]),
    "all_gather, input, sizes": lambda c, x, mate: c.all_gather(mate(16), x, [4, 4, 4, 4]),
    "cp_all_gather, output": lambda c, x, mate: c.cp_all_gather_into_tensor(x, mate(1), cpu.default_stream()),
    "cp_all_gather, input": lambda c, x, mate: c.cp_all_gather_into_tensor(mate(16), x, cpu.default_stream()),
    "reduce_scatter, output": lambda c, x, mate: c.reduce_scatter(x, mate(16)),
    "reduce_scatter, input": lambda c, x, mate: c.reduce_scatter(mate(1), x),
    "reduce_scatter, output, sizes": lambda c, x, mate: c.reduce_scatter(x, mate(16), sizes=[4, 4, 4, 4]),
    "reduce_scatter, input, sizes": lambda c, x, mate: c.reduce_scatter(mate(1), x, sizes=[1, 1, 1, 1]),
    "all_to_all, output": lambda c, x, mate: c.all_to_all(x, mate(4)),
    "all_to_all, input": lambda c, x, mate: c.all_to_all(mate(4), x),
    "broadcast": lambda c, x, mate: c.broadcast(x, 0),
    "broadcast, tensor": lambda c, x, mate: c.broadcast(x, 0, mate(4)),
    "broadcast, out": lambda c, x, mate: c.broadcast(mate(4), 0, x),
    "reduce": lambda c, x, mate: c.reduce(x, 0),
    "reduce, tensor": lambda c, x, mate: c.reduce(x, 0, out=mate(4)),
    "reduce, out": lambda c, x, mate: c.reduce(mate(4), 0, out=x),
    "send": lambda c, x, mate: c.send(x, 0),
    "recv": lambda c, x, mate: c.recv(x, 0),
    # The two tensors of a send_recv travel to different ranks, so they need not match.
    "send_recv output": lambda c, x, mate: c.send_recv(x, mate(4), 2, 0),
    "send_recv input": lambda c, x, mate: c.send_recv(mate(4), x, 2, 0),
}
PAIRS = [place for place in PLACES if "," in place]
# Tensors that no operation takes, and the message for each.
WRONG: dict[str, tuple[Callable[[], Tensor], str]] = {
    "meta": (
        lambda: torch.zeros(4, 4, device="meta"),
        "the tensor is on meta, and the communicator is on cpu: move the tensor there",
    ),
    "not contiguous": (
        lambda: torch.zeros(4, 8)[:, ::2],
        "the tensor of shape (4, 4) and strides (8, 2) is not contiguous: pass tensor.contiguous()",
    ),
} | {
    str(dtype): (
        lambda dtype=dtype: rows(4, dtype),
        f"the tensor has dtype {dtype}: allowed are {', '.join(f'torch.{name}' for name in DTYPES)}",
    )
    for dtype in (torch.bool, torch.complex64)
}


@pytest.mark.parametrize("place", PLACES)
def test_a_valid_tensor_is_taken_in_every_place(communicator: Any, fake: FakeNccl, place: str) -> None:
    PLACES[place](communicator, rows(4), rows)
    assert fake.calls()


# The classes of the engines do not check this either, and a call of `all_reduce` in place is as short as theirs.
UNCHECKED = ("all_reduce", "not contiguous")


@pytest.mark.parametrize(
    ("place", "wrong"), [(place, wrong) for place in PLACES for wrong in WRONG if (place, wrong) != UNCHECKED]
)
def test_an_invalid_tensor_is_refused_in_every_place(communicator: Any, fake: FakeNccl, place: str, wrong: str) -> None:
    tensor, message = WRONG[wrong][0](), WRONG[wrong][1]
    check_refused(
        fake,
        f"^{re.escape(message)}$",
        lambda: PLACES[place](communicator, tensor, lambda count: rows(count, tensor.dtype)),
    )


@pytest.mark.parametrize("place", PAIRS)
def test_data_types_that_differ_are_refused(communicator: Any, fake: FakeNccl, place: str) -> None:
    message = r"^the tensors have dtypes torch\.(float32 and torch\.float64|float64 and torch\.float32): they must be"
    check_refused(fake, message, lambda: PLACES[place](communicator, rows(4), lambda count: rows(count, torch.float64)))


@pytest.mark.parametrize("place", [place for place in PAIRS if "sizes" not in place])
@pytest.mark.parametrize("surplus", [-1, 1])
def test_counts_that_do_not_match_are_refused(communicator: Any, fake: FakeNccl, place: str, surplus: int) -> None:
    message = r"^the tensor of shape \(\d+, 4\) has \d+ elements and needs \d+, because the other tensor has \d+$"
    check_refused(fake, message, lambda: PLACES[place](communicator, rows(4), lambda count: rows(count + surplus)))


def test_the_message_for_a_wrong_count_names_the_right_one(communicator: Any, fake: FakeNccl) -> None:
    message = r"shape \(3, 4\) has 12 elements and needs 16, because the other tensor has 4$"
    check_refused(fake, message, lambda: communicator.all_gather(rows(3), rows(1)))
    message = r"shape \(3, 4\) has 12 elements and needs 32, because the other tensor has 8$"
    check_refused(fake, message, lambda: communicator.reduce_scatter(rows(2), rows(3)))
    message = r"shape \(3, 4\) has 12 elements and needs 4, because the other tensor has 4$"
    check_refused(fake, message, lambda: communicator.broadcast(rows(1), 0, rows(3)))


def test_all_to_all_refuses_a_tensor_that_does_not_divide_into_blocks(communicator: Any, fake: FakeNccl) -> None:
    message = "^the tensor has 6 elements: the number must be a multiple of the 4 ranks$"
    check_refused(fake, message, lambda: communicator.all_to_all(torch.zeros(6), torch.zeros(6)))


# Sizes, the shapes of the whole and of this rank's part, and the message.
SIZES = [
    ([1, 2, 5], (8, 3), (2, 3), "sizes has 3 entries for 4 ranks: give one for each rank"),
    ([1, 2, 0, 4, 1], (8, 3), (2, 3), "sizes has 5 entries for 4 ranks: give one for each rank"),
    ([], (8, 3), (2, 3), "sizes has 0 entries for 4 ranks: give one for each rank"),
    ([1, 2, -1, 6], (8, 3), (2, 3), "sizes is [1, 2, -1, 6]: entries must not be negative"),
    ([1, 2, 0, 6], (8, 3), (2, 3), "sizes add up to 9, and the whole tensor has 8 rows (shape (8, 3))"),
    ([1, 2, 0, 4], (8, 3), (2, 3), "sizes add up to 7, and the whole tensor has 8 rows (shape (8, 3))"),
    ([2, 1, 0, 5], (8, 3), (2, 3), "sizes[1] is 1, and the tensor of rank 1 has shape (2, 3)"),
    ([1, 2, 0, 5], (8, 3), (2, 4), "the tensors have shapes (8, 3) and (2, 4): with sizes they must agree in all"),
    ([1, 2, 0, 5], (8, 3), (6,), "the tensors have shapes (8, 3) and (6,): with sizes they must agree in all"),
    ([0, 0, 0, 1], (), (), "the tensors have shapes () and (): with sizes they must agree in all"),
]
WITH_SIZES: dict[str, Callable[[Any, Tensor, Tensor, list[int]], object]] = {
    "all_gather": lambda c, whole, part, sizes: c.all_gather(whole, part, sizes),
    "reduce_scatter": lambda c, whole, part, sizes: c.reduce_scatter(part, whole, sizes=sizes),
    "cp_all_gather_into_tensor": lambda c, whole, part, sizes: c.cp_all_gather_into_tensor(
        whole, part, cpu.default_stream(), sizes
    ),
}


@pytest.mark.parametrize("name", WITH_SIZES)
@pytest.mark.parametrize(("sizes", "whole", "part", "message"), SIZES, ids=[str(sizes) for sizes, *_ in SIZES])
def test_sizes_that_do_not_split_the_whole_are_refused(
    communicator: Any,
    fake: FakeNccl,
    name: str,
    sizes: list[int],
    whole: tuple[int, ...],
    part: tuple[int, ...],
    message: str,
) -> None:
    check_refused(
        fake,
        f"^{re.escape(message)}",
        lambda: WITH_SIZES[name](communicator, torch.zeros(whole), torch.zeros(part), sizes),
    )


@pytest.mark.parametrize("name", ["all_gather", "reduce_scatter"])
def test_torch_distributed_refuses_the_same_sizes(one_rank: dist.ProcessGroup, name: str) -> None:
    communicator = ProcessGroupCommunicator(one_rank, open_device("cpu", 0))
    with pytest.raises(InvalidArgumentError, match=r"^sizes has 2 entries for 1 ranks"):
        WITH_SIZES[name](communicator, rows(2), rows(2), [1, 1])
    with pytest.raises(InvalidArgumentError, match=r"^sizes add up to 1, and the whole tensor has 2 rows"):
        WITH_SIZES[name](communicator, rows(2), rows(2), [1])
    communicator.close()


PEERS: dict[str, tuple[str, Callable[[Any, int], object]]] = {
    "broadcast": ("src", lambda c, peer: c.broadcast(rows(1), peer)),
    "reduce": ("dst", lambda c, peer: c.reduce(rows(1), peer)),
    "send": ("dst", lambda c, peer: c.send(rows(1), peer)),
    "recv": ("src", lambda c, peer: c.recv(rows(1), peer)),
    "send_recv to": ("dst", lambda c, peer: c.send_recv(rows(1), rows(1), peer, 0)),
    "send_recv from": ("src", lambda c, peer: c.send_recv(rows(1), rows(1), 0, peer)),
}


@pytest.mark.parametrize("name", PEERS)
def test_a_rank_outside_the_group_is_refused(communicator: Any, fake: FakeNccl, name: str) -> None:
    argument, call = PEERS[name]
    for peer in (-1, 4):
        message = f"^{argument} is rank {peer}, and the communicator has ranks 0 to 3$"
        check_refused(fake, message, lambda peer=peer: call(communicator, peer))
    for peer in (0, 3):
        call(communicator, peer)
    assert fake.calls()


class OpensTheGroupFirst(StreamFreeCommunicator):
    """Sends before it refuses the receive."""

    def send_recv(self, output: Tensor, input: Tensor, dst: int, src: int) -> None:
        with self._transport.group():
            self.send(input, dst)
            self.recv(output, src)


@pytest.mark.parametrize("name", ["send_recv to", "send_recv from"])
def test_the_check_catches_a_refusal_inside_a_group(make: CommunicatorMaker, fake: FakeNccl, name: str) -> None:
    communicator = make(OpensTheGroupFirst)
    argument, call = PEERS[name]
    with pytest.raises(AssertionError, match="ncclGroupStart"):
        check_refused(fake, f"^{argument} is rank 4", lambda: call(communicator, 4))


@BOTH_POLICIES
def test_an_nccl_group_is_refused(
    one_rank: dist.ProcessGroup, device: Device, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    monkeypatch.setattr(dist, "get_backend", lambda group: "nccl")
    check_refused(fake, "^the group uses NCCL: give a Gloo group", lambda: kind(one_rank, device))


@pytest.mark.parametrize("method", ["outplace_all_reduce", "broadcast", "reduce"])
def test_torch_distributed_refuses_the_out_of_place_forms_that_it_lacks(
    one_rank: dist.ProcessGroup, method: str
) -> None:
    communicator = ProcessGroupCommunicator(one_rank, open_device("cpu", 0))
    calls: dict[str, Callable[[], object]] = {
        "outplace_all_reduce": lambda: communicator.outplace_all_reduce(rows(1)),
        "broadcast": lambda: communicator.broadcast(rows(1), 0, rows(1)),
        "reduce": lambda: communicator.reduce(rows(1), 0, out=rows(1)),
    }
    with pytest.raises(InvalidArgumentError, match=r"^torch\.distributed has no out-of-place"):
        calls[method]()
    communicator.close()
