"""The probe of the asynchronous all-gather of context parallelism: async."""

from __future__ import annotations

from collections.abc import Callable

import torch

from nccl_bench.communicators.base import ArmCommunicator
from nccl_bench.verify.exchanges import Exchange
from nccl_bench.verify.rig import Rig, Trial, first_of

# The host may be interrupted between two time stamps; a call that blocks the stream does so every time.
ATTEMPTS = 3
# Of the gather's own time, which a late rank makes long.
MOST_BLOCKED = 0.5
MOST_TURNS = 8


def overlap(rig: Rig) -> None:
    """Does the gather follow the stream it is given, leave the caller's free, and come right once joined to it?"""
    # Once with each rank being the late one, which itself has nothing to see.
    rig.each(_gather, rig.exchanges(names=("all_gather",)) * min(rig.control.world_size, MOST_TURNS))


def _gather(trial: Trial) -> str | None:
    communicator = trial.rig.arm.communicator
    with communicator.change_state(True):
        wrong = _beside(trial, communicator.async_gather)
    return first_of([wrong, _fallen_back(trial, communicator) if communicator.routed else None])


def _beside(trial: Trial, gather: Callable[..., object]) -> str | None:
    shares: list[float] = []
    seen = [_forked(trial, gather)]
    for salt in range(ATTEMPTS):
        exchange = trial.start(salt)
        caller_ms, gather_ms, wrong = _timed(trial, exchange, gather, salt)
        seen.append(f"joined, it is wrong: {wrong}" if wrong else None)
        shares.append(caller_ms / gather_ms)
    if any(seen):
        return first_of(seen)
    # A late rank's own gather is short, so there is nothing to be seen on it.
    if trial.late or min(shares) < MOST_BLOCKED:
        return None
    return (
        f"the caller's stream was blocked for {min(shares):.0%} of the gather's time in the best of {ATTEMPTS} attempts"
    )


def _forked(trial: Trial, gather: Callable[..., object]) -> str | None:
    """The input is written behind a slow kernel on the caller's stream, for which the gather's stream waits.

    Everything after the gather is waited for.
    """
    exchange = trial.start(salt=ATTEMPTS)
    streams = trial.streams
    caller, (_, _, side) = streams.current_stream(), trial.rig.side_streams
    written = exchange.fresh(ATTEMPTS + 1)
    streams.synchronize()
    trial.rig.control.barrier()
    trial.slow_kernel()
    streams.submit(exchange.x.copy_, written)
    side.wait_stream(caller)
    gather(exchange.y, exchange.x, side)
    streams.synchronize()
    wrong = exchange.wrong(exchange.y, salt=ATTEMPTS + 1)
    return f"it did not wait for what its stream waits for: {wrong}" if wrong else None


def _timed(
    trial: Trial, exchange: Exchange, gather: Callable[..., object], salt: int
) -> tuple[float, float, str | None]:
    """Milliseconds on the caller's stream and on the gather's, and what is wrong with the result."""
    streams = trial.streams
    caller, (_, _, side) = streams.current_stream(), trial.rig.side_streams
    begin, end, side_begin, side_end = (streams.new_event(timing=True) for _ in range(4))
    copy, work = torch.empty_like(exchange.y), torch.zeros(1, device=streams.device)
    streams.synchronize()
    trial.be_late()
    side.wait_stream(caller)
    side_begin.record(side)
    begin.record(caller)
    gather(exchange.y, exchange.x, side)
    streams.submit(work.add_, 1)
    end.record(caller)
    side_end.record(side)
    caller.wait_stream(side)
    streams.submit(copy.copy_, exchange.y)
    streams.synchronize()
    return begin.elapsed_time(end), side_begin.elapsed_time(side_end), exchange.wrong(copy, salt)


def _fallen_back(trial: Trial, coordinator: ArmCommunicator) -> str | None:
    """With the communicator off it is the ordinary gather, ordered with the current stream by itself."""
    exchange = trial.start(salt=1)
    copy = torch.empty_like(exchange.y)
    _, _, side = trial.rig.side_streams
    with coordinator.change_state(False):
        trial.be_late()
        coordinator.async_gather(exchange.y, exchange.x, side)
        trial.streams.submit(copy.copy_, exchange.y)
    trial.streams.synchronize()
    wrong = exchange.wrong(copy, salt=1)
    return f"with the communicator off: {wrong}" if wrong else None
