"""From a configuration to the cases of a run: what is measured, what is left out and why, and what it takes. No torch.

Every rank and the command line compute the same plan from the same configuration, so ``--dry-run`` shows what a worker
will do.
"""

from __future__ import annotations

from nccl_bench.config.run import RunConfig
from nccl_bench.plan.batches import BATCH_S
from nccl_bench.plan.cases import Plan, PlannedCase
from nccl_bench.plan.memory import FEWEST_SLOTS


def estimate_s(config: RunConfig, plan: Plan) -> tuple[float, float]:
    """About how long a run takes at least and at most, seconds: with the fewest rounds, and with all it may do.

    From nominal speeds of the device: orders of magnitude, not promises.
    """
    spec = config.device_spec
    least = most = spec.setup_s + len(config.measured_arms) * spec.communicator_s
    for planned in plan.cases:
        least += estimate_case_s(config, planned, len(plan.timings), config.rounds)
        most += estimate_case_s(config, planned, len(plan.timings), most_rounds(config, planned))
    return least, min(most, max(least, config.max_seconds))


def most_rounds(config: RunConfig, planned: PlannedCase) -> int:
    """The rounds that a timing of a case may have: more than the fewest only where arms are compared."""
    return config.max_rounds if planned.candidates(config.baseline) else config.rounds


def estimate_case_s(config: RunConfig, planned: PlannedCase, timings: int, rounds: int) -> float:
    """About how long one case of so many ``timings`` and ``rounds`` takes, set-up left out."""
    spec = config.device_spec
    operation_s = spec.operation_s + planned.case.size_bytes / spec.bytes_per_s
    batch_s = max(BATCH_S, FEWEST_SLOTS * operation_s) + spec.batch_overhead_s
    return len(planned.arms) * (timings * rounds * batch_s + 2 * FEWEST_SLOTS * operation_s)


def deadline_s(config: RunConfig, planned: PlannedCase, timings: int) -> float:
    """How long a case may take: ``timeout_s`` beyond a generous estimate, so that slow is not taken for stuck."""
    return config.timeout_s + 2 * estimate_case_s(config, planned, timings, most_rounds(config, planned))
