"""The connection of a process to the other ranks of its launch, which form one process set or several."""

import os
from dataclasses import dataclass
from typing import cast

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from nccl_bench.ranks.control import Control
from nccl_bench.ranks.process import NO_TIMEOUT, default_group


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """The ranks of one launch, as one process sees them."""

    all_ranks: Control  # the ranks of all process sets
    own_set: Control  # the ranks of this process's set
    set_index: int  # the index of this process's set
    first_ranks: tuple[int, ...]  # for each process set, the rank in `all_ranks` of its first process

    @property
    def is_first(self) -> bool:
        """True if this process is the first of its process set."""
        return self.all_ranks.rank in self.first_ranks


def process_set_index(process_sets: int) -> int:
    """Return the index of this process's set among ``process_sets``, from the variables that torchrun sets."""
    return int(os.environ["LOCAL_RANK"]) * process_sets // int(os.environ["LOCAL_WORLD_SIZE"])


def join(process_sets: int) -> Ranks:
    """Connect to the other ranks.

    Afterwards, torch.distributed's default group and torchrun's variables describe only this process set.
    """
    store, overall_rank, processes = next(rendezvous("env://", timeout=NO_TIMEOUT))
    # torch before 2.6 gives each attempt of torchrun a part of the store. Use the whole store, so that ranks with
    # different versions of torch meet.
    while isinstance(store, PrefixStore):
        store = store.underlying_store
    # All launches of a command share one store, so each launch gets a part of it.
    part = "/".join(os.environ.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"))
    store = PrefixStore(part, store)
    on_node = int(os.environ["LOCAL_WORLD_SIZE"])
    per_node, index = on_node // process_sets, process_set_index(process_sets)
    local_rank = int(os.environ["LOCAL_RANK"]) - index * per_node
    rank, world_size = overall_rank // on_node * per_node + local_rank, processes // process_sets
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(per_node),
    }
    own_store = PrefixStore(f"process-set-{index}", store)
    dist.init_process_group("gloo", store=own_store, rank=rank, world_size=world_size, timeout=NO_TIMEOUT)
    own = Control(default_group())
    if process_sets == 1:
        return Ranks(all_ranks=own, own_set=own, set_index=0, first_ranks=(0,))
    overall = dist.ProcessGroupGloo(PrefixStore("all-ranks", store), overall_rank, processes, NO_TIMEOUT)
    return Ranks(
        # torch's types for the two groups have no common base, but both have the methods that Control calls.
        all_ranks=Control(cast(dist.ProcessGroup, overall), reported_rank=rank),
        own_set=own,
        set_index=index,
        # torchrun numbers ranks node by node.
        first_ranks=tuple(range(0, on_node, per_node)),
    )
