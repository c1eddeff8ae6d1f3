"""The ranks of one launch, which are one world or several beside each other, as ``plan.process_sets`` has it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar, cast

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from nccl_bench.ranks.control import Control
from nccl_bench.ranks.process import NEVER, world_group

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """``here`` are the ranks of this process's world, at ``index`` of them all, and ``everyone`` those of all.

    ``first`` is, for each world, which of everyone's ranks its first one is. Every method is collective over everyone.
    """

    everyone: Control
    here: Control
    index: int
    first: tuple[int, ...]

    def of_each(self, value: _T) -> list[_T]:
        """The ``value`` of each world's first rank."""
        return [self.everyone.announce(value, source) for source in self.first]

    def in_turn(self) -> Iterator[bool]:
        """Once for each world, and whether it is this one's turn: process_sets share their devices."""
        for index in range(len(self.first)):
            self.change_over()
            yield index == self.index
        self.change_over()

    def change_over(self) -> None:
        """Wait for what another world does."""
        if len(self.first) > 1:
            self.everyone.barrier()


def process_set_index(process_sets: int) -> int:
    """Which of so many process_sets this process belongs to, by the variables that torchrun sets."""
    return int(os.environ["LOCAL_RANK"]) * process_sets // int(os.environ["LOCAL_WORLD_SIZE"])


def join(process_sets: int) -> Ranks:
    """Meet the other ranks. torch.distributed's default group, and what torchrun sets, are then this world's alone."""
    if process_sets == 1:
        dist.init_process_group("gloo", timeout=NEVER)
        control = Control(world_group())
        return Ranks(everyone=control, here=control, index=0, first=(0,))
    store, rank, world_size = next(rendezvous("env://", timeout=NEVER))
    of_node = int(os.environ["LOCAL_WORLD_SIZE"])
    per_node, index = of_node // process_sets, process_set_index(process_sets)
    local_rank = int(os.environ["LOCAL_RANK"]) - index * per_node
    rank_here = rank // of_node * per_node + local_rank
    os.environ |= {
        "RANK": str(rank_here),
        "WORLD_SIZE": str(world_size // process_sets),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(per_node),
    }
    dist.init_process_group(
        "gloo",
        store=PrefixStore(f"world-{index}", store),
        rank=rank_here,
        world_size=world_size // process_sets,
        timeout=NEVER,
    )
    # Called as a registered group's methods are, though the bindings' types have no common name.
    everyone = cast(dist.ProcessGroup, dist.ProcessGroupGloo(PrefixStore("everyone", store), rank, world_size, NEVER))
    return Ranks(
        everyone=Control(everyone, rank_told=rank_here),
        here=Control(world_group()),
        index=index,
        # Torchrun numbers ranks node by node.
        first=tuple(range(0, of_node, per_node)),
    )
