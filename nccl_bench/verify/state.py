"""The probe of enabling and disabling: state."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch

from nccl_bench.errors import DisabledError
from nccl_bench.parallel_state import GroupCoordinator
from nccl_bench.verify.rig import Rig, Trial, first_of


class _PlantedError(Exception):
    """What the probe raises inside a ``with`` block, to see what is left behind."""


def state(rig: Rig) -> None:
    """Is a communicator on exactly where it was switched on, and does it leave alone what it refuses?"""
    rig.each(_switch, rig.exchanges())


def _switch(trial: Trial) -> str | None:
    arm = trial.rig.arm.communicator
    # A coordinator's own state is its communicator's: torch.distributed is always on.
    switch = arm.communicator if isinstance(arm, GroupCoordinator) else arm
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
        if switch.stream is not other:
            return "inside change_state(True, stream) the communicator has another stream than the one given"
        raise _PlantedError
    if switch.stream is not private:
        return "after an exception in change_state(True, stream) the communicator keeps that stream"
    return None


def _graph_capture(trial: Trial, arm: Any) -> str | None:
    """A coordinator's ``graph_capture`` switches its communicator and the current stream."""
    if not isinstance(arm, GroupCoordinator):
        return None
    switch, caller = arm.communicator, trial.streams.current_handle(trial.streams.index)
    at_rest = _is_on(trial, switch)
    for raises in (False, True):
        with suppress(_PlantedError), arm.graph_capture() as stream:
            if trial.streams.current_handle(trial.streams.index) != trial.streams.handle(stream):
                return "inside graph_capture() another stream than its own is current"
            if not _is_on(trial, switch):
                return "inside graph_capture() the communicator is off"
            if raises:
                raise _PlantedError
        after = "after an exception in graph_capture()" if raises else "after graph_capture()"
        if trial.streams.current_handle(trial.streams.index) != caller:
            return f"{after} another stream is current than before"
        if _is_on(trial, switch) is not at_rest:
            return f"{after} the communicator is {'off' if at_rest else 'on'}"
    exchange = trial.start(salt=2)
    trial.call()
    trial.streams.synchronize()
    wrong = exchange.wrong(exchange.y, salt=2)
    return f"after graph_capture(): {wrong}" if wrong else None
