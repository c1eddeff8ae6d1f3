"""The work around the collective in each scenario: its cases, its memory and its time. Imports no torch."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.scenarios import SCENARIOS
from nccl_bench.config.product import product_bytes
from nccl_bench.config.run import RunConfig
from nccl_bench.config.sizes import MOST_BYTES
from nccl_bench.errors import UsageError

# The memory through which slots and weights rotate: more than the last-level cache (H200: 60 MB, B200: 126 MB).
ROTATED_BYTES = 256 * 1024**2
# The number of calls in a batch with a late rank. Each call takes at least the delay, so few calls are enough.
_SKEWED_CALLS = 8
# The largest values of tokens and of hidden elements in a chain.
LARGEST_TOKEN, _LARGEST_ELEMENT = 2, 3
# The number of slots of a second communicator. Its results are not checked, so few slots are enough.
SECOND_SLOTS = 4
# The matrices of a chosen product have at most this many bytes, or twice the bytes of the message if that is more.
_LEAST_PRODUCT_BYTES = 64 * 1024**2
# The number of batches in a round: the four parts of an overlap, and two of these parts a second time with more events.
_PART_BATCHES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A case of a scenario, without its collective and data type."""

    size_bytes: int  # the message size
    settings: Mapping[str, int] = field(default_factory=dict)  # fields of a case that only this scenario has


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkPlan:
    """The work around the collective of one case on one rank."""

    bytes: int = 0  # the memory of its tensors, without the slots of the collective
    seconds: float = 0.0  # the nominal time of the work around one operation
    operations: int | None = None  # the operations in a batch; None if the times of the pilots decide
    part_batches: int = 0  # the batches of an arm in a round of the parts; 0 if there are no parts


NO_WORK = WorkPlan()


def points_of(config: RunConfig, dtype: str, world_size: int) -> Iterator[Point]:
    """Yield the cases of the scenario of ``config``; raise ``UsageError`` if the ranks cannot share the work."""
    return _POINTS[config.scenario](config, dtype, world_size)


def unfit_for(scenario: Scenario, dtype: str, world_size: int) -> str | None:
    """Return why ``scenario`` cannot be measured with ``dtype`` on ``world_size`` ranks; ``None`` if it can."""
    spec = SCENARIOS[scenario]
    if spec.dtypes and dtype not in spec.dtypes:
        return f"the scenario {scenario} multiplies matrices of {', '.join(spec.dtypes)}"
    if spec.sums_products and largest_element(dtype, world_size) < 1:
        return f"with {world_size} ranks the results of the scenario {scenario} would not be exact"
    return None


def work_of(config: RunConfig, case: Case, world_size: int) -> WorkPlan:
    """Return the work around the collective of ``case``."""
    return _WORK[case.scenario](config, case, world_size)


def _isolated_points(config: RunConfig, _dtype: str, _world_size: int) -> Iterator[Point]:
    yield from (Point(size_bytes=size) for size in config.sizes or ())


def _chain_points(config: RunConfig, dtype: str, world_size: int) -> Iterator[Point]:
    for hidden, layers, tokens in product(config.hidden or (), config.layers or (), config.tokens or ()):
        # Each rank has the same even number of elements of a token: see `bench.scenarios.chain`.
        if hidden % (2 * world_size):
            raise UsageError(
                f"--hidden has {hidden}: {world_size} ranks share the elements of a token, so give a multiple of "
                f"{2 * world_size}"
            )
        size = tokens * hidden * DTYPES[dtype].itemsize
        if size > MOST_BYTES:
            raise UsageError(f"{tokens} tokens of {hidden} elements are {size} bytes: give fewer --tokens or --hidden")
        yield Point(size_bytes=size, settings={"hidden": hidden, "layers": layers})


def _skew_points(config: RunConfig, _dtype: str, world_size: int) -> Iterator[Point]:
    if world_size == 1:
        raise UsageError("the scenario skew has one late rank, for which other ranks wait: give --nproc 2 or more")
    for delay_us, size in product(config.delays or (), config.sizes or ()):
        yield Point(size_bytes=size, settings={"delay_us": delay_us})


