"""The table of scenarios: what each one measures, and which options of a run it reads."""

from collections.abc import Mapping
from dataclasses import dataclass

from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import RedOp
from nccl_bench.catalog.timings import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioSpec:
    """A row of the table of scenarios."""

    question: str  # what the scenario measures, in words
    # The names of the options that this scenario reads, without the options that every scenario reads.
    options: frozenset[str]
    unit: str = "call"  # the work that one time belongs to
    launch_entries: int = 0  # the most entries that the work around one operation takes in the device's launch queue
    timings: tuple[Timing, ...] = tuple(Timing)  # the timings that the scenario has
    has_bandwidth: bool = False  # True if a time is that of the collective alone, which has a bandwidth
    measures_stranded_memory: bool = False  # True if a run also measures the memory that calls strand
    collectives: tuple[str, ...] = ()  # the collectives that it can measure, the default first; empty: all
    redops: tuple[RedOp, ...] = ()  # the reductions that it can measure, the default first; empty: all
    dtypes: tuple[str, ...] = ()  # the data types that it can measure; empty: all
    default_collective: str | None = None  # the collective, if the user asks for none; None for the usual default
    default_sizes: str = "sizes"  # the field of a device that has the sizes, if the user gives none
    sums_products: bool = False  # True if the collective adds up matrix products, which must stay exact
    size_options: str = "--sizes"  # the options that decide the memory of a case, as the object of a sentence
    second_stream: bool = False  # True if the caller has a second stream
    second_communicators: bool = False  # True if each arm has a second communicator
    has_deadlocks: bool = False  # True if a hang is a deadlock, which is a result of the scenario


SCENARIOS: Mapping[Scenario, ScenarioSpec] = {
    Scenario.ISOLATED: ScenarioSpec(
        question="The time of a collective with no other work around it.",
        options=frozenset({"workload", "sizes", "ops_per_batch", "per_iteration", "cost_split"}),
        has_bandwidth=True,
        measures_stranded_memory=True,
    ),
    Scenario.CHAIN: ScenarioSpec(
        question="The time of a decoder layer: a matrix product, and an all_reduce of its result, which the next "
        "layer's product reads.",
        options=frozenset({"hidden", "tokens", "layers", "per_iteration"}),
        unit="layer",
        sums_products=True,
        size_options="--hidden or --tokens",
        launch_entries=2,  # cuBLAS can add up the parts of a product in a kernel of its own
        # A batch of `enqueue` would also time the calls of the products.
        timings=(Timing.EAGER, Timing.GATED, Timing.GRAPH),
        collectives=("all_reduce",),
        redops=(RedOp.SUM,),
        dtypes=("bfloat16", "float16", "float32", "float64"),
    ),
    Scenario.SKEW: ScenarioSpec(
        question="The time of a collective to which one rank comes late. The late rank's time is the transfer. The "
        "early ranks also wait.",
        options=frozenset({"sizes", "delays"}),
        default_sizes="few_sizes",
        launch_entries=6,  # the alignment, the delay and three events
        timings=(Timing.GATED,),
    ),
    Scenario.OVERLAP: ScenarioSpec(
        question="The time of a collective beside a matrix product, each on a stream of its own, from the fork to the "
        "join.",
        options=frozenset({"sizes", "product", "ops_per_batch", "per_iteration"}),
        launch_entries=6,  # a fork, a join, and a product in two kernels
        default_collective="all_gather",  # engines overlap the all_gather of context parallelism
        default_sizes="overlap_sizes",
        size_options="--sizes or a smaller --product",
        second_stream=True,
    ),
    Scenario.CONTENDED: ScenarioSpec(
        question="The time of two collectives of two communicators, one after the other on one stream, or at the "
        "same time on two.",
        options=frozenset({"sizes", "streams", "ops_per_batch", "per_iteration"}),
        default_sizes="few_sizes",
        launch_entries=9,  # a fork, a join, and the second collective with a fork and a join of its own
        second_stream=True,
        second_communicators=True,
        has_deadlocks=True,
    ),
}
# The options that not every scenario reads.
SCENARIO_OPTIONS: tuple[str, ...] = tuple(sorted({name for spec in SCENARIOS.values() for name in spec.options}))


def readers_of(option: str) -> tuple[Scenario, ...]:
    """Return the scenarios that read ``option``."""
    return tuple(scenario for scenario, spec in SCENARIOS.items() if option in spec.options)


def has_deadlocks(case: Case | None) -> bool:
    """Return whether a hang in ``case`` is a deadlock, which is a result; ``None`` stands for no case."""
    return case is not None and SCENARIOS[case.scenario].has_deadlocks


def hang_word(scenario: str | None) -> str:
    """Return the word for a case of ``scenario`` that does not end, as tables and messages show it."""
    return "DEADLOCK" if scenario is not None and SCENARIOS[Scenario(scenario)].has_deadlocks else "HANG"
