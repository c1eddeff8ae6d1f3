"""The time of a run and of a case: the estimate that is shown, and the deadline that is kept."""

from __future__ import annotations

from nccl_bench.config.run import RunConfig
from nccl_bench.plan.batches import BATCH_S
from nccl_bench.plan.cases import Plan, PlannedCase
from nccl_bench.plan.memory import FEWEST_SLOTS


def estimate_s(config: RunConfig, plan: Plan) -> tuple[float, float]:
    """Return about how long a run takes, seconds: with the fewest rounds, and with the most.

    The device's nominal speeds give orders of magnitude, not promises.
    """
    spec = config.device_spec
    least = most = spec.setup_s + len(config.measured_arms) * spec.communicator_s
    for planned in plan.cases:
        least += estimate_case_s(config, planned, len(plan.timings), config.rounds)
        most += estimate_case_s(config, planned, len(plan.timings), most_rounds(config, planned))
    return least, min(most, max(least, config.max_seconds))


def most_rounds(config: RunConfig, planned: PlannedCase) -> int:
    """Return the most rounds of a timing: more than the fewest only where arms are compared."""
    return config.max_rounds if planned.candidates(config.baseline) else config.rounds


def estimate_case_s(config: RunConfig, planned: PlannedCase, timings: int, rounds: int) -> float:
    """Return about how long one case takes with that many ``timings`` and ``rounds``, seconds, without set-up."""
    spec = config.device_spec
    operation_s = spec.operation_s + planned.case.size_bytes / spec.bytes_per_s
    batch_s = max(BATCH_S, FEWEST_SLOTS * operation_s) + spec.batch_overhead_s
    return len(planned.arms) * (timings * rounds * batch_s + 2 * FEWEST_SLOTS * operation_s)


def deadline_s(config: RunConfig, planned: PlannedCase, timings: int) -> float:
    """Return the seconds after which a case counts as hung: a generous estimate, and ``timeout_s`` more."""
    return config.timeout_s + 2 * estimate_case_s(config, planned, timings, most_rounds(config, planned))