def largest_element(dtype: str, world_size: int) -> int:
    """Return the largest hidden element for which all sums of a chain are exact; 0 if there is none."""
    # The sum over some of the ranks is at most the result times (world size + 1).
    return min(_LARGEST_ELEMENT, DTYPES[dtype].exact_integer // (LARGEST_TOKEN * (world_size + 1)))


def _no_work(_config: RunConfig, _case: Case, _world_size: int) -> WorkPlan:
    return NO_WORK


def _chain_work(config: RunConfig, case: Case, world_size: int) -> WorkPlan:
    assert case.hidden is not None
    assert case.tokens is not None
    spec = config.device_spec
    weight_bytes = weight_bytes_of(case, world_size)
    multiplications = case.tokens * case.hidden * case.hidden // world_size
    return WorkPlan(
        bytes=weights_of(config, case, world_size) * weight_bytes,
        seconds=weight_bytes / spec.memory_bytes_per_s + multiplications / spec.multiplications_per_s,
        operations=case.layers,
    )


def _skew_work(_config: RunConfig, case: Case, _world_size: int) -> WorkPlan:
    assert case.delay_us is not None
    return WorkPlan(seconds=case.delay_us / 1e6, operations=_SKEWED_CALLS)


def _contended_points(config: RunConfig, _dtype: str, _world_size: int) -> Iterator[Point]:
    # One stream comes first: a deadlock on two streams can end the measurements of an arm.
    for streams, size in product(config.streams or (), config.sizes or ()):
        yield Point(size_bytes=size, settings={"streams": streams})


def _contended_work(config: RunConfig, case: Case, world_size: int) -> WorkPlan:
    spec, row, itemsize = config.device_spec, case.row, DTYPES[case.dtype].itemsize
    elements = row.send_count(case.count, world_size) + row.receive_count(case.count, world_size)
    return WorkPlan(
        # In each placement: the slots of the second collective, its input and its expected output.
        bytes=len(row.placements) * (SECOND_SLOTS + 1) * elements * itemsize,
        seconds=spec.operation_s + case.size_bytes / spec.bytes_per_s,
    )


def _overlap_work(config: RunConfig, case: Case, _world_size: int) -> WorkPlan:
    spec = config.device_spec
    if config.product is None:
        return WorkPlan(
            bytes=max(_LEAST_PRODUCT_BYTES, 2 * case.size_bytes),
            # The product is chosen so that it takes as long as the collective.
            seconds=spec.operation_s + case.size_bytes / spec.bytes_per_s,
            part_batches=_PART_BATCHES,
        )
    m, n, k = config.product
    return WorkPlan(
        bytes=product_bytes(config.product),
        seconds=spec.operation_s + m * n * k / spec.multiplications_per_s,
        part_batches=_PART_BATCHES,
    )


def weight_bytes_of(case: Case, world_size: int) -> int:
    """Return the bytes of one rank's weights in a layer of a chain."""
    assert case.hidden is not None
    return case.hidden // world_size * case.hidden * DTYPES[case.dtype].itemsize


def weights_of(config: RunConfig, case: Case, world_size: int) -> int:
    """Return how many layers of a chain have weights of their own; later layers use these weights again."""
    assert case.layers is not None
    return 1 if config.same_buffer else min(case.layers, -(-ROTATED_BYTES // weight_bytes_of(case, world_size)))


_POINTS: Mapping[Scenario, Callable[[RunConfig, str, int], Iterator[Point]]] = {
    Scenario.ISOLATED: _isolated_points,
    Scenario.CHAIN: _chain_points,
    Scenario.SKEW: _skew_points,
    Scenario.OVERLAP: _isolated_points,
    Scenario.CONTENDED: _contended_points,
}
_WORK: Mapping[Scenario, Callable[[RunConfig, Case, int], WorkPlan]] = {
    Scenario.ISOLATED: _no_work,
    Scenario.CHAIN: _chain_work,
    Scenario.SKEW: _skew_work,
    Scenario.OVERLAP: _overlap_work,
    Scenario.CONTENDED: _contended_work,
}
