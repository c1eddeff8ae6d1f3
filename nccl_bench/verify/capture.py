"""The probe ``capture``, which checks CUDA graphs."""

import torch
from torch import Tensor

from nccl_bench.streams.base import Graph
from nccl_bench.verify.exchanges import Exchange
from nccl_bench.verify.rig import Rig, Trial, first_error

REPLAYS = 3


def capture(rig: Rig) -> None:
    """Check that a graph holds all communication, and that a replay is ordered with the work before and after it."""
    rig.try_each(_capture, rig.exchanges())


def _capture(trial: Trial) -> str | None:
    exchange = trial.start(salt=0)
    before = [exchange.input.clone(), exchange.output.clone()]
    trial.streams.synchronize()
    graph = trial.rig.arm.capture(trial.call)
    trial.streams.synchronize()
    unchanged = all(map(torch.equal, (exchange.input, exchange.output), before))
    at_capture = "memory changed during capture, so the communication ran immediately and is not in the graph"
    try:
        # Replay even after an error, because the ranks without an error wait for this rank in the replay.
        return first_error([None if unchanged else at_capture, _replay(trial, exchange, graph)])
    finally:
        graph.reset()


def _replay(trial: Trial, exchange: Exchange, graph: Graph) -> str | None:
    errors = []
    for salt in range(1, REPLAYS + 1):
        copy = _write_replay_and_copy(trial, exchange, graph, salt)
        trial.streams.synchronize()
        error = trial.find_error(copy, salt)
        errors.append(f"replay {salt}: {error}" if error else None)
    caller, (_, _, other) = trial.streams.current_stream(), trial.rig.side_streams
    other.wait_stream(caller)
    with trial.streams.stream(other):
        copy = _write_replay_and_copy(trial, exchange, graph, REPLAYS + 1)
    caller.wait_stream(other)
    trial.streams.synchronize()
    error = trial.find_error(copy, REPLAYS + 1)
    return first_error([*errors, f"replay on another stream: {error}" if error else None])


def _write_replay_and_copy(trial: Trial, exchange: Exchange, graph: Graph, salt: int) -> Tensor:
    """Enqueue a slow kernel, a write of a new input, the replay, and a copy of the output. Return the copy."""
    written = exchange.make_input(salt)
    copy = torch.empty_like(exchange.output)
    trial.streams.synchronize()
    trial.rig.control.barrier()
    trial.run_slow_kernel()
    trial.streams.submit(exchange.input.copy_, written)
    graph.replay()
    trial.streams.submit(copy.copy_, exchange.output)
    return copy
