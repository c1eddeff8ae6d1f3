"""What a run would do: its cases, arms and timings, the memory they take and the time they will need."""

from __future__ import annotations

from nccl_bench.config import RunConfig
from nccl_bench.plan import Plan, PlannedCase, estimate_s, plan_arena
from nccl_bench.report.layout import counted
from nccl_bench.units import format_size


def plan_text(config: RunConfig, plan: Plan, world_size: int, memory_bytes: int | None) -> str:
    """The plan as plain text; ``memory_bytes`` is what one rank has free, ``None`` where that is not known."""
    lines = [
        f"{counted(len(plan.cases), 'case')} on {counted(world_size, 'rank')} ({config.device}), "
        f"{counted(config.rounds, 'round')} of {', '.join(plan.timings)}",
        f"arms: {', '.join(config.arms)}; baseline {config.baseline}",
        "",
    ]
    groups: dict[tuple[str, tuple[str, ...]], list[PlannedCase]] = {}
    for planned in plan.cases:
        case = planned.case
        name = " ".join(filter(None, (case.collective, case.dtype, case.redop, case.placement)))
        groups.setdefault((name, planned.arms), []).append(planned)
    budget = 2**62 if memory_bytes is None else memory_bytes
    largest = 0
    for (name, arms), members in groups.items():
        sizes = [planned.case.size_bytes for planned in members]
        span = format_size(sizes[0]) if len(sizes) == 1 else f"{format_size(sizes[0])} to {format_size(sizes[-1])}"
        left = "" if arms == config.arms else f", without {', '.join(a for a in config.arms if a not in arms)}"
        lines.append(f"{name}: {counted(len(members), 'size')}, {span}{left}")
        for planned in members:
            arena = plan_arena(config, planned.case, world_size, budget)
            if arena is None:
                lines.append(f"  {format_size(planned.case.size_bytes)} does not fit and will be skipped")
            else:
                largest = max(largest, arena.total_bytes)
    free = "" if memory_bytes is None else f" of {memory_bytes / 1024**3:.1f} GiB free"
    lines += ["", f"memory: up to {largest / 1024**3:.2f} GiB a rank{free}, for buffers"]
    lines.append(f"time: about {estimate_s(config, plan):.0f} s, at most {config.timeout_s:g} s a case")
    lines += [f"left out: {text}" for text in plan.left_out]
    return "\n".join(lines) + "\n"
