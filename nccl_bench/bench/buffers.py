"""The input and output tensors of one case on one rank: how they are filled, poisoned and checked."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nccl_bench.bench import values
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.plan.memory import CHECKED_RESULTS, Arena

# Tensors are filled and compared as integers of the same width. So every bit is compared, also in float8.
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# Poison fills outputs before a call: NaN in floats, -1 or 255 in integers. No input or right output contains poison.
_POISON = -1
# The check compares this many elements at a time, so that its temporary tensors fit into the planned workspace.
_COMPARED = 4 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferValues:
    """The contents of the buffers if they are not the usual values: 1-D tensors of the case's data type."""

    input: Tensor  # the input of each call
    expected: Tensor  # the right output
    written_by_calls: bool  # True if a call writes its input first; then a check poisons the inputs too


class CaseBuffers:
    """The input and output tensors of ``arena.slots`` calls, in the case's data type, on ``device``.

    ``memory`` is a 1-D uint8 tensor of ``arena.slots_bytes`` bytes. Without ``memory``, torch allocates the bytes.
    ``placements`` are the placements of the arms. All arms read the same inputs. If an arm works in place, the smaller
    of input and output is block number ``rank`` of the larger one. ``contents`` replace the usual values.
    """

    def __init__(
        self,
        case: Case,
        arena: Arena,
        rank: int,
        world_size: int,
        device: torch.device,
        memory: Tensor | None = None,
        placements: Collection[Placement] | None = None,
        contents: BufferValues | None = None,
    ) -> None:
        row, itemsize = case.row, DTYPES[case.dtype].itemsize
        self._dtype: torch.dtype = getattr(torch, case.dtype)
        self._bits = _BITS[itemsize]
        self.arena = arena
        self.slots = arena.slots
        self.tolerance_ulp = values.tolerance_ulp(case, world_size)
        self.written_by_calls = contents is not None and contents.written_by_calls
        counts = row.block_counts(case.count, world_size)
        send, receive = (
            sum(counts) if all_blocks else counts[rank]
            for all_blocks in (row.sends_all_blocks, row.receives_all_blocks)
        )
        if memory is None:
            memory = torch.empty(arena.slots_bytes, dtype=torch.uint8, device=device)
        memory = memory.view(self._bits).view(arena.regions, arena.slots, arena.slot_bytes // itemsize)
        self._memory = memory
        own = sum(counts[:rank])
        placements = {case.placement} if placements is None else {*placements}
        self._input_bits = memory[0, :, :send]
        # Placement -> the outputs of this placement. Returned outputs are not in `memory`.
        self._output_bits: dict[Placement, Tensor] = {}
        if Placement.OUT_OF_PLACE in placements:
            self._output_bits[Placement.OUT_OF_PLACE] = memory[1, :, :receive]
        # If the input is as large as the output, an arm that should return its output can turn out to work in place.
        self._one_tensor = send == receive
        if Placement.IN_PLACE in placements or self._one_tensor:
            self._output_bits[Placement.IN_PLACE] = memory[0, :, :receive]
            if receive > send:
                self._input_bits = memory[0, :, own : own + send]
            elif send > receive:
                self._output_bits[Placement.IN_PLACE] = memory[0, :, own : own + receive]

        self._receive = receive
        self._expected: Tensor | None = None
        if contents is None:
            self._input_values = torch.empty(send, dtype=self._bits, device=device)
            self._fill_usual(case, rank, world_size)
        else:
            self._input_values, self._expected = contents.input.view(self._bits), contents.expected.view(self._bits)
        # The inputs of all slots, and the values that each input gets.
        self._words = _as_words(self._input_bits, self._input_values)
        # Write to every slot now, so that no batch reads zeros or is the first to use the memory of a slot.
        for placement in placements:
            self.poison(self.slots, placement)

    def _fill_usual(self, case: Case, rank: int, world_size: int) -> None:
        """Make the input and the expected output from the tables of values."""
        self._fill(self._input_values, values.table(case, rank, world_size), 0)
        tables = values.expected_tables(case, rank, world_size)
        if tables:
            self._expected = self._input_values.new_empty(self._receive)
            counts = case.row.block_counts(case.count, world_size)
            blocks = torch.split(self._expected, counts if len(tables) > 1 else self._receive)
            for block, table in zip(blocks, tables, strict=True):
                self._fill(block, table, values.first_element(case, rank, world_size))

    def copy_memory(self, outputs: Iterable[Tensor]) -> list[Tensor]:
        """Return copies of the memory of all slots and of ``outputs``, for ``count_changes``."""
        return [tensor.clone() for tensor in self._written(outputs)]

    def count_changes(self, copies: Sequence[Tensor], outputs: Iterable[Tensor]) -> int:
        """Return the number of elements that differ from ``copies``, in inputs and outputs."""
        changes = 0
        for tensor, copy in zip(self._written(outputs), copies, strict=True):
            pairs = zip(torch.split(tensor.flatten(), _COMPARED), torch.split(copy.flatten(), _COMPARED), strict=True)
            changes += sum(int((now != before).sum()) for now, before in pairs)
        return changes

    def _written(self, outputs: Iterable[Tensor]) -> list[Tensor]:
        """Return the memory that calls can write, as tensors of integers: the slots, and the returned outputs."""
        own = self._memory.untyped_storage().data_ptr()
        returned = [output for output in outputs if output.untyped_storage().data_ptr() != own]
        return [self._memory, *(output.view(self._bits) for output in returned)]

    def _fill(self, bits: Tensor, table: values.Values, first: int) -> None:
        """Fill ``bits`` with repetitions of ``table``. The first value is element ``first % PERIOD`` of the table."""
        rolled = np.ascontiguousarray(np.roll(table, -(first % values.PERIOD)))
        period = torch.from_numpy(rolled).to(self._dtype).view(self._bits).to(bits.device)
        periods = bits.numel() // values.PERIOD
        head, tail = bits[: periods * values.PERIOD], bits[periods * values.PERIOD :]
        head.view(periods, values.PERIOD).copy_(period.expand(periods, -1))
        tail.copy_(period[: tail.numel()])

    def input(self, slot: int) -> Tensor:
        """Return the input of a slot as a 1-D tensor."""
        return self._input_bits[slot % self.slots].view(self._dtype)

    def pair(self, slot: int, placement: Placement) -> tuple[Tensor, Tensor | None]:
        """Return the input and the output of a slot. If both are one tensor, return the same object twice.

        The output is ``None`` if ``placement`` is ``RETURNED``.
        """
        source = self.input(slot)
        if placement is Placement.RETURNED:
            return source, None
        if placement is Placement.IN_PLACE and self._one_tensor:
            return source, source
        return source, self._output_bits[placement][slot % self.slots].view(self._dtype)

    def outputs(self, slots: int, placement: Placement) -> list[Tensor]:
        """Return the outputs of the first ``slots`` slots as 1-D tensors; ``placement`` is not ``RETURNED``."""
        return list(self._output_bits[placement][:slots].view(self._dtype))

    @property
    def expected(self) -> Tensor | None:
        """The right output as a 1-D tensor; ``None`` if this rank's output is not defined."""
        return None if self._expected is None else self._expected.view(self._dtype)

    def restore(self, slots: int) -> None:
        """Write the original inputs into the first ``slots`` slots again."""
        inputs, source = self._words
        inputs[:slots].copy_(source.expand(min(slots, self.slots), -1))

    def poison(self, slots: int, placement: Placement, returned: Sequence[Tensor] = ()) -> None:
        """Fill the outputs of the first ``slots`` slots with poison, and write the inputs again.

        If calls write their inputs, the inputs get poison too.

        ``returned`` are the outputs that a graph has returned; each replay writes them again. Without such outputs, the
        next calls return new tensors. Then fill and free tensors of the same size, because an allocator gives their
        memory to these new tensors.
        """
        if placement is not Placement.RETURNED:
            outputs = [self._output_bits[placement][:slots]]
        elif returned:
            outputs = [result.view(self._bits) for result in returned]
        else:
            number = min(slots, CHECKED_RESULTS)
            outputs = [self._input_values.new_empty(self._receive) for _ in range(number)]
        for output in outputs:
            output.fill_(self._poison)
        if self.written_by_calls:
            self._input_bits[:slots].fill_(self._poison)
        else:
            self.restore(slots)

    def wrong(self, outputs: Iterable[Tensor]) -> int:
        """Wait for the current stream, and return the number of wrong elements in ``outputs``."""
        if self._expected is None:
            return 0
        total = torch.zeros((), dtype=torch.int64, device=self._expected.device)
        for output in outputs:
            bits = output.contiguous().view(self._bits)
            for got, expected in zip(torch.split(bits, _COMPARED), torch.split(self._expected, _COMPARED), strict=True):
                total += self._differs(got, expected).sum()
        return int(total)

    def is_unchanged(self, placement: Placement) -> bool:
        """Return whether no call has written the first slot since ``poison`` was called with ``placement``."""
        read = zip(torch.split(self._input_bits[0], _COMPARED), torch.split(self._input_values, _COMPARED), strict=True)
        if not all(torch.equal(now, before) for now, before in read):
            return False
        output = self._output_bits.get(placement)
        if output is None or (placement is Placement.IN_PLACE and self._receive <= self._input_values.numel()):
            return True  # nothing was poisoned, or the input has overwritten all poison
        written = sum(int((part != self._poison).sum()) for part in torch.split(output[0], _COMPARED))
        # In place, the input is a part of the output, and no input contains poison.
        return written == (self._input_values.numel() if placement is Placement.IN_PLACE else 0)

    def is_right(self, placement: Placement) -> bool:
        """Return whether the output of the first slot is right. For ``RETURNED``, look at the output in place.

        A call that should return its output, and returned nothing, can have worked in place.
        """
        written = Placement.IN_PLACE if placement is Placement.RETURNED else placement
        return written in self._output_bits and not self.wrong(self.outputs(1, written))

    @property
    def _poison(self) -> int:
        return _POISON if self._bits.is_signed else 255

    def _differs(self, bits: Tensor, expected: Tensor) -> Tensor:
        if self.tolerance_ulp == 0:
            return bits != expected
        # All values are positive floats. If their bits are read as integers, their difference is the error in ulp
        # (units in the last place).
        wide = torch.int32 if bits.dtype.itemsize < 4 else torch.int64
        return (bits.to(wide) - expected.to(wide)).abs() > self.tolerance_ulp


def _as_words(*tensors: Tensor) -> Sequence[Tensor]:
    """Return ``tensors`` as integers of 8 bytes if all their lengths and offsets allow this; otherwise unchanged.

    A copy is faster with fewer, larger elements: with elements of 2 bytes, a copy of 4 GiB takes 5 ms on an H200,
    although its memory needs only 1 to 2 ms.
    """
    per_word = torch.int64.itemsize // tensors[0].element_size()
    lengths = [
        length for tensor in tensors for length in (tensor.shape[-1], tensor.storage_offset(), *tensor.stride()[:-1])
    ]
    return tensors if any(length % per_word for length in lengths) else [tensor.view(torch.int64) for tensor in tensors]
