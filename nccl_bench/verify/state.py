"""The probe ``state``, which checks that a communicator is switched on and off correctly."""

from contextlib import suppress
from typing import Any

import torch

from nccl_bench.catalog.routes import Backend, Mode
from nccl_bench.errors import DisabledError
from nccl_bench.verify.rig import Rig, Trial, first_error


class _PlantedError(Exception):
    """An error that the probe raises inside a ``with`` block, to test the state after the block."""


def state(rig: Rig) -> None:
    """Check that a communicator is on only while it is switched on, and that a refused call changes nothing."""
    # A switch does not depend on the size of the message.
    small, _ = rig.device_spec.probe_sizes
    rig.try_each(_switch, rig.exchanges([small]))


def _switch(trial: Trial) -> str | None:
    communicator = trial.rig.arm.communicator
    switch = communicator.inner
    trial.start(salt=0)
    initially_on = _is_on(trial, switch)
    errors: list[str | None] = []

    def expect(is_on: bool, where: str) -> None:
        if _is_on(trial, switch) is not is_on:
            errors.append(f"{where} the communicator is {'off' if is_on else 'on'}")

    with switch.change_state(True):
        expect(True, "inside change_state(True)")
        with switch.change_state(False):
            expect(False, "inside change_state(False)")
            with switch.change_state(True):
                expect(True, "inside change_state(True) within change_state(False)")
            expect(False, "after change_state(True) within change_state(False)")
            with switch.change_state(None):
                expect(True, "inside change_state(None)")
            expect(False, "after change_state(None) within change_state(False)")
            with suppress(_PlantedError), switch.change_state(True):
                raise _PlantedError
            expect(False, "after an exception in change_state(True) within change_state(False)")
        with suppress(_PlantedError), switch.change_state(False):
            raise _PlantedError
        expect(True, "after an exception in change_state(False)")
    expect(initially_on, "after all these changes")
    errors += [_call_disabled(trial, switch), _swap_private_stream(trial, switch), _capture_graph(trial, communicator)]
    return first_error(errors)


def _is_on(trial: Trial, switch: Any) -> bool:
    """Make a call, whose result nobody reads, and return whether the communicator accepts it."""
    try:
        trial.exchange.operation(switch)()
    except DisabledError:
        return False
    trial.streams.synchronize()
    return True


def _call_disabled(trial: Trial, switch: Any) -> str | None:
    exchange = trial.start(salt=1)
    before = exchange.output.clone()
    trial.streams.synchronize()
    with switch.change_state(False), suppress(DisabledError):
        exchange.operation(switch)()
    trial.streams.synchronize()
    if not torch.equal(exchange.output.view(torch.uint8), before.view(torch.uint8)):
        return "a call of the disabled communicator changed the output"
    return None


def _swap_private_stream(trial: Trial, switch: Any) -> str | None:
    """Check that ``change_state`` replaces the private stream (if any), and restores the old stream afterwards."""
    private = switch.stream
    if private is None:
        return None
    _, _, other = trial.rig.side_streams
    with suppress(_PlantedError), switch.change_state(True, other):
        swapped = switch.stream is other
        raise _PlantedError
    if not swapped:
        return "inside change_state(True, stream) the communicator does not have that stream"
    if switch.stream is not private:
        return "after an exception in change_state(True, stream) the communicator keeps that stream"
    return None


def _capture_graph(trial: Trial, coordinator: Any) -> str | None:
    """Check that ``graph_capture`` changes a coordinator's state, routes and current stream, and restores all three."""
    if not coordinator.has_routes:
        return None
    switch, caller = coordinator.inner, _current_handle(trial)
    initially_on = _is_on(trial, switch)
    errors = [_check_route(trial, coordinator, Mode.EAGER)]
    for raises in (False, True):
        with suppress(_PlantedError), coordinator.graph_capture() as stream:
            on_capture_stream = _current_handle(trial) == trial.streams.handle(stream)
            errors += [
                None if on_capture_stream else "inside graph_capture() the current stream is not the yielded stream",
                None if _is_on(trial, switch) else "inside graph_capture() the communicator is off",
                _check_route(trial, coordinator, Mode.GRAPH),
            ]
            if raises:
                raise _PlantedError
        after = "after an exception in graph_capture()" if raises else "after graph_capture()"
        on_callers_stream, same = _current_handle(trial) == caller, _is_on(trial, switch) is initially_on
        errors += [
            None if on_callers_stream else f"{after} the current stream is not restored",
            None if same else f"{after} the communicator is {'off' if initially_on else 'on'}",
            _check_route(trial, coordinator, Mode.EAGER),
        ]
    return first_error(errors)


def _check_route(trial: Trial, coordinator: Any, mode: Mode) -> str | None:
    """Check that the backend of the routing table runs the exchange. A communicator that is off runs no exchange."""
    route = trial.rig.routes[trial.exchange.operation_name][mode]
    with coordinator.change_state(False):
        try:
            trial.exchange.operation(coordinator)()
            carried = Backend.TORCH
        except DisabledError:
            carried = Backend.COMMUNICATOR
    trial.streams.synchronize()
    where = "inside graph_capture()" if mode is Mode.GRAPH else "outside of graph_capture()"
    return None if carried is route else f"{where} the call ran on {carried}, but the table of routes says {route}"


def _current_handle(trial: Trial) -> int:
    return trial.streams.current_handle(trial.streams.index)
