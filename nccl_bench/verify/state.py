"""The probe of enabling and disabling: state."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch

from nccl_bench.catalog.routes import Backend, Mode
from nccl_bench.errors import DisabledError
from nccl_bench.verify.rig import Rig, Trial, first_of


class _PlantedError(Exception):
    """What the probe raises inside a ``with`` block, to see what is left behind."""


def state(rig: Rig) -> None:
    """Is a communicator on exactly where it was switched on, and does it leave alone what it refuses?"""
    rig.each(_switch, rig.exchanges())


def _switch(trial: Trial) -> str | None:
    arm = trial.rig.arm.communicator
    switch = arm.switch
    at_rest = _is_on(trial, switch)
    seen: list[tuple[str, bool, bool]] = []

    def see(where: str, expected: bool) -> None:
        seen.append((where, expected, _is_on(trial, switch)))

    with switch.change_state(True):
        see("inside change_state(True)", True)
        with switch.change_state(False):
            see("inside change_state(False)", False)
            with switch.change_state(True):
                see("inside change_state(True) within change_state(False)", True)
            see("after change_state(True) within change_state(False)", False)
            with switch.change_state(None):
                see("inside change_state(None)", True)
            see("after change_state(None) within change_state(False)", False)
            with suppress(_PlantedError), switch.change_state(True):
                raise _PlantedError
            see("after an exception in change_state(True) within change_state(False)", False)
        with suppress(_PlantedError), switch.change_state(False):
            raise _PlantedError
        see("after an exception in change_state(False)", True)
    see("after all of it", at_rest)
    switched = [
        f"{where} the communicator is {'on' if got else 'off'}" for where, expected, got in seen if got is not expected
    ]
    return first_of([*switched, _refusal(trial, switch), _private_stream(trial, switch), _graph_capture(trial, arm)])


def _is_on(trial: Trial, switch: Any) -> bool:
    """Whether the next call would be done, found out by doing one."""
    trial.start(salt=0)
    try:
        trial.exchange.operation(switch)()
    except DisabledError:
        return False
    trial.streams.synchronize()
    return True


def _refusal(trial: Trial, switch: Any) -> str | None:
    exchange = trial.start(salt=1)
    before = exchange.y.clone()
    trial.streams.synchronize()
    with switch.change_state(False), suppress(DisabledError):
        exchange.operation(switch)()
    trial.streams.synchronize()
    if not torch.equal(exchange.y.view(torch.uint8), before.view(torch.uint8)):
        return "a disabled call changed its output"
    return None


def _private_stream(trial: Trial, switch: Any) -> str | None:
    """The generation before the refactor swaps its stream too."""
    private = switch.stream
    if private is None:
        return None
    _, _, other = trial.rig.side_streams
    with suppress(_PlantedError), switch.change_state(True, other):
        swapped = switch.stream is other
        raise _PlantedError
    return first_of(
        [
            None if swapped else "inside change_state(True, stream) the communicator has another stream than that one",
            None
            if switch.stream is private
            else "after an exception in change_state(True, stream) the communicator keeps that stream",
        ]
    )


def _graph_capture(trial: Trial, arm: Any) -> str | None:
    """A coordinator's ``graph_capture`` switches its communicator, its routes and the current stream."""
    if not arm.routed:
        return None
    switch, caller = arm.switch, _current(trial)
    at_rest = _is_on(trial, switch)
    seen = [_routed(trial, arm, Mode.EAGER)]
    for raises in (False, True):
        with suppress(_PlantedError), arm.graph_capture() as stream:
            own, on = _current(trial) == trial.streams.handle(stream), _is_on(trial, switch)
            seen += [
                None if own else "inside graph_capture() another stream than its own is current",
                None if on else "inside graph_capture() the communicator is off",
                _routed(trial, arm, Mode.GRAPH),
            ]
            if raises:
                raise _PlantedError
        after = "after an exception in graph_capture()" if raises else "after graph_capture()"
        here, same = _current(trial) == caller, _is_on(trial, switch) is at_rest
        seen += [
            None if here else f"{after} another stream is current than before",
            None if same else f"{after} the communicator is {'off' if at_rest else 'on'}",
            _routed(trial, arm, Mode.EAGER),
        ]
    return first_of(seen)


def _routed(trial: Trial, arm: Any, mode: Mode) -> str | None:
    """Whether the exchange goes where the table says: without its communicator only torch.distributed can carry it."""
    route = trial.rig.routes[trial.exchange.operation_name][mode]
    trial.start(salt=2)
    with arm.change_state(False):
        try:
            trial.exchange.operation(arm)()
            carried = Backend.TORCH
        except DisabledError:
            carried = Backend.COMMUNICATOR
    trial.streams.synchronize()
    where = "inside graph_capture()" if mode is Mode.GRAPH else "outside of graph_capture()"
    return None if carried is route else f"{where} it is carried by {carried}, and the table says {route}"


def _current(trial: Trial) -> int:
    return trial.streams.current_handle(trial.streams.index)
