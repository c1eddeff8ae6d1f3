"""The state of a command's work: how much is done, how much time is left, and what the slowest rank does."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nccl_bench.catalog.cases import Case, scenario_words
from nccl_bench.cli.last_ratio import LastRatio
from nccl_bench.config.run import RunConfig
from nccl_bench.config.sizes import format_size
from nccl_bench.config.verification import VerifyConfig
from nccl_bench.plan.cases import Plan
from nccl_bench.plan.time import estimate_case_s, most_rounds, new_ranks_s
from nccl_bench.plan.time_left import Step, TimeLeft
from nccl_bench.plan.verification import ArmProbe, group_by_launch
from nccl_bench.ranks.progress import Position, furthest_behind


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of a command's work at one moment."""

    done: int  # the number of items that are done, those of an earlier command included
    total: int  # the number of items
    share_done: float  # the share of this command's work that is done, from 0 to 1
    elapsed_s: float  # the seconds since the start of this command
    left_s: float  # the seconds that are left
    where: str  # the work of the slowest rank
    pair: str  # the arms of the ratio; empty if no arms are compared
    last: str  # the size, the timing and the ratio of the last case; empty if there is none


class Tracker:
    """Turns the positions of ranks into a ``Status``.

    The work is one or several launches. ``orders`` has for each launch the items that are left, in their order. Each
    launch with items has one step for its set-up, and one step for each item. ``time_left`` has these steps.
    """

    def __init__(
        self,
        *,
        total: int,
        orders: Sequence[Sequence[int]],
        label: Callable[[int], str],
        time_left: TimeLeft,
        pair: str = "",
        read_last: Callable[[], str] = lambda: "",
        started: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._orders, self._label = total, orders, label
        self._time_left, self._pair, self._read_last, self._clock = time_left, pair, read_last, clock
        self._started = clock() if started is None else started
        self._most_items = 0
        self._where = "starting"

    def see(self, positions: Sequence[Position], launch: int = 1) -> None:
        """Note the position of the slowest rank in the launch with this number."""
        last = furthest_behind(positions)
        if last is None:
            return
        order, index = self._orders[launch - 1], last.case_index
        items = sum(map(len, self._orders[: launch - 1]))
        steps = items + sum(map(bool, self._orders[: launch - 1]))
        if index < 0:
            where = "set-up"
        elif index in order:
            where = self._label(index)
            items, steps = items + order.index(index), steps + 1 + order.index(index)
        else:
            where = "after all cases"
            items, steps = items + len(order), steps + 1 + len(order)
        # After a hang or a crash, new ranks are in set-up, or try a case again. Items that were done stay done.
        self._most_items = max(self._most_items, items)
        self._time_left.update(steps, self._clock() - self._started)
        prefix = f"launch {launch} of {len(self._orders)}:" if len(self._orders) > 1 else ""
        self._where = " ".join(filter(None, (prefix, where, last.arm, last.phase)))

    def status(self) -> Status:
        """Return the state of the work now."""
        elapsed_s = self._clock() - self._started
        return Status(
            done=self._total - sum(map(len, self._orders)) + self._most_items,
            total=self._total,
            share_done=self._time_left.share_done(elapsed_s),
            elapsed_s=elapsed_s,
            left_s=self._time_left.left_s(elapsed_s),
            where=self._where,
            pair=self._pair,
            last=self._read_last(),
        )


def track_run(
    config: RunConfig,
    plan: Plan,
    orders: Sequence[Sequence[int]],
    *,
    samples: Path | None,
    started: float,
    clock: Callable[[], float] = time.monotonic,
) -> Tracker:
    """Return the tracker of a run that measures the cases of ``plan`` in the launches of ``orders``.

    The last ratio is read from the file ``samples``; ``None`` on nodes other than the first. ``started`` is the time of
    the command's start by ``clock``.
    """
    candidate = next((arm for arm in config.arms if arm != config.baseline), None)
    compared = samples is not None and candidate is not None
    return Tracker(
        total=len(plan.cases) * len(orders),
        orders=orders,
        label=lambda index: case_label(plan.cases[index].case),
        time_left=TimeLeft(list(_steps(config, plan, orders)), config.max_seconds),
        pair=f"{candidate} against {config.baseline}" if compared else "",
        read_last=LastRatio(samples, config.baseline, candidate).read if samples and candidate else str,
        started=started,
        clock=clock,
    )


def _steps(config: RunConfig, plan: Plan, orders: Sequence[Sequence[int]]) -> Iterator[Step]:
    """Yield a step for the set-up of each launch with cases, and a step for each case."""
    is_first = True
    for order in filter(None, orders):
        # The set-up of the first launch takes longer, because the agent imports torch first.
        first_s = config.device_spec.setup_s - config.device_spec.new_ranks_s if is_first else 0.0
        setup_s, is_first = first_s + new_ranks_s(config), False
        yield Step(least_s=setup_s, most_s=setup_s, is_setup=True)
        for index in order:
            planned = plan.cases[index]
            rounds = (config.rounds, most_rounds(config, planned))
            least_s, most_s = (estimate_case_s(config, planned, number) for number in rounds)
            yield Step(least_s=least_s, most_s=most_s)


def case_label(case: Case) -> str:
    """Return the name of a case. Its end may be cut off, so the parts that differ most come first."""
    differing = (case.collective, format_size(case.size_bytes), scenario_words(case))
    return " ".join(filter(None, (*differing, case.dtype, case.redop, case.placement_word, case.root_word)))


def track_verification(
    config: VerifyConfig, done: Collection[ArmProbe], clock: Callable[[], float] = time.monotonic
) -> Tracker:
    """Return the tracker of a verification. It already has findings about ``done``; the other arm probes are left."""
    groups = [[each for each in group if each not in done] for group in group_by_launch(config)]
    spec = config.device_spec
    steps = [Step(least_s=spec.setup_s, most_s=spec.setup_s, is_setup=True)]
    for number, group in enumerate(filter(None, groups)):
        # Every launch but the first has a short set-up, which counts as a part of its first probe.
        first_s = spec.new_ranks_s + spec.communicator_s if number else 0.0
        durations_s = [spec.probe_s + (0.0 if position else first_s) for position in range(len(group))]
        steps += [Step(least_s=duration_s, most_s=duration_s) for duration_s in durations_s]
    total = len(done) + sum(map(len, groups))
    return Tracker(
        total=total,
        orders=[range(len(done), total)],
        label=lambda _index: "",
        time_left=TimeLeft(steps),
        clock=clock,
    )
