"""The text of a dry run: cases, arms and timings, their memory and their time."""

import textwrap
from collections.abc import Iterator
from dataclasses import replace

from nccl_bench.analysis.wording import counted, from_to, significant, size_with_unit
from nccl_bench.catalog.cases import Scenario, scenario_words
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.scenarios import SCENARIOS
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.product import product_name
from nccl_bench.config.question import default_baseline
from nccl_bench.config.run import RunConfig
from nccl_bench.config.sizes import format_size
from nccl_bench.config.user_arms import targets_of, user_arm_of
from nccl_bench.config.workload import Workload
from nccl_bench.plan.cases import Plan, PlannedCase
from nccl_bench.plan.combinations import Combination, join_combinations
from nccl_bench.plan.memory import plan_arena
from nccl_bench.plan.process_sets import process_sets_of
from nccl_bench.plan.time import deadline_s, estimate_s
from nccl_bench.plan.workload import own_messages

# The collective, the arms, the timings, the sizes, and the sizes that do not fit. Cases with equal groups share a line.
_Group = tuple[str, tuple[str, ...], tuple[Timing, ...], tuple[int, ...], tuple[int, ...]]
# The options with numbers that only some scenarios sweep -> their unit.
_SWEPT = {"hidden": "", "tokens": "", "layers": "", "delays": " us", "streams": ""}
# The most characters of a line that is a sentence.
_WIDEST = 80


def plan_text(config: RunConfig, plan: Plan, world_size: int, memory_bytes: int | None) -> str:
    """Return the plan as plain text; ``memory_bytes`` is the free memory of one rank, ``None`` if it is not known."""
    default = default_baseline(config.arms, targets_of(config.user_arms))
    because = f", because {default.reason}" if default.reason and default.arm == config.baseline else ""
    compared = any(planned.candidates(config.baseline) for planned in plan.cases)
    most_rounds = config.max_rounds if compared else config.rounds
    lines = [
        f"{counted(len(plan.cases), 'case')} on {counted(world_size, 'rank')} ({config.device}), "
        f"{_span(str(config.min_rounds), counted(most_rounds, 'round'))} of {', '.join(plan.timings)}",
        *_scenario_lines(config),
        f"arms: {', '.join(config.arms)}; baseline {config.baseline}" + because,
        *(_workload_lines(config.workload, world_size) if config.workload is not None else ()),
        *([f"{config.launches} launches, each with new ranks and all cases"] if config.launches > 1 else []),
        *([f"twin of {config.baseline}, for the noise floor"] if compared else []),
        *([f"routes: {', '.join(config.routes)}"] if config.routes else []),
        *(f"{', '.join(each.arms)}: in separate processes ({each.reason})" for each in process_sets_of(config)[1:]),
        "",
    ]
    swept: dict[tuple[tuple[str, ...], tuple[Timing, ...], Combination], list[PlannedCase]] = {}
    for planned in plan.cases:
        case = planned.case
        placement = _common_placement(config, planned)
        combination: Combination = (scenario_words(case), case.collective, case.dtype, case.redop, placement)
        swept.setdefault((planned.arms, planned.timings, combination), []).append(planned)
    budget = 2**62 if memory_bytes is None else memory_bytes
    largest = 0
    fitting: list[PlannedCase] = []
    # Cases that differ only in data type, reduction and placement share a line.
    groups: dict[_Group, list[Combination]] = {}
    for (arms, timings, what), cases in swept.items():
        arenas = {
            each.case.size_bytes: plan_arena(config, each.case, world_size, budget, each.placements.values())
            for each in cases
        }
        largest = max([largest, *(arena.total_bytes for arena in arenas.values() if arena)])
        fitting += [each for each in cases if arenas[each.case.size_bytes] is not None]
        unfit = tuple(size for size, arena in arenas.items() if arena is None)
        groups.setdefault((cases[0].case.collective, arms, timings, tuple(arenas), unfit), []).append(what)
    for (_, arms, timings, sizes, unfit), combinations in groups.items():
        span = from_to(format_size(sizes[0]), format_size(sizes[-1]))
        without = ", ".join(arm for arm in config.arms if arm not in arms)
        left = f", {' and '.join(timings)}" if timings != plan.timings else ""
        left += f", without {without}" if without else ""
        each = " each" if len(combinations) > 1 else ""
        lines += [
            f"{name}: {counted(len(sizes), 'size')}{each}, {span}{left}" for name in join_combinations(combinations)
        ]
        lines += [f"  {format_size(size)} does not fit in memory and will be skipped" for size in unfit]
    free = "" if memory_bytes is None else f", of {memory_bytes / 1024**3:.1f} GiB free"
    lines += ["", f"memory for buffers: up to {largest / 1024**3:.2f} GiB per rank{free}"]
    shortest_s, longest_s = estimate_s(config, replace(plan, cases=tuple(fitting)))
    most_s = max((deadline_s(config, planned) for planned in fitting), default=0.0)
    lines.append(
        f"time: about {_span(f'{shortest_s:.0f}', f'{longest_s:.0f} s')}, up to {significant(most_s)} s per case"
    )
    lines += [f"left out: {text}" for text in plan.left_out]
    return "\n".join(lines) + "\n"


def _workload_lines(workload: Workload, world_size: int) -> Iterator[str]:
    """Yield the size of ``workload`` and where its messages are from, then the messages with a known reason."""
    sources = f", from {', '.join(workload.source)}" if workload.source else ""
    own = own_messages(workload, world_size)
    calls = counted(sum(message.count for message in own), "call")
    yield f"workload: {counted(len(own), 'message')}, {calls} in {counted(workload.steps, 'step')}{sources}"
    for message in own:
        if message.reason:
            size = size_with_unit(message.size_bytes)
            yield f"  {message.collective} {message.dtype} {size}, {message.timing}: {counted(message.count, 'call')}"
            yield from textwrap.wrap(message.reason, _WIDEST, initial_indent="    ", subsequent_indent="    ")


def _scenario_lines(config: RunConfig) -> Iterator[str]:
    """Yield what surrounds the collective; nothing in the usual scenario."""
    spec = SCENARIOS[config.scenario]
    if config.scenario is not Scenario.ISOLATED:
        yield from textwrap.wrap(f"scenario {config.scenario}: {spec.question}", _WIDEST, subsequent_indent="  ")
    for name, unit in _SWEPT.items():
        if name in spec.options:
            yield f"{name}: {', '.join(map(str, getattr(config, name)))}{unit}"
    if "product" in spec.options:
        chosen = f"chosen for each size, about as long as the collective of {config.baseline}"
        yield f"product: {chosen if config.product is None else product_name(config.product)}"


def _common_placement(config: RunConfig, planned: PlannedCase) -> Placement | None:
    """Return the placement of all arms; ``None`` if placements differ, or if that of a user arm is not known yet."""
    if config.placements is not None:
        return planned.case.placement
    user_arms = (user_arm_of(config.user_arms, name) for name in planned.arms)
    placements = {*planned.placements.values()}
    known = all(user_arm is None or user_arm.built_in for user_arm in user_arms)
    return placements.pop() if known and len(placements) == 1 else None


def _span(least: str, most: str) -> str:
    # `least` has no unit: the unit at the end of `most` is for both numbers.
    return most if most.startswith(f"{least} ") else f"{least} to {most}"
