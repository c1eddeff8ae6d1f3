"""A communicator that somebody else wrote: found, made, and adapted to what an arm calls."""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed as dist

from nccl_bench.catalog.arms import Order
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement, RedOp
from nccl_bench.communicators.base import Communicator
from nccl_bench.config.user_arms import Adapter, UserArm
from nccl_bench.errors import NcclBenchError, UserArmError
from nccl_bench.transports.device import Device
from nccl_bench.user_arms.adapting import adapt
from nccl_bench.user_arms.loading import Found, load, user_call, user_line

# What was loaded: an error of a call later on is told with its place.
_found: dict[UserArm, Found] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedUserArm:
    """What a user arm turned out to be.

    ``where`` is the file and line of its definition, ``described`` how it is called, ``supports`` the collectives and
    placements that it can do. Those in ``only_sums`` reduce by summing alone, those in ``uneven`` take blocks of any
    sizes. ``closes`` says that closing the communicator ends what the user's code made, ``ready`` that this was made
    already when it was loaded, so that two arms of it are the same object.
    """

    communicator: Communicator
    adapter: Adapter
    order: Order
    supports: frozenset[tuple[str, Placement]]
    only_sums: frozenset[str]
    uneven: frozenset[str]
    closes: bool
    ready: bool
    described: str
    where: str

    def can(self, case: Case) -> bool:
        """Whether it has ``case``'s collective, in its placement and with its reduction."""
        sums = case.redop in (None, RedOp.SUM) or case.collective not in self.only_sums
        return sums and (case.collective, case.placement) in self.supports

    @property
    def exchanges(self) -> frozenset[str]:
        """What a proof can ask of it, as the proof names it."""
        found = {
            name
            for name, cell in (
                ("all_reduce", ("all_reduce", Placement.IN_PLACE)),
                ("outplace_all_reduce", ("all_reduce", Placement.OUT_OF_PLACE)),
                ("all_gather", ("all_gather", Placement.OUT_OF_PLACE)),
                ("reduce_scatter", ("reduce_scatter", Placement.OUT_OF_PLACE)),
            )
            if cell in self.supports
        }
        return frozenset(found | {f"{name}v" for name in self.uneven})


def bring(user_arm: UserArm, group: dist.ProcessGroup, device: Device) -> LoadedUserArm:
    """Load and make ``user_arm``'s communicator, over the ranks of ``group``. Collective, if its construction is.

    Raises ``UserArmError`` naming the arm, what failed and the user's line.
    """
    try:
        found = _found[user_arm] = load(user_arm.target, user_arm.tree)
        adapted = adapt(found.value, group, device, adapter=user_arm.adapter, order=user_arm.order)
    except (Exception, SystemExit) as error:
        raise blamed(user_arm, error) from error
    return LoadedUserArm(
        communicator=adapted.communicator,
        adapter=adapted.adapter,
        order=adapted.order,
        supports=adapted.supports,
        only_sums=adapted.only_sums,
        uneven=adapted.takes_sizes,
        closes=adapted.closes,
        ready=adapted.ready,
        described=adapted.described,
        where=found.where,
    )


def blamed(user_arm: UserArm, error: BaseException) -> UserArmError:
    """``error`` as one that names the arm, the call and the user's line."""
    return (
        error if isinstance(error, UserArmError) else UserArmError(f"the arm {user_arm.name}: {_told(user_arm, error)}")
    )


def _told(user_arm: UserArm, error: BaseException) -> str:
    if isinstance(error, NcclBenchError):
        return str(error)
    found = _found.get(user_arm)
    roots, where = ((), user_arm.target) if found is None else (found.roots, found.where)
    # A call that was refused at its door, with arguments that it does not take, leaves none of the user's frames.
    call, line = user_call(error, roots) or "a call of it", user_line(error, roots) or where
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{call} raised {type(error).__name__}{f': {text}' if text else ''} ({line})"
