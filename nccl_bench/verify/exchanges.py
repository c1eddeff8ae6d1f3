"""The collectives that probes try, with their inputs and expected results.

Every rank can compute every result. The values are float32 and so small that each sum is exact. A number, called
the salt, selects the input. Inputs with two different salts differ in every element, so that an old input is detected.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.communicators.outputs import concatenated, tensors_of
from nccl_bench.config.sizes import format_size
from nccl_bench.errors import SetupError
from nccl_bench.streams.base import Streams

_ITEMSIZE = 4
# Inputs are below this number, so that their sum over thousands of ranks is exact in float32.
_MODULUS = 251
_SALT_STEP = 101
_RANK_STEP = 29
POISON = -1.0
OUTPLACE_ALL_REDUCE = "outplace_all_reduce"


@dataclass(frozen=True, slots=True, kw_only=True)
class Participants:
    """The ranks that take part in an exchange, from the view of one rank."""

    rank: int  # the number of this rank
    world_size: int  # the number of ranks
    device: torch.device  # the device of this rank's tensors

    # Number of elements -> the table that `_repeat` returned for this number.
    _repeated: dict[int, Tensor] = field(default_factory=dict, repr=False)

    def make_input(self, rank: int, salt: int, shape: tuple[int, ...]) -> Tensor:
        """Return the input of ``rank``. Inputs with two different salts below 251 differ in every element."""
        return self._view_input(rank, salt, shape).clone()

    def sum_inputs(self, salt: int, shape: tuple[int, ...]) -> Tensor:
        """Return the sum of all ranks' inputs, which have the same shape."""
        total = self.make_input(0, salt, shape)
        for rank in range(1, self.world_size):
            total += self._view_input(rank, salt, shape)
        return total

    def join_inputs(self, salt: int, shapes: Sequence[tuple[int, ...]]) -> Tensor:
        """Return the inputs of all ranks one below the other. Each rank has one of ``shapes``."""
        return torch.cat([self._view_input(rank, salt, shape) for rank, shape in enumerate(shapes)])

    def _view_input(self, rank: int, salt: int, shape: tuple[int, ...]) -> Tensor:
        """Return the input of ``rank`` as a part of a table, which nobody may change."""
        count = math.prod(shape)
        if count not in self._repeated:
            self._repeated[count] = _repeat(count + _MODULUS, self.device)
        begin = (rank * _RANK_STEP + salt * _SALT_STEP) % _MODULUS
        return self._repeated[count][begin : begin + count].view(shape)


