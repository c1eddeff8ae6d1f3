"""A collective beside a matrix product: the calls of both together, of both in sequence, and of each alone.

Together, the caller forks, calls the collective, enqueues the product on its own stream, and joins, as an engine does.
Every such call joins, so its result is checked like the result of any other call.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import fmean
from typing import Any

from torch import Tensor

from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.cases import Case
from nccl_bench.communicators.protocol import Operation
from nccl_bench.streams.base import Streams

Keep = Callable[[object], object]


class Part(StrEnum):
    """The parts of an overlap. Each one is timed."""

    PRODUCT = "product"  # the product alone
    COLLECTIVE = "collective"  # the collective alone, ordered as the arm always orders it
    SEQUENCE = "sequence"  # the product, then the collective
    TOGETHER = "together"  # the collective beside the product


@dataclass(slots=True)
class Spans:
    """The times of single operations, from two events around each operation on its own stream."""

    streams: Streams  # the streams of this rank's device
    pairs: list[tuple[Any, Any]] = field(default_factory=list)  # the two events of each operation

    def around(self, operation: Operation, stream: Any) -> Operation:
        """Return ``operation`` between two new events on ``stream``."""
        start, end = self.streams.new_event(timing=True), self.streams.new_event(timing=True)
        self.pairs.append((start, end))

        def timed() -> object:
            start.record(stream)
            result = operation()
            end.record(stream)
            return result

        return timed

    def mean_us(self) -> float:
        """Return the mean over the calls; 0 without calls. The device must have passed all of them."""
        return fmean(start.elapsed_time(end) * 1e3 for start, end in self.pairs) if self.pairs else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapCalls:
    """A collective with ``product`` beside it. The caller's stream must be current when a call is made and bound."""

    streams: Streams  # the streams of this rank's device
    side: Any  # the caller's second stream, for communicators that run on the current stream
    name: str  # the sides of the product, as a text
    product: Operation  # enqueues the product on the current stream

    def bind(
        self, part: Part, arm: Arm, case: Case, x: Tensor, y: Tensor | None, keep: Keep | None = None
    ) -> Operation:
        """Return a call of ``part`` in which ``arm`` runs ``case`` from ``x`` to ``y``. See ``Arm.bind``."""
        match part:
            case Part.PRODUCT:
                return self.product
            case Part.COLLECTIVE:
                return arm.bind(case, x, y, keep)
            case Part.SEQUENCE:
                return _in_sequence(self.product, arm.bind(case, x, y, keep))
            case Part.TOGETHER:
                split = arm.split(case, x, y, self.side, keep)
                return _together(split.fork, split.call, self.product, split.join)

    def bind_timed(
        self, part: Part, arm: Arm, case: Case, x: Tensor, y: Tensor | None, of_product: Spans, of_collective: Spans
    ) -> Operation:
        """Return a call of ``part`` with events around the product and around the collective.

        For ``Part.TOGETHER``, the collective has no events if its library hides the stream on which it runs.
        """
        caller = self.streams.current_stream()
        product = of_product.around(self.product, caller)
        if part is Part.SEQUENCE:
            return _in_sequence(product, of_collective.around(arm.bind(case, x, y), caller))
        assert part is Part.TOGETHER
        split = arm.split(case, x, y, self.side)
        if split.stream is not None:
            split = replace(split, call=of_collective.around(split.call, split.stream))
        return _together(split.fork, split.call, product, split.join)


def _in_sequence(product: Operation, collective: Operation) -> Operation:
    def call() -> object:
        product()
        return collective()

    return call


def _together(fork: Operation, collective: Operation, product: Operation, join: Operation) -> Operation:
    def call() -> object:
        fork()
        # The result lives until the caller's stream has joined.
        result = collective()
        product()
        join()
        return result

    return call
