"""One case's tensors on one rank: an arena of slots, their inputs, the poison in their outputs, the check."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nccl_bench.bench import values
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.plan.memory import Arena

# Tensors are filled and compared as integers of their width: every bit counts, and float8 has no arithmetic.
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# All ones: NaN in every float, -1 or 255 in integers. The tables hold none of these.
_POISON = -1
# Elements compared at a time, so that the temporaries fit the planned workspace.
_COMPARED = 4 * 1024**2


class CaseBuffers:
    """``slots`` inputs and outputs, tensors of ``case``'s dtype on ``device``.

    They lie in ``memory``, ``arena.slots_bytes`` bytes as a 1-D uint8 tensor, or in torch's where none is given.
    In place, an output shares the memory of its input as the collective's table says. Calls rotate through the slots.
    """

    def __init__(
        self,
        case: Case,
        arena: Arena,
        rank: int,
        world_size: int,
        device: torch.device,
        memory: Tensor | None = None,
    ) -> None:
        row, itemsize = case.row, DTYPES[case.dtype].itemsize
        self._dtype: torch.dtype = getattr(torch, case.dtype)
        self._bits = _BITS[itemsize]
        self.slots = arena.slots
        self.tolerance_ulp = values.tolerance_ulp(case, world_size)
        send = row.send_count(case.count, world_size)
        receive = row.receive_count(case.count, world_size)
        if memory is None:
            memory = torch.empty(arena.slots_bytes, dtype=torch.uint8, device=device)
        memory = memory.view(self._bits).view(arena.regions, arena.slots, arena.slot_bytes // itemsize)
        own = rank * case.count
        self._input_bits = memory[0, :, :send]
        self._output_bits = memory[arena.regions - 1, :, :receive]
        self.in_place = case.placement is Placement.IN_PLACE
        if self.in_place and receive > send:
            self._input_bits = memory[0, :, own : own + send]
        elif self.in_place and send > receive:
            self._output_bits = memory[0, :, own : own + receive]
        self._whole = self.in_place and send == receive

        self._input_values = torch.empty(send, dtype=self._bits, device=device)
        self._fill(self._input_values, values.table(case, rank, world_size), 0)
        self._expected: Tensor | None = None
        tables = values.expected_tables(case, rank, world_size)
        if tables:
            self._expected = torch.empty(receive, dtype=self._bits, device=device)
            for block, values_of_block in zip(self._expected.view(len(tables), -1), tables, strict=True):
                self._fill(block, values_of_block, values.first_element(case, rank))
        # A check visits few slots and a batch all of them: none may hold zeros, or be touched for the first time then.
        self.poison(self.slots)

    def _fill(self, bits: Tensor, table: values.Values, first: int) -> None:
        """Fill ``bits`` with the endlessly repeated ``table``, from its element ``first``."""
        rolled = np.ascontiguousarray(np.roll(table, -(first % values.PERIOD)))
        period = torch.from_numpy(rolled).to(self._dtype).view(self._bits).to(bits.device)
        whole = bits.numel() // values.PERIOD
        head, tail = bits[: whole * values.PERIOD], bits[whole * values.PERIOD :]
        head.view(whole, values.PERIOD).copy_(period.expand(whole, -1))
        tail.copy_(period[: tail.numel()])

    def input(self, slot: int) -> Tensor:
        """The input of one slot, 1-D."""
        return self._input_bits[slot % self.slots].view(self._dtype)

    def output(self, slot: int) -> Tensor:
        """The output of one slot, 1-D; use ``pair`` to get the same tensor twice where both are one."""
        return self._output_bits[slot % self.slots].view(self._dtype)

    def pair(self, slot: int) -> tuple[Tensor, Tensor]:
        """Input and output of one slot."""
        source = self.input(slot)
        return source, source if self._whole else self.output(slot)

    def restore(self, slots: int) -> None:
        """Write the inputs of the first ``slots`` slots again."""
        self._input_bits[:slots].copy_(self._input_values.expand(min(slots, self.slots), -1))

    def poison(self, slots: int) -> None:
        """Overwrite the outputs of the first ``slots`` slots, then restore what an in-place input shares with them."""
        self._output_bits[:slots].fill_(_POISON if self._bits.is_signed else 255)
        self.restore(slots)

    def wrong(self, slots: int) -> int:
        """How many elements in the outputs of the first ``slots`` slots are not what they must be. Synchronises."""
        if self._expected is None:
            return 0
        total = torch.zeros((), dtype=torch.int64, device=self._expected.device)
        for output in self._output_bits[:slots]:
            for got, expected in zip(
                torch.split(output, _COMPARED), torch.split(self._expected, _COMPARED), strict=True
            ):
                total += self._differs(got, expected).sum()
        return int(total)

    def _differs(self, bits: Tensor, expected: Tensor) -> Tensor:
        if self.tolerance_ulp == 0:
            return bits != expected
        # Every value is positive, so neighbouring floats are neighbouring integers.
        wide = torch.int32 if bits.dtype.itemsize < 4 else torch.int64
        return (bits.to(wide) - expected.to(wide)).abs() > self.tolerance_ulp
