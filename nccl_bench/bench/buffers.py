"""The input and output tensors of one case on one rank: how they are filled, poisoned and checked."""

import numpy as np
import torch
from torch import Tensor

from nccl_bench.bench import values
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.plan.memory import Arena

# Tensors are filled and compared as integers of the same width. So every bit counts, and float8 can be compared.
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# Poison fills outputs before a call: NaN in floats, -1 or 255 in integers. No input or right output contains poison.
_POISON = -1
# The check compares this many elements at a time, so that its temporary tensors fit into the planned workspace.
_COMPARED = 4 * 1024**2


class CaseBuffers:
    """The input and output tensors of ``arena.slots`` calls, in the case's data type, on ``device``.

    ``memory`` is a 1-D uint8 tensor of ``arena.slots_bytes`` bytes. Without ``memory``, torch allocates the bytes.
    If the case is in place, the smaller of input and output is block number ``rank`` of the larger one.
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
        self.arena = arena
        self.slots = arena.slots
        self.tolerance_ulp = values.tolerance_ulp(case, world_size)
        send = row.send_count(case.count, world_size)
        receive = row.receive_count(case.count, world_size)
        if memory is None:
            memory = torch.empty(arena.slots_bytes, dtype=torch.uint8, device=device)
        memory = memory.view(self._bits).view(arena.regions, arena.slots, arena.slot_bytes // itemsize)
        self._memory = memory
        own = rank * case.count
        self._input_bits = memory[0, :, :send]
        self._output_bits = memory[arena.regions - 1, :, :receive]
        self.in_place = case.placement is Placement.IN_PLACE
        if self.in_place and receive > send:
            self._input_bits = memory[0, :, own : own + send]
        elif self.in_place and send > receive:
            self._output_bits = memory[0, :, own : own + receive]
        self._one_tensor = self.in_place and send == receive

        self._input_values = torch.empty(send, dtype=self._bits, device=device)
        self._fill(self._input_values, values.table(case, rank, world_size), 0)
        self._expected: Tensor | None = None
        tables = values.expected_tables(case, rank, world_size)
        if tables:
            self._expected = torch.empty(receive, dtype=self._bits, device=device)
            for block, table in zip(self._expected.view(len(tables), -1), tables, strict=True):
                self._fill(block, table, values.first_element(case, rank))
        # Write to every slot now, so that no batch reads zeros or is the first to use the memory of a slot.
        self.poison(self.slots)

    def _fill(self, bits: Tensor, table: values.Values, first: int) -> None:
        """Fill ``bits`` with repetitions of ``table``. The first value is element ``first % PERIOD`` of the table."""
        rolled = np.ascontiguousarray(np.roll(table, -(first % values.PERIOD)))
        period = torch.from_numpy(rolled).to(self._dtype).view(self._bits).to(bits.device)
        periods = bits.numel() // values.PERIOD
        head, tail = bits[: periods * values.PERIOD], bits[periods * values.PERIOD :]
        head.view(periods, values.PERIOD).copy_(period.expand(periods, -1))
        tail.copy_(period[: tail.numel()])

    def copy_memory(self) -> Tensor:
        """Return a copy of the memory of all slots, for ``count_changes``."""
        return self._memory.clone()

    def count_changes(self, copy: Tensor) -> int:
        """Return the number of elements that differ from ``copy``, in inputs and outputs."""
        pairs = zip(torch.split(self._memory.flatten(), _COMPARED), torch.split(copy.flatten(), _COMPARED), strict=True)
        return sum(int((now != before).sum()) for now, before in pairs)

    def input(self, slot: int) -> Tensor:
        """Return the input of a slot as a 1-D tensor."""
        return self._input_bits[slot % self.slots].view(self._dtype)

    def output(self, slot: int) -> Tensor:
        """Return the output of a slot as a 1-D tensor."""
        return self._output_bits[slot % self.slots].view(self._dtype)

    def pair(self, slot: int) -> tuple[Tensor, Tensor]:
        """Return the input and the output of a slot. If both are one tensor, return the same object twice."""
        source = self.input(slot)
        return source, source if self._one_tensor else self.output(slot)

    def restore(self, slots: int) -> None:
        """Write the original inputs into the first ``slots`` slots again."""
        self._input_bits[:slots].copy_(self._input_values.expand(min(slots, self.slots), -1))

    def poison(self, slots: int) -> None:
        """Fill the outputs of the first ``slots`` slots with poison, and write the inputs again."""
        self._output_bits[:slots].fill_(_POISON if self._bits.is_signed else 255)
        self.restore(slots)

    def wrong(self, slots: int) -> int:
        """Wait for the current stream, and return the number of wrong elements in the first ``slots`` outputs."""
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
        # All values are positive floats: bits, read as integers, differ by the error in ulp (units in the last place).
        wide = torch.int32 if bits.dtype.itemsize < 4 else torch.int64
        return (bits.to(wide) - expected.to(wide)).abs() > self.tolerance_ulp
