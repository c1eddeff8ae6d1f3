"""The scenario ``chain``: a matrix product and an all_reduce for each layer of a decoder that the ranks share.

A layer multiplies this rank's part of the previous layer's result, ``tokens`` x ``hidden / ranks``, with this rank's
weights, ``hidden / ranks`` x ``hidden``. An all_reduce then adds up the products of all ranks. So each product
produces its layer's message and consumes the message before it. All products run on the caller's stream.

All results are equal, and exact. Token t holds ``token[t] * element[j]`` at j. The weights of rank r are ``factor[k] *
element[j]``. The sum of ``element[k] * factor[k]`` over the rank's part is ``share[r]``, and all shares add up to 1. So
rank r sends ``share[r]`` times the result. A product that reads a message before the all_reduce has written it makes
all later results wrong.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from nccl_bench.arms.arm import Arm
from nccl_bench.bench.buffers import BufferValues, CaseBuffers
from nccl_bench.bench.scenarios.work import Keep, Surroundings, Work, bound_calls
from nccl_bench.bench.values import Integers
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.communicators.outputs import concatenated
from nccl_bench.communicators.protocol import Operation
from nccl_bench.plan.scenarios import LARGEST_TOKEN, largest_element, weights_of

_LARGEST_FACTOR = 3


class ChainWork(Work):
    """The products of the layers. Their weights rotate through more memory than the cache has."""

    def __init__(self, surroundings: Surroundings) -> None:
        case, own_set = surroundings.case, surroundings.own_set
        assert case.hidden is not None
        assert case.tokens is not None
        self.plan, self.clock = surroundings.plan, surroundings.clock
        self._streams = surroundings.streams
        self._shape = (case.tokens, case.hidden)
        part = case.hidden // own_set.world_size
        self._own = slice(own_set.rank * part, (own_set.rank + 1) * part)
        dtype: torch.dtype = getattr(torch, case.dtype)
        device = surroundings.streams.device

        def tensor(values: Integers) -> Tensor:
            return torch.from_numpy(values).to(dtype).to(device)

        elements = element_values(case.hidden, largest_element(case.dtype, own_set.world_size), own_set.world_size)
        share = rank_shares(own_set.world_size)[own_set.rank]
        of_hidden = tensor(elements)
        weights = weights_of(surroundings.config, case, own_set.world_size)
        self._weights = torch.empty((weights, part, case.hidden), dtype=dtype, device=device)
        torch.outer(tensor(weight_factors(part, share)), of_hidden, out=self._weights[0])
        self._weights[1:] = self._weights[0]
        result = torch.outer(tensor(token_values(case.tokens)), of_hidden)
        self.values = BufferValues(input=(result * share).flatten(), expected=result.flatten(), written_by_calls=True)
        self._first = result[:, self._own]
        # The first product makes cuBLAS's state, which is not possible in a capture.
        torch.mm(self._first, self._weights[0])

    def calls(self, arm: Arm, case: Case, buffers: CaseBuffers, operations: int, keep: Keep = None) -> list[Operation]:
        slots = min(operations, buffers.slots)
        if case.placement is Placement.RETURNED:
            return self._returning_calls(arm, case, buffers, operations, keep)
        bound = bound_calls(arm, case, buffers, slots, keep)
        # With one slot in place, a product would read the memory that it writes.
        read = [self._first, *(self._part(self._output(buffers, case, index % slots)) for index in range(operations))]
        if slots == 1:
            read = [self._first] * operations
        return [
            partial(self._layer, self._product(index, read[index], buffers.input(index % slots)), bound[index % slots])
            for index in range(operations)
        ]

    def _returning_calls(
        self, arm: Arm, case: Case, buffers: CaseBuffers, operations: int, keep: Keep
    ) -> list[Operation]:
        """Return layers whose collective returns its output, which the next layer's product reads."""
        last = self._first

        def remember(result: object) -> None:
            nonlocal last
            output = concatenated(result)
            # An arm that declines returns None.
            last = self._first if output is None else self._part(output)
            if keep is not None:
                keep(result)

        bound = bound_calls(arm, case, buffers, min(operations, buffers.slots), remember)

        def layer(index: int) -> None:
            read = last if index else self._first
            self._layer(self._product(index, read, buffers.input(index)), bound[index % len(bound)])

        return [partial(layer, index) for index in range(operations)]

    def _product(self, index: int, read: Tensor, message: Tensor) -> Operation:
        """Return the product of layer ``index``, from ``read`` into ``message``."""
        weights = self._weights[index % len(self._weights)]
        return partial(torch.mm, read, weights, out=message.view(self._shape))

    def _layer(self, product: Operation, collective: Operation) -> object:
        self._streams.submit(product)
        return collective()

    def _output(self, buffers: CaseBuffers, case: Case, slot: int) -> Tensor:
        output = buffers.pair(slot, case.placement)[1]
        assert output is not None
        return output

    def _part(self, message: Tensor) -> Tensor:
        """Return the part of ``message`` that this rank's product reads."""
        return message.view(self._shape)[:, self._own]


def rank_shares(world_size: int) -> list[int]:
    """Return each rank's share of a result, as a factor. No share is 1 or 0, except the share of a single rank."""
    if world_size == 1:
        return [1]
    first = [2, -3, 2] if world_size % 2 else [2, -1]
    return first + [2, -2] * ((world_size - len(first)) // 2)


def token_values(tokens: int) -> Integers:
    """Return the value of each token."""
    return np.random.default_rng(tokens).integers(1, LARGEST_TOKEN, tokens, endpoint=True)


def element_values(hidden: int, largest: int, world_size: int) -> Integers:
    """Return the value of each element of a token, from 1 to ``largest``: two neighbours are equal.

    The last two of each rank's part are 1.
    """
    pairs = np.random.default_rng(hidden).integers(1, largest, hidden // 2, endpoint=True)
    pairs.reshape(world_size, -1)[:, -1] = 1
    return np.repeat(pairs, 2)


def weight_factors(part: int, share: int) -> Integers:
    """Return the factors of one rank's weights; none is 0. Two neighbours add up to 0, and the last two to ``share``.

    The product of these factors and equal neighbours is exact, also if a library first adds up parts of an even length.
    """
    pairs = np.random.default_rng(part).integers(1, _LARGEST_FACTOR, part // 2, endpoint=True)
    values = np.stack([pairs, -pairs], axis=1)
    values[-1] = (2, -1) if share == 1 else (share - 1, 1)
    return values.flatten()
