"""The probe ``many``, which checks two communicators on one stream."""

from collections.abc import Iterator
from functools import partial
from itertools import cycle

import torch
from torch import Tensor

from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.probes import Place
from nccl_bench.streams.base import Graph
from nccl_bench.verify.exchanges import Exchange
from nccl_bench.verify.rig import Rig, call, call_each

REPLAY_EVERY = 50
SMALL_PER_LARGE = 8
SALTS = 3


def many(rig: Rig) -> None:
    """Check that two communicators on one stream do not disturb each other in thousands of operations."""
    second = rig.make_arm()
    sequences = [_Sequence(rig, arm) for arm in (rig.arm, second)]
    for place in Place:
        rig.announce_trial(str(place))
        with rig.at_place(place):
            graphs = [sequence.capture() for sequence in sequences] if rig.device_spec.has_graphs else []
            for number in range(rig.device_spec.probe_operations):
                sequences[number % 2].operate(number // 2)
                if graphs and number % REPLAY_EVERY >= REPLAY_EVERY - 2:
                    sequences[number % 2].replay(graphs[number % 2])
            rig.device.streams.synchronize()
            for graph in graphs:
                graph.reset()
            for name, sequence in zip(("first", "second"), sequences, strict=True):
                rig.record(f"{place}, {name} communicator", sequence.take_error(), place)
    second.close()


class _Sequence:
    """The operations of one communicator. The device checks all results, so that no operation waits for the host."""

    def __init__(self, rig: Rig, arm: Arm) -> None:
        self._arm = arm
        self._streams = rig.device.streams
        small, large = rig.device_spec.probe_sizes
        self._exchanges = [*rig.exchanges([small]) * SMALL_PER_LARGE, *rig.exchanges([large])]
        self._in_graph = rig.exchanges([small])
        distinct = {id(exchange): exchange for exchange in (*self._exchanges, *self._in_graph)}
        self._trials = {key: _trials(exchange) for key, exchange in distinct.items()}
        self._rig = rig
        # Whether the result of each call since the last `take_error` was wrong, in the order of the calls.
        replays = rig.device_spec.probe_operations // REPLAY_EVERY + 1
        self._wrong = torch.zeros(
            rig.device_spec.probe_operations + replays * len(self._in_graph),
            dtype=torch.bool,
            device=rig.device.streams.device,
        )
        self._checked = 0
        self._streams.synchronize()

    def operate(self, number: int) -> None:
        """Enqueue operation ``number`` with a fresh input, then the check of the result."""
        exchange = self._exchanges[number % len(self._exchanges)]
        fresh, expected = next(self._trials[id(exchange)])
        self._streams.submit(exchange.input.copy_, fresh)
        call(self._arm, exchange)
        self._check(exchange.output, expected)

    def capture(self) -> Graph:
        """Return a graph with one small operation of each collective."""
        return self._arm.capture(partial(call_each, self._arm, self._in_graph))

    def replay(self, graph: Graph) -> None:
        """Enqueue a replay of ``graph`` with fresh inputs, then the checks of the results."""
        trials = [(exchange, *next(self._trials[id(exchange)])) for exchange in self._in_graph]
        for exchange, fresh, _ in trials:
            self._streams.submit(exchange.input.copy_, fresh)
        graph.replay()
        for exchange, _, expected in trials:
            self._check(exchange.output, expected)

    def _check(self, result: Tensor, expected: Tensor) -> None:
        self._streams.submit(_note_if_wrong, self._wrong[self._checked], result, expected)
        self._checked += 1

    def take_error(self) -> str | None:
        """Return a message about wrong calls since the last ``take_error``, or ``None``. The device must be idle."""
        checked, self._checked = self._checked, 0
        self._rig.checked += checked
        wrong = self._wrong[:checked].nonzero().flatten().tolist()
        self._wrong.zero_()
        self._streams.synchronize()
        if not wrong:
            return None
        return f"{len(wrong)} of its {checked} calls had a wrong result; the first of them is call {wrong[0] + 1}"


def _trials(exchange: Exchange) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield endless pairs of input and expected output. Successive pairs differ, so a skipped operation is noticed."""
    return cycle([(exchange.make_input(salt), exchange.make_expected(salt)) for salt in range(SALTS)])


def _note_if_wrong(wrong: Tensor, result: Tensor, expected: Tensor) -> None:
    wrong.copy_((result != expected).any())
