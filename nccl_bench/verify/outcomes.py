"""The outcomes of a probe's trials on one rank, and the finding that joins the outcomes of all ranks."""

from collections.abc import Sequence
from dataclasses import dataclass

from nccl_bench.catalog.probes import Place
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.ranks.control import Control
from nccl_bench.verify.exchanges import Exchange
from nccl_bench.verify.findings import Finding, TrialGroup


class Race(str):
    """An error that only a race explains, because the same call gives the right result if nothing can race."""


class Leak(str):
    """The leak of a user's object that was dropped, because no method ends it. A trial with a leak has not failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one trial on this rank."""

    error: str | None  # the error, or the leak; None after a pass
    place: Place | None  # the stream of the calls; None if the trial has none
    exchange: Exchange | None  # the exchange; None if the trial has several or none
    in_graph_mode: bool  # True if the calls were made inside graph_capture()
    calls: int  # the number of calls whose results were checked


def join_outcomes(arm_probe: ArmProbe, outcomes: Sequence[Outcome], control: Control) -> Finding:
    """Return one finding for all ranks together. Every rank has the outcomes of the same trials. Collective."""
    count = len(outcomes)
    leaks = [each.error if isinstance(each.error, Leak) else None for each in outcomes]
    errors = [None if isinstance(each.error, Leak) else each.error for each in outcomes]
    marks = [
        *(error is not None for error in errors),
        *(isinstance(error, Race) for error in errors),
        *(leak is not None for leak in leaks),
    ]
    ranks = control.sum([int(mark) for mark in marks])
    failed, raced, leaked = ranks[:count], ranks[count : 2 * count], ranks[2 * count :]
    first = next((index for index, number in enumerate(failed) if number), None)
    message = None if first is None else control.first_message(errors[first])
    first_leaks = [control.first_message(leaks[index]) for index, number in enumerate(leaked) if number]
    loud = {outcome.place for outcome, number in zip(outcomes, raced, strict=True) if number}
    return Finding(
        arm=arm_probe.arm,
        probe=arm_probe.probe,
        trials=count,
        failed=sum(1 for number in failed if number),
        raced=sum(1 for number in raced if number),
        quiet=tuple(place for place in Place if place not in loud),
        detail=None if message is None else str(message[1]),
        leaks=tuple(message for _, message in filter(None, first_leaks)),
        groups=_groups(outcomes, failed),
    )


def _groups(outcomes: Sequence[Outcome], failed: Sequence[int]) -> tuple[TrialGroup, ...]:
    """Return the trials that have a place, by place, operation, size and mode.

    ``failed`` has, for each trial, the number of ranks on which it failed.
    """
    numbers: dict[tuple[Place, str | None, int | None, bool], list[int]] = {}
    for outcome, ranks in zip(outcomes, failed, strict=True):
        if outcome.place is not None:
            exchange = outcome.exchange
            key = (
                outcome.place,
                exchange.label if exchange else None,
                exchange.size_bytes if exchange else None,
                outcome.in_graph_mode,
            )
            of_group = numbers.setdefault(key, [0, 0, 0])
            of_group[:] = map(sum, zip(of_group, (1, ranks > 0, outcome.calls), strict=True))
    return tuple(
        TrialGroup(
            place=place,
            operation=operation,
            size_bytes=size_bytes,
            in_graph_mode=in_graph_mode,
            trials=trials,
            failed=wrong,
            calls=calls,
        )
        for (place, operation, size_bytes, in_graph_mode), (trials, wrong, calls) in numbers.items()
    )
