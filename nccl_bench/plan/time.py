"""The duration of a run and of a case: an estimate for the user, and the deadline after which a case counts as hung."""

from collections.abc import Callable

from nccl_bench.catalog.scenarios import SCENARIOS
from nccl_bench.config.run import RunConfig
from nccl_bench.plan.batches import BATCH_S
from nccl_bench.plan.cases import Plan, PlannedCase
from nccl_bench.plan.memory import FEWEST_SLOTS


def estimate_s(config: RunConfig, plan: Plan) -> tuple[float, float]:
    """Return estimates of a run's duration in seconds: with the smallest and the largest number of rounds.

    The estimates use nominal speeds of the device, so only the order of magnitude is right.
    """
    limit_s = max(least_s(config, plan), config.max_seconds)
    few_s = _rounds_s(config, plan, lambda _planned: config.rounds)
    many_s = _rounds_s(config, plan, lambda planned: most_rounds(config, planned))
    return min(few_s, limit_s), min(many_s, limit_s)


def least_s(config: RunConfig, plan: Plan) -> float:
    """Return an estimate of the seconds that the run takes even if its time is up at once."""
    return _rounds_s(config, plan, lambda _planned: config.min_rounds)


def _rounds_s(config: RunConfig, plan: Plan, rounds: Callable[[PlannedCase], int]) -> float:
    """Return an estimate of the run's seconds with this number of rounds of each case."""
    spec = config.device_spec
    launch_s = new_ranks_s(config) + sum(estimate_case_s(config, planned, rounds(planned)) for planned in plan.cases)
    # The first ranks need `setup_s` instead of `new_ranks_s`, because the agent imports torch before it starts them.
    return spec.setup_s - spec.new_ranks_s + config.launches * launch_s


def new_ranks_s(config: RunConfig) -> float:
    """Return an estimate of the seconds from the end of a launch until the ranks of the next one measure."""
    return config.device_spec.new_ranks_s + communicators_of(config) * config.device_spec.communicator_s


def communicators_of(config: RunConfig) -> int:
    """Return the number of communicators that the arms of a launch have."""
    return len(config.measured_arms) * (1 + SCENARIOS[config.scenario].second_communicators)


def most_rounds(config: RunConfig, planned: PlannedCase) -> int:
    """Return the upper limit of rounds: ``max_rounds`` if arms are compared, otherwise ``rounds``."""
    return config.max_rounds if planned.candidates(config.baseline) else config.rounds


def estimate_case_s(config: RunConfig, planned: PlannedCase, rounds: int) -> float:
    """Return an estimate of the seconds that ``rounds`` rounds of each timing take, without set-up."""
    spec = config.device_spec
    operation_s = spec.operation_s + planned.case.size_bytes / spec.bytes_per_s + planned.work.seconds
    operations = max(FEWEST_SLOTS, planned.work.operations or 0)
    batch_s = max(BATCH_S, operations * operation_s) + spec.batch_overhead_s
    batches = rounds + min(rounds, config.rounds) * planned.work.part_batches
    return len(planned.arms) * (len(planned.timings) * batches * batch_s + 2 * FEWEST_SLOTS * operation_s)


def deadline_s(config: RunConfig, planned: PlannedCase) -> float:
    """Return the seconds after which a case counts as hung: ``timeout_s`` plus twice the estimate."""
    return config.timeout_s + 2 * estimate_case_s(config, planned, most_rounds(config, planned))
