"""The combinations of a device, an arm and a collective that do not work, each with its reason.

A collective's row says which communicators lack it. The rules here are about data types and reductions.
"""

from dataclasses import dataclass

from nccl_bench.catalog.arms import ArmSpec
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.devices import DeviceSpec
from nccl_bench.catalog.dtypes import DTYPES

_GLOO = frozenset({"gloo"})
_FLOAT8 = frozenset(name for name in DTYPES if name.startswith("float8"))
_INTEGERS = frozenset(name for name, dtype in DTYPES.items() if not dtype.is_float)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """A rule for reductions that do not work. An empty set matches every value."""

    reason: str
    transports: frozenset[str] = frozenset()
    dtypes: frozenset[str] = frozenset()
    redops: frozenset[RedOp] = frozenset()


_RULES = (
    _Rule(reason="Gloo does not reduce float8", transports=_GLOO, dtypes=_FLOAT8),
    _Rule(reason="Gloo does not average integers", transports=_GLOO, dtypes=_INTEGERS, redops=frozenset({RedOp.AVG})),
)


def unsupported(
    arm: ArmSpec, device: DeviceSpec, collective: str, dtype: str, redop: RedOp | None, placement: Placement
) -> str | None:
    """Return why ``arm`` cannot run this combination on ``device``, or ``None`` if it can."""
    row = COLLECTIVES[collective]
    point = {"transports": device.transport, "dtypes": dtype, "redops": redop}
    for rule in _RULES if row.reduces else ():
        if all(not getattr(rule, field) or value in getattr(rule, field) for field, value in point.items()):
            return rule.reason
    return row.absence(arm.communicator, placement)
