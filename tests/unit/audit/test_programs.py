"""Mutants with one defect each, which the audit must catch at the right lines, and right programs without a race."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch.distributed as dist

from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.transports.device import Device
from nccl_bench.transports.gloo import GlooTransport
from tests.support import user_communicators
from tests.support.audit_programs import MUTANTS, RIGHT_PROGRAMS, Kit, Mutant, watched
from tests.support.audited import found_at

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def kit(one_rank: dist.ProcessGroup) -> Kit:
    streams = CpuStreams()
    device = Device(streams=streams, transport=GlooTransport(streams))
    return Kit(device, one_rank, one_rank, user_communicators)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.run.__name__)
def test_the_audit_catches_a_program_that(mutant: Mutant, kit: Kit) -> None:
    assert found_at(watched(mutant.run, kit)) == mutant.races


@pytest.mark.parametrize("run", RIGHT_PROGRAMS, ids=lambda run: run.__name__)
def test_the_audit_blames_nothing_in_a_program_that(run: Callable[[Kit], None], kit: Kit) -> None:
    assert found_at(watched(run, kit)) == set()
