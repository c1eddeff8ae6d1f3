"""The second look at all arms of a check that found wrong results. It finds the arms that are to blame.

The work of an arm can go on after its calls: an arm can drop the handle of its collective instead of waiting. This work
then writes into buffers that the next arm uses, and makes the results of the next arm wrong. In the second look each
arm has new buffers, which no other arm can reach, and every late write into these buffers is counted. Some ranks call
later than the others, so that a call that does not wait for them writes its result late.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.graphs import captured
from nccl_bench.bench.outputs import call_poisoned
from nccl_bench.catalog.memory import Register
from nccl_bench.plan.memory import slots_of_more_arenas

# First the ranks with an even number call this much later than the other ranks, then the ranks with an odd number.
_DELAY_S = 0.02
# Within this time after the calls of the last rank, the work of every rank is usually done.
_SETTLING_S = 0.02
# How long to wait for a late write that explains the wrong result of another arm.
_LATEST_WRITE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """The errors of an arm in one check, summed over all ranks."""

    wrong: int = 0  # elements of outputs that were wrong when the caller's stream had passed the arm's calls
    late: int = 0  # elements that the arm wrote after that, of outputs, and in the second look also of inputs

    @property
    def any(self) -> bool:
        """True if there are errors."""
        return bool(self.wrong or self.late)


def look_again(
    context: CaseContext, first_look: Mapping[str, Errors], phase: str, operations: int, *, in_graphs: bool
) -> dict[str, Errors]:
    """Return the errors of each arm, after a second look at all arms. Collective.

    ``first_look`` has the errors of each arm in the first look. Each arm makes at most ``operations`` calls. If there
    is only one arm, or no memory for new buffers, the first look decides.
    """
    # Each arm needs memory for its buffers and for a copy of them.
    slots = slots_of_more_arenas(context.buffers.arena, 2 * len(first_look), context.free_bytes())
    slots = min(slots, operations)
    arena = replace(context.buffers.arena, slots=slots)
    if len(first_look) == 1 or not slots:
        return dict(first_look)
    wrong_again, late = dict.fromkeys(first_look, 0), dict.fromkeys(first_look, 0)
    poisoned = {}
    phase = f"second {phase}"
    for name in context.arms.visit(first_look, phase):
        own = replace(context, buffers=context.allocate(arena, Register.NONE))
        results: list[object] = []
        with captured(own, [name] if in_graphs else [], slots, keep={name: results}) as graphs:
            for delayed in (0, 1):
                if context.arms.ranks.own_set.rank % 2 == delayed:
                    time.sleep(_DELAY_S)
                outputs = call_poisoned(own, name, phase, slots, graphs.get(name), results if in_graphs else None)
                memory = own.buffers.copy_memory(outputs)
                wrong_again[name] += own.buffers.wrong(outputs)
                context.arms.ranks.own_set.barrier()
                time.sleep(_SETTLING_S)
                context.streams.synchronize()
                late[name] += own.buffers.count_changes(memory, outputs)
        own.buffers.poison(slots, context.placements[name], outputs)
        # Keep all buffers until the end, so that the next arm gets other memory.
        poisoned[name] = own.buffers, outputs, own.buffers.copy_memory(outputs)
    wrong_again, late = _sum(context, wrong_again), _sum(context, late)
    if not any(late.values()) and any(first_look[name].any and not wrong_again[name] for name in first_look):
        time.sleep(_LATEST_WRITE_S)
    later = dict.fromkeys(first_look, 0)
    for name, (buffers, outputs, memory) in poisoned.items():
        later[name] = buffers.count_changes(memory, outputs)
    late = {name: late[name] + count for name, count in _sum(context, later).items()}

    def settle(name: str) -> Errors:
        if wrong_again[name] or late[name]:
            return Errors(wrong=first_look[name].wrong or wrong_again[name], late=late[name])
        # Only a late write of another arm explains a wrong result that is right in the second look.
        explained = any(late[other] and context.arms.share_memory(name, other) for other in first_look)
        return Errors() if explained else first_look[name]

    return {name: settle(name) for name in first_look}


def _sum(context: CaseContext, counts: Mapping[str, int]) -> dict[str, int]:
    return dict(zip(counts, context.control.sum(list(counts.values())), strict=True))
