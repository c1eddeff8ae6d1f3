"""The first call of a user arm with an exchange. It shows whether the arm takes the exchange in its placement."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from nccl_bench.catalog.collectives import Placement
from nccl_bench.communicators.observations import (
    Observation,
    conclude,
    observe_placement,
    observe_silence,
    refusal_by,
    tally,
)
from nccl_bench.communicators.protocol import Operation
from nccl_bench.verify.exchanges import POISON, Exchange

if TYPE_CHECKING:
    from nccl_bench.verify.rig import Rig


def accepts(rig: Rig, exchange: Exchange) -> bool:
    """Return whether the shared arm accepts ``exchange`` in its placement. Collective.

    Nothing can race here. If the arm declines, add the exchange to ``rig.declined``. Raises ``SetupError`` if a result
    cannot be right, or if the ranks differ.
    """
    observation, reason = _call_once(rig, exchange)
    known = rig.arm.communicator.known(exchange.case)
    placement = conclude(rig.control.sum(tally(known | {observation})), exchange.placement)
    # An all-reduce can be tried in two placements: in place and returned. Name it only once.
    declined = f"{exchange.name.removeprefix(f'{exchange.placement} ')} ({reason})"
    if placement is None and reason and declined not in rig.declined:
        rig.declined.append(declined)
    return placement is exchange.placement


def _call_once(rig: Rig, exchange: Exchange) -> tuple[Observation, str]:
    """Call the arm once. Return what this rank observes, and the reason if the arm declines."""
    communicator, streams, case = rig.arm.communicator, rig.device.streams, exchange.case
    rig.announce_trial(f"first call, {exchange.name}")
    streams.synchronize()
    exchange.reset(0)
    streams.synchronize()
    rig.control.barrier()
    answer = communicator.ask(case, exchange.input)
    if answer.declined is not None:
        return Observation.REFUSED, answer.declined
    if answer.placements is not None and exchange.placement not in answer.placements:
        return Observation.REFUSED, ""
    returned: list[object] = []
    method = communicator.method_name(case)
    call = partial(exchange.run, communicator, exchange.input, exchange.output)
    try:
        rig.arm.order(partial(_keep, call, returned))()
        streams.synchronize()
    except NotImplementedError as error:
        return Observation.REFUSED, refusal_by(error, method)
    placement = communicator.examine(case, returned[0], exchange.input, exchange.output)
    streams.synchronize()
    if placement is not None:
        return observe_placement(placement), ""
    written = exchange.output if exchange.placement is Placement.OUT_OF_PLACE else exchange.input
    expected, before = exchange.make_expected(0), exchange.make_input(0)

    def is_unchanged() -> bool:
        poisoned = exchange.placement is not Placement.OUT_OF_PLACE or bool((exchange.output == POISON).all())
        return poisoned and torch.equal(exchange.input, before)

    silence = observe_silence(is_unchanged, lambda: torch.equal(written, expected))
    return silence, f"{method} returned None"


def _keep(call: Operation, returned: list[object]) -> None:
    returned.append(call())
