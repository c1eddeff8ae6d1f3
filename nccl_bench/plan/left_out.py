"""The parts of a configuration that a run cannot measure, and one text for each reason."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from nccl_bench.catalog.collectives import COLLECTIVES, Placement
from nccl_bench.catalog.scenarios import SCENARIOS
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.run import CallerStream, RunConfig
from nccl_bench.config.sizes import format_size, unique
from nccl_bench.plan.combinations import Combination, join_combinations
from nccl_bench.plan.workload import differences, measured_timing

# A text names at most this many rounded sizes, and then says how many more there are.
_MOST_ROUNDED = 3
_Choice = TypeVar("_Choice")


def absent_timings(config: RunConfig) -> Mapping[Timing, str]:
    """Return the timings that the device or the scenario of ``config`` lacks, each with the reason."""
    timings = SCENARIOS[config.scenario].timings
    of_scenario = {
        timing: f"the scenario {config.scenario} has only {', '.join(timings)}"
        for timing in Timing
        if timing not in timings
    }
    on_default_stream = config.caller_stream is CallerStream.DEFAULT
    return of_scenario | {**config.device_spec.absent_timings(on_default_stream=on_default_stream)}


def possible_of(chosen: Sequence[_Choice], possible: Sequence[_Choice]) -> Sequence[_Choice]:
    """Return the values in ``chosen`` that are ``possible`` in a scenario; if there are none, the scenario's default.

    The default is the first possible value. An empty ``possible`` stands for all values.
    """
    return [each for each in chosen if not possible or each in possible] or possible[:1]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """The parts of a configuration that cannot be measured, collected while a plan is made."""

    config: RunConfig  # the configuration of the run
    world_size: int  # the number of ranks
    # Reason -> combination -> the arms that do not support it.
    unsupported: dict[str, dict[Combination, list[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    # Combination -> the sizes, in bytes, that nccl-tests would round down to zero elements.
    empty: dict[Combination, list[int]] = field(default_factory=lambda: defaultdict(list))
    # Combination -> size in bytes -> the size that is measured instead: the next smaller one of whole elements.
    rounded: dict[Combination, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))

    def missing_timings(self) -> dict[Timing, str]:
        """Return the configured timings that the device lacks, each with the reason."""
        reasons, workload = absent_timings(self.config), self.config.workload
        timings = self.config.timings
        if workload is not None:
            timings = tuple(timing for timing in timings if measured_timing(timing, reasons) in reasons)
        return {timing: reasons[timing] for timing in timings if timing in reasons}

    def texts(self) -> Iterator[str]:
        """Yield one text for each reason: first timings, then placements, sizes, and arms that lack support."""
        for timing, reason in self.missing_timings().items():
            yield f"{timing} timing is absent: {reason}"
        if self.config.workload is not None:
            yield from differences(self.config.workload, self.world_size, absent_timings(self.config))
        yield from self._replaced_choices()
        yield from self._replaced_placements()
        yield from self._empty_sizes()
        yield from self._rounded_sizes()
        yield from self._unsupported_arms()

    def _replaced_choices(self) -> Iterator[str]:
        config, spec = self.config, SCENARIOS[self.config.scenario]
        choices: list[tuple[Sequence[str], Sequence[str]]] = [
            (config.collectives, spec.collectives),
            (config.redops, spec.redops),
        ]
        for chosen, possible in choices:
            if possible and (impossible := [each for each in chosen if each not in possible]):
                absent, measured = ", ".join(impossible), ", ".join(possible_of(chosen, possible))
                yield f"the scenario {config.scenario} has no {absent}: it measures {measured}"

    def _replaced_placements(self) -> Iterator[str]:
        collectives: dict[tuple[Placement, Placement], list[str]] = defaultdict(list)
        for name in self.config.collectives:
            available = COLLECTIVES[name].placements
            for placement in self.config.placements or ():
                if placement not in available:
                    collectives[placement, available[0]].append(name)
        for (placement, replacement), names in collectives.items():
            have, are = ("has", "it is") if len(names) == 1 else ("have", "they are")
            yield f"{', '.join(names)} {have} no {placement} form: {are} measured {replacement}"

    def _empty_sizes(self) -> Iterator[str]:
        combinations: dict[tuple[int, ...], list[Combination]] = defaultdict(list)
        for combination, empty_sizes in self.empty.items():
            combinations[unique(empty_sizes)].append(combination)
        for sizes, members in combinations.items():
            # All sizes below one block are empty, so a range can describe more than three empty sizes.
            ends = (min(sizes), max(sizes))
            text = ", ".join(map(format_size, sizes)) if len(sizes) <= 3 else " to ".join(map(format_size, ends))
            names = " and ".join(join_combinations(members))
            yield f"{names} of {text}: too small for {self.world_size} ranks after nccl-tests' rounding"

    def _rounded_sizes(self) -> Iterator[str]:
        combinations: dict[tuple[bool, tuple[tuple[int, int], ...]], list[Combination]] = defaultdict(list)
        for combination, sizes in self.rounded.items():
            has_blocks = COLLECTIVES[str(combination[0])].has_blocks
            combinations[has_blocks, tuple(sizes.items())].append(combination)
        for (has_blocks, pairs), members in combinations.items():
            texts = [f"{format_size(size)} to {format_size(measured)}" for size, measured in pairs[:_MOST_ROUNDED]]
            more = len(pairs) - len(texts)
            sizes_text = ", ".join(texts) + (f" and {more} more sizes" if more else "")
            verb = "is" if len(pairs) == 1 else "are"
            why = f"equal blocks of {self.world_size} ranks, as in nccl-tests" if has_blocks else "whole elements"
            yield f"{' and '.join(join_combinations(members))}: {sizes_text} {verb} rounded down, to {why}"

    def _unsupported_arms(self) -> Iterator[str]:
        for reason, arms_of in self.unsupported.items():
            combinations: dict[tuple[str, ...], list[Combination]] = defaultdict(list)
            for combination, names in arms_of.items():
                combinations[tuple(names)].append(combination)
            parts = []
            for arms, members in combinations.items():
                verb = f"{', '.join(arms)} {'does' if len(arms) == 1 else 'do'} not run"
                subject = "no arm runs" if arms == self.config.arms else verb
                parts.append(f"{subject} {' and '.join(join_combinations(members))}")
            yield f"{', '.join(parts)}: {reason}"
