"""The probes ``producer``, ``consumer`` and ``allocator``. Each probe tests exactly one wait."""

import torch
from torch import Tensor

from nccl_bench.verify.exchanges import POISON, Exchange
from nccl_bench.verify.outcomes import Race
from nccl_bench.verify.rig import Rig, Trial, call, first_error

# The allocator can use any free block. One of this many tensors of the same size gets the block that was just freed.
ALLOCATIONS = 8


def producer(rig: Rig) -> None:
    """Check that the collective waits for the write of its input. The host waits until the output is complete."""
    rig.try_each(_produce, rig.exchanges(), both_modes=True)


def _produce(trial: Trial) -> str | None:
    error_without_race = _call_without_race(trial)
    written = trial.exchange.make_input(2)
    exchange = trial.start(salt=1)
    trial.run_slow_kernel()
    trial.streams.submit(exchange.input.copy_, written)
    trial.call()
    trial.streams.synchronize()
    error = trial.find_error(exchange.output, salt=2)
    return error_without_race or _race("the collective did not wait for the write of its input", error)


def consumer(rig: Rig) -> None:
    """Check that a copy of the output waits for the collective. The input is complete before the call."""
    rig.try_each(_consume, rig.exchanges(), both_modes=True)


def _consume(trial: Trial) -> str | None:
    error_without_race = _call_without_race(trial)
    copy = torch.empty_like(trial.exchange.output)
    exchange = trial.start(salt=1)
    trial.delay_if_late()
    trial.call()
    trial.streams.submit(copy.copy_, exchange.output)
    trial.streams.synchronize()
    error = trial.find_error(copy, salt=1)
    return error_without_race or _race("a copy of the output did not wait for the collective", error)


def allocator(rig: Rig) -> None:
    """Check that the result is right even if the input is freed after the call and other tensors get its memory."""
    # Skip in-place exchanges: the input is also the output, which must not be freed.
    rig.try_each(_reuse, [exchange for exchange in rig.exchanges() if exchange.input is not exchange.output])


def _reuse(trial: Trial) -> str | None:
    errors = []
    for salt in range(3):
        exchange = trial.start(salt)
        trial.delay_if_late()
        _call_on_temporary(trial, exchange, exchange.make_input(salt))
        overwritten = [torch.full_like(exchange.input, POISON) for _ in range(ALLOCATIONS)]
        trial.streams.synchronize()
        errors.append(trial.find_error(exchange.output, salt))
        del overwritten
    return _race("the input's memory was reused before the collective had read it", first_error(errors))


def _call_on_temporary(trial: Trial, exchange: Exchange, temporary: Tensor) -> None:
    """Wait for the write of ``temporary``, and call the collective on it. The return frees ``temporary``."""
    trial.streams.synchronize()
    call(trial.rig.arm, exchange, temporary)


def _call_without_race(trial: Trial) -> str | None:
    """Make a first call, which cannot race and which loads kernels. Return the error of this call, or ``None``."""
    exchange = trial.start(salt=0)
    trial.call_on_other_stream()
    error = trial.find_error(exchange.output, salt=0)
    return f"the result is wrong even without a race: {error}" if error else None


def _race(what: str, error: str | None) -> Race | None:
    return None if error is None else Race(f"{what}: {error}")
