"""A transport over Gloo, and one or two of its ranks in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch.distributed as dist

from nccl_bench.streams import cpu
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.transports.gloo import GlooTransport
from tests.support.communicators import one_rank_group
from tests.support.gloo_ranks import Rank, connect


@pytest.fixture(scope="module", autouse=True)
def group() -> Iterator[dist.ProcessGroup]:
    with one_rank_group() as group:
        yield group


@pytest.fixture
def transport() -> Iterator[GlooTransport]:
    yield GlooTransport(CpuStreams())
    cpu.synchronize()


@pytest.fixture
def alone(transport: GlooTransport) -> Rank:
    return connect(transport, 1)[0]


@pytest.fixture
def pair(transport: GlooTransport) -> list[Rank]:
    return connect(transport, 2)
