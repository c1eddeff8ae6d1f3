"""The combinations of a device, an arm and a collective that do not work, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from nccl_bench.catalog.arms import COORDINATORS, ArmSpec
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.devices import DeviceSpec
from nccl_bench.catalog.dtypes import DTYPES

_GLOO = frozenset({"gloo"})
_TORCH = frozenset({"process-group", "process-group-async"})
_REDUCING = frozenset(name for name, row in COLLECTIVES.items() if row.reduces)
_FLOAT8 = frozenset(name for name in DTYPES if name.startswith("float8"))
_INTEGERS = frozenset(name for name, dtype in DTYPES.items() if not dtype.is_float)
_OUT_OF_PLACE = frozenset({Placement.OUT_OF_PLACE})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """A combination that does not work; an empty set matches everything."""

    reason: str
    transports: frozenset[str] = frozenset()
    communicators: frozenset[str] = frozenset()
    collectives: frozenset[str] = frozenset()
    dtypes: frozenset[str] = frozenset()
    redops: frozenset[RedOp] = frozenset()
    placements: frozenset[Placement] = frozenset()


_RULES = (
    _Rule(reason="Gloo does not reduce float8", transports=_GLOO, collectives=_REDUCING, dtypes=_FLOAT8),
    _Rule(
        reason="Gloo does not average integers",
        transports=_GLOO,
        collectives=_REDUCING,
        dtypes=_INTEGERS,
        redops=frozenset({RedOp.AVG}),
    ),
    _Rule(
        reason="torch.distributed has no out-of-place form of it",
        communicators=_TORCH,
        collectives=frozenset({"all_reduce", "broadcast", "reduce"}),
        placements=_OUT_OF_PLACE,
    ),
    _Rule(
        reason="torch.distributed has no out-of-place form of it, and a coordinator may route to it",
        communicators=COORDINATORS,
        collectives=frozenset({"broadcast", "reduce"}),
        placements=_OUT_OF_PLACE,
    ),
    _Rule(
        reason="torch.distributed exchanges messages asynchronously only, which is the torch-async arm",
        communicators=frozenset({"process-group"}),
        collectives=frozenset({"send_recv"}),
    ),
)


def unsupported(
    arm: ArmSpec, device: DeviceSpec, collective: str, dtype: str, redop: RedOp | None, placement: Placement
) -> str | None:
    """Return why ``arm`` cannot do this on ``device``, or ``None`` where it can."""
    point = {
        "transports": device.transport,
        "communicators": arm.communicator,
        "collectives": collective,
        "dtypes": dtype,
        "redops": redop,
        "placements": placement,
    }
    for rule in _RULES:
        if all(not getattr(rule, field) or value in getattr(rule, field) for field, value in point.items()):
            return rule.reason
    return None
