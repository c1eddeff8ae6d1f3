"""Cases that the tests of arms bind, with one rank or on one of several ranks, and their tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nccl_bench.catalog.arms import ARMS, Order
from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.support import unsupported
from nccl_bench.transports.device import open_device, refusal

COUNT = 6
CPU = DEVICES["cpu"]
OVER_GLOO = [name for name, arm in ARMS.items() if "gloo" in arm.transports]
ORDERED = [name for name in OVER_GLOO if ARMS[name].order is not Order.BARE]
UNORDERED = "dedicated-stream-unordered"
EVERY_COLLECTIVE = pytest.mark.parametrize("collective", COLLECTIVES)


def case(
    collective: str,
    *,
    dtype: str = "float32",
    redop: RedOp | None = None,
    placement: Placement = Placement.OUT_OF_PLACE,
    root: int = 0,
    world_size: int = 1,
) -> Case:
    """Return a case of ``COUNT`` elements in a block, or in the message."""
    row = COLLECTIVES[collective]
    return Case(
        scenario=Scenario.ISOLATED,
        collective=collective,
        dtype=dtype,
        redop=(redop or RedOp.SUM) if row.reduces else None,
        placement=placement,
        root=root if row.rooted else None,
        size_bytes=row.size_bytes(COUNT, DTYPES[dtype].itemsize, world_size),
        count=COUNT,
    )


def supports(arm: str, what: Case) -> bool:
    """Return True if the arm supports the case on the CPU."""
    reason = unsupported(ARMS[arm], CPU, what.collective, what.dtype, what.redop, what.placement)
    return reason is None and refusal(open_device("cpu", 0), what) is None


def buffers(what: Case, world_size: int = 1, rank: int = 0) -> tuple[Tensor, Any]:
    """Return input and poisoned output: in place the same tensor, or the smaller one as a block of the larger.

    If the call returns its output, the output is ``None``.
    """
    dtype = getattr(torch, what.dtype)
    counts = what.row.block_counts(COUNT, world_size)
    send = sum(counts) if what.row.sends_all_blocks else counts[rank]
    receive = sum(counts) if what.row.receives_all_blocks else counts[rank]
    if what.placement is Placement.OUT_OF_PLACE:
        return torch.arange(1, send + 1).to(dtype), torch.full((receive,), 100.0).to(dtype)
    if what.placement is Placement.RETURNED:
        return torch.arange(1, send + 1).to(dtype), None
    both = torch.arange(1, max(send, receive) + 1).to(dtype)
    block = both[sum(counts[:rank]) :][: counts[rank]]
    return (both if send >= receive else block), (both if receive >= send else block)


def placed(name: str, collective: str) -> list[Case]:
    """Return the collective in each placement that the arm supports on the CPU."""
    possible = (case(collective, placement=placement) for placement in COLLECTIVES[collective].placements)
    return [what for what in possible if supports(name, what)]
