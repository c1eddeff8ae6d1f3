"""The first call of each user arm in a case. It shows the placement of the arm's calls, or that the arm declines.

Only the result of a user's call shows whether the call works in place or returns a new tensor, and whether the arm
takes the message at all. The answer can differ from case to case, for example by size, so every case has a first call.
"""

from collections.abc import Mapping, Sequence
from itertools import islice

from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.graphs import captured
from nccl_bench.catalog.collectives import Placement
from nccl_bench.communicators.observations import (
    Observation,
    conclude,
    observe_placement,
    observe_silence,
    refusal_by,
    tally,
)
from nccl_bench.config.user_arms import user_arm_of
from nccl_bench.errors import SetupError


def try_first_calls(context: CaseContext, names: Sequence[str]) -> Mapping[str, str]:
    """Call each user arm among ``names`` once, and correct its placement by what the call returns. Collective.

    Return the arms that decline the case, each with a text that says how it declined. Raises ``SetupError`` if a result
    cannot be right, if a placement is not the configured one, or if the ranks differ.
    """
    loaded = _loaded(context, names)
    if not loaded:
        return {}
    observed: dict[str, frozenset[Observation]] = {}
    reasons: dict[str, str] = {}
    for name in context.arms.visit(loaded, "first call"):
        observation, reasons[name] = _call_once(context, name)
        observed[name] = context.arms[name].communicator.known(context.case_of(name)) | {observation}
    sums = iter(context.control.sum([mark for name in loaded for mark in tally(observed.get(name, ()))]))
    how = context.arms.merge(reasons)
    declined = {}
    for name in loaded:
        # If there is an error, the arm of the last report gets the blame.
        context.arms.report(name, "first call, results")
        try:
            placement = conclude(list(islice(sums, len(Observation))), context.placements[name])
        except SetupError as error:
            raise SetupError(f"{context.case.label}: {error}") from error
        if placement is None:
            declined[name] = how[name]
            continue
        if context.config.placements is not None and placement is not context.placements[name]:
            raise SetupError(
                f"--placement asks for {context.placements[name]}, and the call in {context.case.label} was "
                f"{placement}: leave out --placement, and each arm is measured in the placement that it has"
            )
        context.placements[name] = placement
    return declined


def try_captures(context: CaseContext, names: Sequence[str]) -> Mapping[str, str]:
    """Capture one call of each user arm among ``names`` whose calls return tensors. Collective.

    Return the arms that decline within a capture, each with a text that says how it declined. Raises ``SetupError`` if
    the ranks differ.
    """
    returning = [name for name in _loaded(context, names) if context.placements[name] is Placement.RETURNED]
    results: dict[str, list[object]] = {name: [] for name in returning}
    with captured(context, returning, 1, keep=results):
        silent = [int(results[name] == [None]) for name in returning]
    ranks = context.arms.ranks.own_set.world_size
    declined = {}
    for name, count in zip(returning, context.control.sum(silent), strict=True):
        if 0 < count < ranks:
            context.arms.report(name, "graph capture")
            raise SetupError(
                f"{context.case.label}: {name} returned None on some ranks only, while it was captured: let it "
                "return a tensor on every rank, or None on every rank"
            )
        if count:
            declined[name] = "it returned None while a graph was captured"
    return declined


def _loaded(context: CaseContext, names: Sequence[str]) -> list[str]:
    user_arms = context.config.user_arms
    return [name for name in names if (arm := user_arm_of(user_arms, name)) is not None and not arm.built_in]


def _call_once(context: CaseContext, name: str) -> tuple[Observation, str]:
    """Call the arm ``name`` once. Return what this rank observes, and the reason if the arm declines."""
    communicator, buffers, streams = context.arms[name].communicator, context.buffers, context.streams
    answer = communicator.ask(context.case_of(name), buffers.input(0))
    if answer.declined is not None:
        return Observation.REFUSED, answer.declined
    expected = context.placements[name]
    if answer.placements is not None and expected not in answer.placements:
        if context.config.placements is not None or not answer.placements:
            return Observation.REFUSED, f"the arm does not take the message {expected}"
        expected = next(each for each in Placement if each in answer.placements)
        context.placements[name] = expected
    method = communicator.method_name(context.case_of(name))
    buffers.poison(1, expected)
    streams.synchronize()
    returned: list[object] = []
    try:
        context.call_each(name, 1, returned.append)
        # Only a rank that has made its call reports this step. A hang is blamed on the rank with the fewest steps.
        context.arms.report(name, "first call, waiting")
        streams.synchronize()
    except NotImplementedError as error:
        return Observation.REFUSED, refusal_by(error, method)
    placement = context.placement_shown_by(name, 0, returned[0])
    streams.synchronize()
    if buffers.expected is None:
        return Observation.NOTHING, ""
    if placement is not None:
        return observe_placement(placement), ""
    silence = observe_silence(lambda: buffers.is_unchanged(expected), lambda: buffers.is_right(expected))
    return silence, f"{method} returned None"
