"""The probe of CUDA graphs: capture."""

from __future__ import annotations

import torch
from torch import Tensor

from nccl_bench.streams.base import Graph
from nccl_bench.verify.exchanges import Exchange
from nccl_bench.verify.rig import Rig, Trial, first_of

REPLAYS = 3


def capture(rig: Rig) -> None:
    """Is the communication in the graph, all of it, and in order with what surrounds a replay?"""
    rig.each(_capture, rig.exchanges())


def _capture(trial: Trial) -> str | None:
    exchange = trial.start(salt=0)
    before = [exchange.x.clone(), exchange.y.clone()]
    trial.streams.synchronize()
    graph = trial.rig.arm.capture(trial.call)
    trial.streams.synchronize()
    done = not all(map(torch.equal, (exchange.x, exchange.y), before))
    at_capture = "memory changed at capture, so the communication was done there and is not in the graph"
    try:
        # Also where this rank has seen enough: the others may not have.
        return first_of([at_capture if done else None, _replay(trial, exchange, graph)])
    finally:
        graph.reset()


def _replay(trial: Trial, exchange: Exchange, graph: Graph) -> str | None:
    seen = []
    for salt in range(1, REPLAYS + 1):
        copy = _around(trial, exchange, graph, salt)
        trial.streams.synchronize()
        wrong = exchange.wrong(copy, salt)
        seen.append(f"replay {salt}: {wrong}" if wrong else None)
    caller, (_, _, other) = trial.streams.current_stream(), trial.rig.side_streams
    other.wait_stream(caller)
    with trial.streams.stream(other):
        copy = _around(trial, exchange, graph, REPLAYS + 1)
    caller.wait_stream(other)
    trial.streams.synchronize()
    wrong = exchange.wrong(copy, REPLAYS + 1)
    return first_of([*seen, f"replay on another stream: {wrong}" if wrong else None])


def _around(trial: Trial, exchange: Exchange, graph: Graph, salt: int) -> Tensor:
    """A slow kernel, the write of a fresh input, the replay and a copy of the output, all on the current stream."""
    written = exchange.fresh(salt)
    copy = torch.empty_like(exchange.y)
    trial.streams.synchronize()
    trial.rig.control.barrier()
    trial.slow_kernel()
    trial.streams.submit(exchange.x.copy_, written)
    graph.replay()
    trial.streams.submit(copy.copy_, exchange.y)
    return copy