def _repeat(count: int, device: torch.device) -> Tensor:
    """Return ``count`` elements: the numbers below 251, again and again."""
    return (torch.arange(count, device=device) % _MODULUS).to(torch.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A collective with one message size, and the tensors of this rank."""

    label: str  # the collective with its placement or its sizes, in words
    size_bytes: int  # the message size; with uneven sizes, the true size is a little smaller
    operation_name: str  # the collective's name in the coordinator's routing table
    input: Tensor  # this rank's input
    output: Tensor  # this rank's output; the same tensor as `input` if the collective is in place
    make_input: Callable[[int], Tensor]  # the function that returns this rank's input for a salt
    make_expected: Callable[[int], Tensor]  # the function that returns this rank's expected output
    run: Callable[[Any, Tensor, Tensor], object]  # the function that runs the collective: (communicator, input, output)
    returns: bool = False  # True if the collective returns a new tensor, which `receive` copies to `output`
    # The results that `receive` has not taken yet, in the order of the calls. On the CPU, many calls can be queued.
    _returned: deque[object] = field(default_factory=deque, repr=False)

    @property
    def name(self) -> str:
        """The name for messages, which includes the size."""
        return f"{self.label} {format_size(self.size_bytes)}"

    @property
    def placement(self) -> Placement:
        """The placement of the collective's calls."""
        if self.returns:
            return Placement.RETURNED
        return Placement.IN_PLACE if self.output is self.input else Placement.OUT_OF_PLACE

    @property
    def case(self) -> Case:
        """The collective as a case of a run."""
        collective = self.operation_name.removesuffix("v")
        return Case(
            scenario=Scenario.ISOLATED,
            collective=collective,
            dtype="float32",
            redop=RedOp.SUM if COLLECTIVES[collective].reduces else None,
            placement=self.placement,
            root=None,
            size_bytes=max(self.input.nbytes, self.output.nbytes),
            count=min(self.input.numel(), self.output.numel()),
        )

    def operation(self, communicator: Any, input: Tensor | None = None) -> Callable[[], object]:
        """Return a call of the collective on ``communicator``. The call is not ordered with any other work.

        ``input`` replaces this exchange's input.
        """
        return partial(self._run, communicator, self.input if input is None else input)

    def _run(self, communicator: Any, input: Tensor) -> None:
        result = self.run(communicator, input, self.output)
        if not self.returns:
            return
        count = sum(tensor.numel() for tensor in tensors_of(result))
        if count != self.output.numel():
            got = f"{count} elements" if count else type(result).__name__
            raise SetupError(f"{self.name} returned {got}: return {self.output.numel()} elements")
        self._returned.append(result)

    @classmethod
    def is_call(cls, path: str, function: str) -> bool:
        """Return True if a frame of a stack with this ``path`` and ``function`` is a call from ``operation``."""
        code = cls._run.__code__
        return (path, function) == (code.co_filename, code.co_name)

    def receive(self, streams: Streams) -> None:
        """Copy what the call has returned to the output, on the current stream, as a consumer does."""
        if self.returns:
            streams.submit(self._copy_returned)

    def _copy_returned(self) -> None:
        result = concatenated(self._returned.popleft())
        assert result is not None
        self.output.view(-1).copy_(result)

    def reset(self, salt: int) -> None:
        """Fill the output with ``POISON`` and write the input of ``salt``. The device must be idle."""
        self.output.fill_(POISON)
        self.input.copy_(self.make_input(salt))

    def find_error(self, result: Tensor, salt: int) -> str | None:
        """Return a message about the wrong elements of ``result``, or ``None`` if ``result`` is right."""
        expected = self.make_expected(salt)
        different = (result != expected).flatten()
        count = int(different.sum())
        if not count:
            return None
        first = int(different.nonzero()[0])
        return (
            f"{count} of {different.numel()} elements are wrong; element {first} is {result.flatten()[first]:g} and "
            f"must be {expected.flatten()[first]:g}"
        )


_ALL_REDUCES: Mapping[Placement, Callable[[Any, Tensor, Tensor], object]] = {
    Placement.IN_PLACE: lambda comm, sent, received: comm.all_reduce(sent),
    Placement.OUT_OF_PLACE: lambda comm, sent, received: comm.outplace_all_reduce(sent, received),
    Placement.RETURNED: lambda comm, sent, received: comm.returning("all_reduce")(sent),
}


def _all_reduce(ranks: Participants, size_bytes: int, *, placement: Placement) -> Exchange:
    shape = (size_bytes // _ITEMSIZE, 1)
    tensor, in_place = torch.empty(shape, device=ranks.device), placement is Placement.IN_PLACE
    return Exchange(
        operation_name="all_reduce",
        label=f"{'' if in_place else f'{placement} '}all_reduce",
        size_bytes=size_bytes,
        input=tensor,
        output=tensor if in_place else torch.empty(shape, device=ranks.device),
        make_input=lambda salt: ranks.make_input(ranks.rank, salt, shape),
        make_expected=lambda salt: ranks.sum_inputs(salt, shape),
        run=_ALL_REDUCES[placement],
        returns=placement is Placement.RETURNED,
    )


def _all_gather(ranks: Participants, size_bytes: int, *, uneven: bool) -> Exchange:
    sizes, columns = _split_rows(ranks, size_bytes, uneven)
    return Exchange(
        operation_name="all_gatherv" if uneven else "all_gather",
        label=f"all_gather{' with sizes' if uneven else ''}",
        size_bytes=size_bytes,
        input=torch.empty((sizes[ranks.rank], columns), device=ranks.device),
        output=torch.empty((sum(sizes), columns), device=ranks.device),
        make_input=lambda salt: ranks.make_input(ranks.rank, salt, (sizes[ranks.rank], columns)),
        make_expected=lambda salt: ranks.join_inputs(salt, [(rows, columns) for rows in sizes]),
        run=lambda comm, sent, received: comm.all_gather(received, sent, sizes if uneven else None),
    )


def _reduce_scatter(ranks: Participants, size_bytes: int, *, uneven: bool) -> Exchange:
    sizes, columns = _split_rows(ranks, size_bytes, uneven)
    whole = (sum(sizes), columns)
    return Exchange(
        operation_name="reduce_scatterv" if uneven else "reduce_scatter",
        label=f"reduce_scatter{' with sizes' if uneven else ''}",
        size_bytes=size_bytes,
        input=torch.empty(whole, device=ranks.device),
        output=torch.empty((sizes[ranks.rank], columns), device=ranks.device),
        make_input=lambda salt: ranks.make_input(ranks.rank, salt, whole),
        make_expected=lambda salt: torch.split(ranks.sum_inputs(salt, whole), sizes)[ranks.rank],
        run=lambda comm, sent, received: comm.reduce_scatter(received, sent, sizes=sizes if uneven else None),
    )


def _split_rows(ranks: Participants, size_bytes: int, uneven: bool) -> tuple[list[int], int]:
    """Return each rank's number of rows, and the number of columns, of a tensor of roughly ``size_bytes``."""
    sizes = [rank + 1 if uneven else 1 for rank in range(ranks.world_size)]
    return sizes, max(1, size_bytes // _ITEMSIZE // sum(sizes))


def _returning(ranks: Participants, size_bytes: int, *, collective: str) -> Exchange:
    exchange = EXCHANGES[collective](ranks, size_bytes)
    return replace(
        exchange,
        label=f"returned {exchange.label}",
        run=lambda comm, sent, received: comm.returning(collective)(sent),
        returns=True,
    )


EXCHANGES: Mapping[str, Callable[[Participants, int], Exchange]] = {
    "all_reduce": partial(_all_reduce, placement=Placement.IN_PLACE),
    OUTPLACE_ALL_REDUCE: partial(_all_reduce, placement=Placement.OUT_OF_PLACE),
    "return_all_reduce": partial(_all_reduce, placement=Placement.RETURNED),
    "all_gather": partial(_all_gather, uneven=False),
    "all_gatherv": partial(_all_gather, uneven=True),
    "reduce_scatter": partial(_reduce_scatter, uneven=False),
    "reduce_scatterv": partial(_reduce_scatter, uneven=True),
    "return_all_gather": partial(_returning, collective="all_gather"),
    "return_reduce_scatter": partial(_returning, collective="reduce_scatter"),
}
