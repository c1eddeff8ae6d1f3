"""The scenario ``overlap``: a collective on a second stream beside a matrix product on the caller's stream.

Each arm gets a second stream if it needs one, see ``Arm.split``. The user can give the shape of the product. Without a
shape, the product takes about as long as the collective of the baseline, so that the product could hide all of the
collective.
"""

from collections.abc import Callable, Sequence

from nccl_bench.arms.arm import Arm
from nccl_bench.bench.buffers import CaseBuffers
from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.scenarios.overlap_calls import OverlapCalls, Part
from nccl_bench.bench.scenarios.overlap_parts import measure_parts
from nccl_bench.bench.scenarios.product import product, shape_that_takes
from nccl_bench.bench.scenarios.work import Keep, Surroundings, Work
from nccl_bench.bench.schedule import FEWEST_OPS, Schedule
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.communicators.protocol import Operation
from nccl_bench.config.product import Shape, product_name
from nccl_bench.records.scenario_times import PartTimes

# The product in calls that are made before a shape is chosen.
_SMALL: Shape = (64, 64, 64)


class OverlapWork(Work):
    """A matrix product beside the collective of each call."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.plan = surroundings.plan
        self.clock = surroundings.clock
        self._streams = surroundings.streams
        self._side = surroundings.side
        self._given = surroundings.config.product
        self._label, self._products = surroundings.case.label, surroundings.products
        self._overlap = self._with_product(self._given or _SMALL)

    def prepare(self, context: CaseContext, names: Sequence[str]) -> None:
        """Choose the shape of the product, unless the user or an earlier launch has chosen it. Collective."""
        if self._given is not None:
            return
        known = context.control.broadcast(self._products.get(self._label))
        if known is None:
            baseline = context.config.baseline
            arm = baseline if baseline in names else names[0]
            # These batches have no product beside the collective.
            collective_us = self._time_us(context, arm, lambda: self._collective(context, arm))
            shape = shape_that_takes(
                collective_us,
                lambda tried: self._time_us(context, arm, lambda: [product(tried, self._streams)] * FEWEST_OPS),
                self.plan.bytes,
            )
            known = list(shape)
        # The profiles after all cases, and the later launches, use the same product.
        self._products[self._label] = known
        m, n, k = known
        self._overlap = self._with_product((m, n, k))

    def calls(self, arm: Arm, case: Case, buffers: CaseBuffers, operations: int, keep: Keep = None) -> list[Operation]:
        pairs = [buffers.pair(slot, case.placement) for slot in range(min(operations, buffers.slots))]
        bound = [self._overlap.bind(Part.TOGETHER, arm, case, *pair, keep) for pair in pairs]
        return [bound[index % len(bound)] for index in range(operations)]

    def measure_parts(
        self, context: CaseContext, names: Sequence[str], timing: Timing, schedule: Schedule
    ) -> dict[str, PartTimes]:
        return measure_parts(context, self._overlap, names, timing, schedule)

    def _with_product(self, shape: Shape) -> OverlapCalls:
        return OverlapCalls(
            streams=self._streams, side=self._side, name=product_name(shape), product=product(shape, self._streams)
        )

    def _collective(self, context: CaseContext, arm: str) -> list[Operation]:
        case = context.case_of(arm)
        pairs = [context.buffers.pair(slot, case.placement) for slot in range(FEWEST_OPS)]
        return [self._overlap.bind(Part.COLLECTIVE, context.arms[arm], case, *pair) for pair in pairs]

    def _time_us(self, context: CaseContext, arm: str, make_calls: Callable[[], list[Operation]]) -> float:
        """Return the time of a call in the processes of ``arm``, on the slowest rank. Collective."""
        time_us = 0.0
        for _ in context.arms.visit([arm], "choice of a product"):
            calls = make_calls()
            context.restore(FEWEST_OPS)
            # The first batch warms up.
            time_us = min([context.clock.eager(calls).time_us for _ in range(3)][1:])
        return max(context.control.maximum([time_us])[0], 1e-3)
