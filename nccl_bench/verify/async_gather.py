"""The probe ``async``, which checks the asynchronous all-gather of context parallelism."""

from collections.abc import Callable

import torch

from nccl_bench.communicators.base import ArmCommunicator
from nccl_bench.verify.exchanges import Exchange
from nccl_bench.verify.rig import Rig, Trial, first_error

# An interruption of the host makes one attempt slow. A call that blocks the caller's stream makes every attempt slow.
ATTEMPTS = 3
# The caller's stream must be blocked for less than this share of the gather's time. A late rank makes that time long.
MOST_BLOCKED = 0.5
MOST_TURNS = 8


def async_gather(rig: Rig) -> None:
    """Check that the gather waits for work on its stream, keeps the caller's stream free, and is right after a join."""
    communicator = rig.arm.communicator
    if communicator.async_gather is None:
        rig.reason_not_applicable = communicator.reason_without_async_gather
        return
    # Repeat the exchanges with other late ranks: a late rank cannot measure whether its own stream was blocked.
    rig.try_each(_gather, rig.exchanges(names=("all_gather",)) * min(rig.control.world_size, MOST_TURNS))


def _gather(trial: Trial) -> str | None:
    communicator = trial.rig.arm.communicator
    with communicator.change_state(True):
        error = _gather_beside_caller(trial, communicator.async_gather)
    return first_error([error, _gather_with_communicator_off(trial, communicator) if communicator.has_routes else None])


def _gather_beside_caller(trial: Trial, gather: Callable[..., object]) -> str | None:
    shares: list[float] = []
    errors = [_gather_after_fork(trial, gather)]
    for salt in range(ATTEMPTS):
        exchange = trial.start(salt)
        caller_ms, gather_ms, error = _time_gather(trial, exchange, gather, salt)
        errors.append(f"after the join, the result is wrong: {error}" if error else None)
        shares.append(caller_ms / gather_ms)
    if any(errors):
        return first_error(errors)
    # The gather is short on a late rank, so the share shows nothing on this rank.
    if trial.is_late or min(shares) < MOST_BLOCKED:
        return None
    return (
        f"the caller's stream was blocked for {min(shares):.0%} of the gather's time in the best of {ATTEMPTS} attempts"
    )


def _gather_after_fork(trial: Trial, gather: Callable[..., object]) -> str | None:
    """Make the gather's stream wait for a slow write of the input, and check that the gather reads the new input."""
    streams = trial.streams
    caller, (_, _, side) = streams.current_stream(), trial.rig.side_streams
    written = trial.exchange.make_input(ATTEMPTS + 1)
    exchange = trial.start(salt=ATTEMPTS)
    trial.run_slow_kernel()
    streams.submit(exchange.input.copy_, written)
    side.wait_stream(caller)
    gather(exchange.output, exchange.input, side)
    streams.synchronize()
    error = trial.find_error(exchange.output, salt=ATTEMPTS + 1)
    return f"the gather did not wait for the write of its input: {error}" if error else None


def _time_gather(
    trial: Trial, exchange: Exchange, gather: Callable[..., object], salt: int
) -> tuple[float, float, str | None]:
    """Return the milliseconds on the caller's stream and on the gather's stream, and the error of the result."""
    streams = trial.streams
    caller, (_, _, side) = streams.current_stream(), trial.rig.side_streams
    begin, end, side_begin, side_end = (streams.new_event(timing=True) for _ in range(4))
    copy, work = torch.empty_like(exchange.output), torch.zeros(1, device=streams.device)
    streams.synchronize()
    trial.delay_if_late()
    side.wait_stream(caller)
    side_begin.record(side)
    begin.record(caller)
    gather(exchange.output, exchange.input, side)
    streams.submit(work.add_, 1)
    end.record(caller)
    side_end.record(side)
    caller.wait_stream(side)
    streams.submit(copy.copy_, exchange.output)
    streams.synchronize()
    return begin.elapsed_time(end), side_begin.elapsed_time(side_end), trial.find_error(copy, salt)


def _gather_with_communicator_off(trial: Trial, coordinator: ArmCommunicator) -> str | None:
    """Check that a coordinator whose communicator is off runs the gather in order with the current stream."""
    exchange = trial.start(salt=1)
    copy = torch.empty_like(exchange.output)
    _, _, side = trial.rig.side_streams
    with coordinator.change_state(False):
        trial.delay_if_late()
        coordinator.async_gather(exchange.output, exchange.input, side)
        trial.streams.submit(copy.copy_, exchange.output)
    trial.streams.synchronize()
    error = trial.find_error(copy, salt=1)
    return f"with the communicator off: {error}" if error else None
