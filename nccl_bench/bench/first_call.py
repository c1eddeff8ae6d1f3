"""The first call of each user arm in a case, which shows the placement of the arm's calls.

Only what a user's call returns shows whether the call works in place or returns a new tensor. This can differ from case
to case, for example by size, so it is looked at in every case.
"""

from collections.abc import Mapping, Sequence

from nccl_bench.bench.context import CaseContext
from nccl_bench.catalog.collectives import Placement
from nccl_bench.config.user_arms import user_arm_of
from nccl_bench.errors import SetupError

_NUMBERS: Mapping[Placement, int] = {placement: number for number, placement in enumerate(Placement)}


def find_placements(context: CaseContext, names: Sequence[str]) -> None:
    """Call each user arm among ``names`` once, and correct its placement by what the call returns. Collective.

    Raises ``SetupError`` if the result cannot be right, if the placement is not the configured one, or if the ranks
    differ.
    """
    loaded = [name for name in names if (arm := user_arm_of(context.config.user_arms, name)) and not arm.built_in]
    if not loaded:
        return
    found: dict[str, Placement] = {}
    for name in context.arms.visit(loaded, "first call"):
        returned: list[object] = []
        context.restore(1)
        context.call_each(name, 1, returned.append)
        context.arms.report(name, "first call, waiting")
        context.streams.synchronize()
        found[name] = context.placement_shown_by(name, 0, returned[0])
        if context.config.placements is not None and found[name] is not context.placements[name]:
            raise SetupError(
                f"--placement asks for {context.placements[name]}, and the call in {context.case.label} was "
                f"{found[name]}: leave out --placement, and each arm is measured in the placement that it has"
            )
    context.placements.update(_agreed(context, loaded, found))


def _agreed(context: CaseContext, names: Sequence[str], found: Mapping[str, Placement]) -> dict[str, Placement]:
    """Return the placement of each arm on all ranks. Each rank has found the placements of its own arms."""
    numbers = [_NUMBERS[found[name]] if name in found else None for name in names]
    nothing = -len(Placement)
    highest = context.control.maximum([nothing if number is None else number for number in numbers])
    lowest = context.control.maximum([nothing if number is None else -number for number in numbers])
    placements = {name: list(Placement)[int(number)] for name, number in zip(names, highest, strict=True)}
    for name, most, least in zip(names, highest, lowest, strict=True):
        if most != -least:
            context.arms.report(name, "first call")
            raise SetupError(
                f"the calls in {context.case.label} are {placements[name]} on one rank and "
                f"{list(Placement)[-int(least)]} on another: the ranks must call it in the same placement"
            )
    return placements
