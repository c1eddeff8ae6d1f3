"""The probes of order proper: producer, consumer, allocator. Each leaves one thing to chance and no other."""

from __future__ import annotations

import torch
from torch import Tensor

from nccl_bench.verify.exchanges import POISON, Exchange
from nccl_bench.verify.rig import Race, Rig, Trial, first_of

# The allocator hands out what it likes of its free blocks; several of a size come to the one just freed.
ALLOCATIONS = 8


def producer(rig: Rig) -> None:
    """Is the collective ordered behind the write of its input? Everything after it is waited for."""
    rig.each(_produce, rig.exchanges(), both_modes=True)


def _produce(trial: Trial) -> str | None:
    at_leisure = _at_leisure(trial)
    exchange = trial.start(salt=1)
    written = exchange.fresh(2)
    trial.streams.synchronize()
    trial.rig.control.barrier()
    trial.slow_kernel()
    trial.streams.submit(exchange.x.copy_, written)
    trial.call()
    trial.streams.synchronize()
    wrong = exchange.wrong(exchange.y, salt=2)
    return at_leisure or _raced("the collective did not wait for the write of its input", wrong)


def consumer(rig: Rig) -> None:
    """Is what follows ordered behind the collective? Its input was there long before."""
    rig.each(_consume, rig.exchanges(), both_modes=True)


def _consume(trial: Trial) -> str | None:
    at_leisure = _at_leisure(trial)
    copy = torch.empty_like(trial.exchange.y)
    exchange = trial.start(salt=1)
    trial.be_late()
    trial.call()
    trial.streams.submit(copy.copy_, exchange.y)
    trial.streams.synchronize()
    return at_leisure or _raced("a copy of the output did not wait for the collective", exchange.wrong(copy, salt=1))


def allocator(rig: Rig) -> None:
    """May the input be freed right after the call? Who gets its memory next writes to it behind the collective."""
    # In place, what is freed is the output too.
    rig.each(_reuse, [exchange for exchange in rig.exchanges() if exchange.x is not exchange.y])


def _reuse(trial: Trial) -> str | None:
    seen = []
    for salt in range(3):
        exchange = trial.start(salt)
        trial.be_late()
        _call_with_passing_input(trial, exchange, exchange.fresh(salt))
        overwritten = [torch.full_like(exchange.x, POISON) for _ in range(ALLOCATIONS)]
        trial.streams.synchronize()
        seen.append(exchange.wrong(exchange.y, salt))
        del overwritten
    return _raced("the input's memory was taken again before the collective had read it", first_of(seen))


def _call_with_passing_input(trial: Trial, exchange: Exchange, passing: Tensor) -> None:
    """The call on an input that nobody refers to once this returns, complete before the call."""
    trial.streams.synchronize()
    communicator = trial.rig.arm.communicator
    trial.rig.arm.order(lambda: exchange.run(communicator, passing, exchange.y))()


def _at_leisure(trial: Trial) -> str | None:
    """The collective with nothing to be in time for, which also loads what is loaded at a first call."""
    exchange = trial.start(salt=0)
    trial.call_elsewhere()
    wrong = exchange.wrong(exchange.y, salt=0)
    return f"the collective is wrong, whatever its order: {wrong}" if wrong else None


def _raced(what: str, wrong: str | None) -> Race | None:
    return None if wrong is None else Race(f"{what}: {wrong}")
