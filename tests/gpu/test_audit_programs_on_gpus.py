"""The mutants and the right programs of the audit on a GPU. The CPU runs the same in ``tests/unit/audit``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.distributed as dist

from nccl_bench.transports.device import open_device
from tests.support import user_communicators_cuda
from tests.support.audit_programs import MUTANTS, RIGHT_PROGRAMS, Kit, Mutant, watched
from tests.support.audited import found_at

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def kit(one_rank: dist.ProcessGroup) -> Iterator[Kit]:
    device = open_device("cuda", 0)
    group = dist.new_group([0], backend="nccl")
    dist.all_reduce(torch.zeros(1, device="cuda"), group=group)
    torch.cuda.synchronize()
    yield Kit(device, one_rank, group, user_communicators_cuda)
    dist.destroy_process_group(group)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.run.__name__)
def test_the_audit_catches_a_program_that(mutant: Mutant, kit: Kit) -> None:
    assert found_at(watched(mutant.run, kit)) == mutant.races


@pytest.mark.parametrize("run", RIGHT_PROGRAMS, ids=lambda run: run.__name__)
def test_the_audit_blames_nothing_in_a_program_that(run: Callable[[Kit], None], kit: Kit) -> None:
    assert found_at(watched(run, kit)) == set()
