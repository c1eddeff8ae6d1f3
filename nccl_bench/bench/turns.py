"""The turns of a run's process sets. All process sets share the devices, so only one process set works at a time."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from nccl_bench.arms.arm import Arm
from nccl_bench.plan.process_sets import ProcessSet
from nccl_bench.ranks.joining import Ranks
from nccl_bench.ranks.progress import Progress

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class ArmsInTurn:
    """The arms of a run. Every process knows the names of all arms, and has the arms of its own process set."""

    def __init__(
        self, own: Mapping[str, Arm], process_sets: Sequence[ProcessSet], ranks: Ranks, progress: Progress
    ) -> None:
        self.own = own
        self.ranks = ranks
        self._progress = progress
        self._process_set_of = {
            name: index for index, process_set in enumerate(process_sets) for name in process_set.arms
        }
        # The index of the process set whose turn it is; -1 before the first turn.
        self._at_work = -1

    def __getitem__(self, name: str) -> Arm:
        """Return an arm of this process."""
        return self.own[name]

    def present(self, names: Iterable[str]) -> list[str]:
        """Return the ``names`` that are arms of this process."""
        return [name for name in names if name in self.own]

    def share_memory(self, name: str, other: str) -> bool:
        """Return whether two arms are in the same processes, so that each can write into the tensors of the other."""
        return self._process_set_of[name] == self._process_set_of[other]

    def visit(self, names: Iterable[str], phase: str) -> Iterator[str]:
        """Yield each of ``names`` that is an arm of this process, while no other process set works. Collective."""
        for name in names:
            self.report(name, phase)
            process_set = self._process_set_of[name]
            if process_set != self._at_work:
                self._change_over()
                self._at_work = process_set
            if process_set == self.ranks.set_index:
                yield name
            else:
                # Only a process that waits reports this step. A hang is blamed on the rank with the fewest steps.
                self.report(name, f"{phase}, by other processes")

    def exclusively(self, work: Callable[[], _Value]) -> _Value:
        """Do ``work`` in one process set after the other, and return this process's result. Collective."""
        for index in range(len(self.ranks.first_ranks)):
            self._change_over()
            if index == self.ranks.set_index:
                result = work()
        self._change_over()
        return result

    def merge(self, findings: Mapping[_Key, _Value]) -> dict[_Key, _Value]:
        """Merge the ``findings`` (JSON) of the first rank of every process set into one mapping. Collective."""
        merged: dict[_Key, _Value] = {}
        for first_rank in self.ranks.first_ranks:
            merged |= self.ranks.all_ranks.broadcast(findings, first_rank)
        return merged

    def report(self, name: str, phase: str) -> None:
        """Report that the arm ``name`` is at ``phase`` of the current case. The deadline does not change."""
        case_index = self._progress.position.case_index
        self._progress.update(case_index=case_index, arm=name, phase=phase, deadline_s=None)

    def _change_over(self) -> None:
        if len(self.ranks.first_ranks) > 1:
            self.ranks.all_ranks.barrier()
