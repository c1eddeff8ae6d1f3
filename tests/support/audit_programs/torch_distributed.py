"""Mutants: callers of torch.distributed that wait for too little."""

from __future__ import annotations

import torch.distributed as dist

from tests.support.audit_programs.kit import Kit, mutant


@mutant(("collective", "read"))
def never_waits_for_an_asynchronous_collective(kit: Kit) -> None:
    tensor = kit.tensor()
    tensor.fill_(1)
    work = dist.all_reduce(tensor, group=kit.torch_group, async_op=True)  # collective
    tensor.sum()  # read
    assert work is not None


@mutant(("second collective", "read"))
def waits_for_the_first_of_two_asynchronous_collectives(kit: Kit) -> None:
    first, second = kit.tensor(), kit.tensor()
    first.fill_(1)
    second.fill_(1)
    works = [
        dist.all_reduce(first, group=kit.torch_group, async_op=True),
        dist.all_reduce(second, group=kit.torch_group, async_op=True),  # second collective
    ]
    works[0].wait()
    first.sum()
    second.sum()  # read


@mutant(("gradients", "zero_grad"))
def clears_the_gradients_before_their_reduction_has_ended(kit: Kit) -> None:
    gradients = kit.tensor()
    gradients.fill_(1)
    work = dist.all_reduce(gradients, group=kit.torch_group, async_op=True)  # gradients
    gradients.zero_()  # zero_grad
    work.wait()


@mutant(("coalesced", "read"))
def never_waits_for_coalesced_collectives(kit: Kit) -> None:
    first, second = kit.tensor(), kit.tensor()
    first.fill_(1)
    second.fill_(1)
    with dist._coalescing_manager(kit.torch_group, async_ops=True) as coalesced:  # coalesced
        dist.all_reduce(first, group=kit.torch_group)
        dist.all_reduce(second, group=kit.torch_group)
    second.sum()  # read
    coalesced.wait()


@mutant(("last bucket", "optimizer"))
def steps_before_the_last_bucket_is_reduced(kit: Kit) -> None:
    buckets = [kit.tensor() for _ in range(3)]
    works = []
    for bucket in buckets:
        bucket.fill_(1)
        works.append(dist.all_reduce(bucket, group=kit.torch_group, async_op=True))  # last bucket
    for work in works[:-1]:
        work.wait()
    for bucket in buckets:
        bucket.mul_(0.9)  # optimizer
