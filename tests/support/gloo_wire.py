"""A Gloo group that does for user arms on the CPU what NCCL does for those on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup

from nccl_bench.ranks.process import destroy_group
from nccl_bench.streams import cpu

gather_into: Callable[..., Any] = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
scatter_from: Callable[..., Any] = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


class Wire:
    """A Gloo group in place of NCCL. Its collectives run in the order of the stream that they get."""

    def __init__(self, group: ProcessGroup) -> None:
        self.group = dist.new_group(dist.get_process_group_ranks(group), backend="gloo")
        self.last = cpu.Event()
        self.held: list[tuple[cpu.Stream, Any, torch.Tensor, int]] | None = None

    def queue(self, stream: cpu.Stream, work: Callable[..., Any], *tensors: Any) -> None:
        stream.wait_event(self.last)
        stream.submit(work, *tensors)
        self.last.record(stream)

    def all_reduce(self, stream: cpu.Stream, source: torch.Tensor, target: torch.Tensor, op: Any) -> None:
        def work(source: torch.Tensor, target: torch.Tensor) -> None:
            if source is not target:
                target.copy_(source)
            dist.all_reduce(target, op=op, group=self.group)

        self.queue(stream, work, source, target)

    def all_gather(self, stream: cpu.Stream, output: torch.Tensor, input: torch.Tensor, sizes: Any = None) -> None:
        def work(output: torch.Tensor, input: torch.Tensor) -> None:
            if sizes is None:
                gather_into(output, input, group=self.group)
                return
            blocks = torch.split(output, sizes)
            blocks[dist.get_rank(self.group)].copy_(input)
            for root, block in enumerate(blocks):
                dist.broadcast(block, self.number(root), group=self.group)

        self.queue(stream, work, output, input)

    def reduce_scatter(
        self, stream: cpu.Stream, output: torch.Tensor, input: torch.Tensor, op: Any, sizes: Any = None
    ) -> None:
        def work(output: torch.Tensor, input: torch.Tensor) -> None:
            if sizes is None:
                scatter_from(output, input, op=op, group=self.group)
                return
            everything = input.clone()
            dist.all_reduce(everything, op=op, group=self.group)
            output.copy_(torch.split(everything, sizes)[dist.get_rank(self.group)])

        self.queue(stream, work, output, input)

    def broadcast(self, stream: cpu.Stream, tensor: torch.Tensor, src: int) -> None:
        self.queue(stream, lambda tensor: dist.broadcast(tensor, self.number(src), group=self.group), tensor)

    def number(self, rank: int) -> int:
        """Return the number of a rank of the group in the default group, which every version of torch takes."""
        return dist.get_global_rank(self.group, rank)

    def transfer(self, stream: cpu.Stream, kind: Any, tensor: torch.Tensor, peer: int) -> None:
        """Hold a send or a receive back until the open group ends."""
        assert self.held is not None, "a send or a receive outside of group_start and group_end"
        self.held.append((stream, kind, tensor, peer))

    def start(self) -> None:
        self.held = []

    def end(self) -> None:
        held, self.held = self.held or [], None

        def work(*_kept: torch.Tensor) -> None:
            mine = dist.get_rank(self.group)
            to_me = [tensor for _, kind, tensor, peer in held if peer == mine and kind is dist.isend]
            from_me = [tensor for _, kind, tensor, peer in held if peer == mine and kind is dist.irecv]
            for sent, received in zip(to_me, from_me, strict=True):
                received.copy_(sent)
            operations = [
                dist.P2POp(kind, tensor, self.number(peer), group=self.group)
                for _, kind, tensor, peer in held
                if peer != mine
            ]
            if operations:
                for transfer in dist.batch_isend_irecv(operations):
                    transfer.wait()

        if held:
            self.queue(held[0][0], work, *(tensor for _, _, tensor, _ in held))

    def destroy(self) -> None:
        self.last.synchronize()
        destroy_group(self.group)
