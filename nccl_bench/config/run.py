"""The configuration of a run: its options, and the rules that connect them. No torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from nccl_bench.catalog.arms import DEFAULT_ARMS, DEFAULT_BASELINE, twin_of
from nccl_bench.catalog.cases import Scenario
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.dtypes import DTYPE_ALIASES, DTYPES
from nccl_bench.catalog.memory import Memory, Register
from nccl_bench.catalog.scenarios import readers_of
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.buffers import parse_memory, parse_register, resolve_memory
from nccl_bench.config.common import CommonConfig, arms_option, refuse_unused_routes, timeout_option
from nccl_bench.config.limits import DEFAULT_THRESHOLD, Limits, limits_of, parse_tables, parse_threshold
from nccl_bench.config.options import (
    NO_SPELLINGS,
    Panel,
    listed,
    method_option,
    option,
    options_of,
    parse_options,
    refuse_unknown_keys,
)
from nccl_bench.config.parsers import (
    boolean,
    boolean_unless,
    choice,
    choices_option,
    integer,
    parse_timings,
    run_name,
    seconds,
    unparsed,
)
from nccl_bench.config.product import Shape, parse_product
from nccl_bench.config.question import COMPANION
from nccl_bench.config.rounds import (
    DEFAULT_MAX_ROUNDS,
    DEFAULT_MIN_ROUNDS,
    DEFAULT_ROUNDS,
    DEFAULT_ROUNDS_OF_LAUNCHES,
    settle_rounds,
)
from nccl_bench.config.run_arms import choose_arms, choose_baseline, timed_arms
from nccl_bench.config.scenarios import (
    DEFAULT_COLLECTIVE,
    default_collectives,
    default_sizes,
    delays_option,
    given_options,
    numbers_option,
    parse_streams,
    settle,
)
from nccl_bench.config.sizes import parse_sizes
from nccl_bench.config.toml import read_toml
from nccl_bench.config.user_arms import AFTER, BEFORE
from nccl_bench.config.variables import parse_variables
from nccl_bench.config.workload import (
    MOST_BYTES,
    Workload,
    parse_workload,
    refuse_options_beside_workload,
    workload_of,
)

_ROOTED = [name for name, row in COLLECTIVES.items() if row.rooted]


class CallerStream(StrEnum):
    """The stream on which all arms are called."""

    SIDE = "side"  # a stream other than the default stream
    DEFAULT = "default"  # the default stream of the device


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig(CommonConfig):
    """The parsed options of one run. All ranks use the same values."""

    arms: tuple[str, ...] = arms_option(
        timed_arms(),
        "the arms that need no extra package",
        f"{listed(DEFAULT_ARMS)}; with one user arm, {COMPANION} and that arm; with several, the user arms",
    )
    baseline: str = option(
        Panel.ARMS,
        "The arm with which the other arms are compared.",
        unparsed,
        choices=tuple(arm.name for arm in timed_arms()),
        default_text=f"{BEFORE}, if the arms {BEFORE} and {AFTER} are measured; with one user arm, {COMPANION}, or the "
        f"target if that is a built-in arm; else {DEFAULT_BASELINE}, or the first arm",
    )
    scenario: Scenario = option(
        Panel.SWEEP,
        f"The work around the collective: {listed(Scenario)}. See nccl-bench guide scenarios.",
        choice(Scenario),
        choices=tuple(Scenario),
        default="isolated",
    )
    workload: Workload | None = option(
        Panel.SWEEP,
        "A TOML file with the messages that a model sends, as nccl-bench trace --out writes it. The run "
        "measures only these messages, and reports the communication time of a step.",
        parse_workload,
        argument=Path,
        default_text="none; the options below decide what is measured",
    )
    # None in a scenario that does not read them.
    sizes: tuple[int, ...] | None = option(
        Panel.SWEEP,
        "Message sizes in bytes, as a sweep (8:1G:x2, 1M:8M:+1M) or a list (16K,512K,2M).",
        parse_sizes,
        default=lambda device: device.sizes,
        default_text=default_sizes(),
    )
    collectives: tuple[str, ...] = choices_option(
        Panel.SWEEP,
        COLLECTIVES,
        flag="--collective",
        default=DEFAULT_COLLECTIVE,
        default_text=default_collectives(),
    )
    dtypes: tuple[str, ...] = choices_option(
        Panel.SWEEP, DTYPES, DTYPE_ALIASES, short="-d", flag="--dtype", default=lambda device: device.dtype
    )
    redops: tuple[RedOp, ...] = choices_option(Panel.SWEEP, RedOp, short="-o", flag="--op", default="sum")
    # None: in every case each arm is called in a placement that it has.
    placements: tuple[Placement, ...] | None = choices_option(
        Panel.SWEEP, Placement, flag="--placement", default_text="each arm in a placement that it has, in-place first"
    )
    # These four too are None in a scenario that does not read them.
    hidden: tuple[int, ...] | None = numbers_option("hidden", "Elements of a token")
    tokens: tuple[int, ...] | None = numbers_option("tokens", "Numbers of tokens in a message")
    layers: tuple[int, ...] | None = numbers_option("layers", "Numbers of layers")
    delays: tuple[int, ...] | None = delays_option()
    # None: the product is chosen, or the scenario has none.
    product: Shape | None = option(
        Panel.SWEEP,
        "M,N,K: the matrix product beside the collective, M x K times K x N in bfloat16. Only with --scenario "
        f"{listed(readers_of('product'))}.",
        parse_product,
        default_text="one that takes about as long as the baseline's collective, measured for each size",
    )
    streams: tuple[int, ...] | None = option(
        Panel.SWEEP,
        "The numbers of streams of two communicators: 1, 2 or 1,2. Only with --scenario "
        f"{listed(readers_of('streams'))}.",
        parse_streams,
        default="1,2",
    )
    root: int = option(Panel.SWEEP, f"The root rank of {listed(_ROOTED)}.", integer(0), short="-r", default=0)
    timings: tuple[Timing, ...] = method_option(
        f"One or more of {listed(Timing)}, comma-separated; or all. See nccl-bench list timings.",
        parse_timings,
        flag="--timing",
        choices=(*Timing, "all"),
        several=True,
        default=lambda device: listed(timing for timing in Timing if timing not in device.missing_timings),
        default_text="all timings that the device has",
    )
    launches: int = method_option(
        "Measure everything in this many launches, each with new processes and new communicators, so that verdicts "
        "contain communicator variance. --max-seconds is for all launches together.",
        integer(1),
        default=1,
    )
    rounds: int = method_option(
        "The fewest rounds of each case in a launch. If there are several arms, more rounds follow until every ratio "
        "is precise enough for --threshold, or until --max-rounds or --max-seconds is reached.",
        integer(1),
        default_text=f"{DEFAULT_ROUNDS}, or {DEFAULT_ROUNDS_OF_LAUNCHES} if there are several launches",
    )
    min_rounds: int = method_option(
        "The fewest rounds of each case in a launch after --max-seconds.",
        integer(1),
        default_text=f"--rounds; {DEFAULT_MIN_ROUNDS} if --max-seconds is given and --rounds is not",
    )
    max_rounds: int = method_option(
        "The most rounds of each case in a launch.",
        integer(1),
        default_text=f"{DEFAULT_MAX_ROUNDS}, or --rounds if that is more",
    )
    max_seconds: float = method_option(
        "After this many seconds of the run, each remaining case gets only as many rounds as --min-rounds says.",
        seconds,
        default=lambda device: device.max_seconds,
    )
    threshold: float = method_option(
        "The smallest difference that matters, as a share of the baseline's time.",
        lambda name, value, _device: parse_threshold(value, name),
        argument=str,
        default=f"{DEFAULT_THRESHOLD:.0%}",
    )
    limits: tuple[Mapping[str, object], ...] = method_option(
        "A TOML file with thresholds by collective, timing and size, such as configs/limits.toml.",
        parse_tables,
        argument=Path,
        default=(),
    )
    ops_per_batch: int | None = method_option(
        "Operations per batch. Cases with blocks of different sizes can have fewer.",
        integer(1),
        short="-n",
        flag="--iters",
        default_text="chosen by a short measurement",
    )
    warmup: int = method_option(
        "Warm-up operations before the first measured batch.", integer(0), short="-w", default=5
    )
    check: bool = method_option(
        "Check the results: 1 for yes, 0 for no.", boolean, short="-c", argument=int, default=True, default_text="1"
    )
    per_iteration: bool = method_option(
        "Also time single operations, and report percentiles and the cost of this measurement.",
        boolean,
        short="-I",
        flag="--per-iteration/--no-per-iteration",
        default=False,
    )
    cost_split: bool = method_option(
        "Also measure each part of a call alone: the fetch of the stream, the fork, the library's call, and the join. "
        "Also count the nodes of the call's CUDA graph. Needs the timing enqueue.",
        boolean,
        flag="--cost-split/--no-cost-split",
        default=False,
    )
    tuning: bool = method_option(
        "Also report the kernel that NCCL ran for each size and arm: algorithm, protocol and channels, or the "
        "symmetric kernel or copy engine. The source is NCCL's log of untimed calls.",
        boolean_unless(lambda device: device.missing_tuning),
        flag="--tuning/--no-tuning",
        default=False,
    )
    profile: bool = method_option(
        "After all timed rounds, also record profiles with torch.profiler on rank 0: ten eager calls and ten calls in "
        "a CUDA graph, of each arm, at the smallest and the largest size. The files are in the run's directory.",
        boolean,
        flag="--profile/--no-profile",
        default=False,
    )
    nvtx: bool = method_option(
        "Mark each batch with an NVTX range that names the case, the timing and the arm, for a tool such as nsys. No "
        "timed part contains the cost of a range.",
        boolean_unless(lambda device: device.missing_nvtx),
        flag="--nvtx/--no-nvtx",
        default=False,
    )
    same_buffer: bool = method_option(
        "--same-buffer uses one buffer for all calls; --rotate uses several buffers, which together exceed the cache.",
        boolean,
        flag="--same-buffer/--rotate",
        default=False,
        default_text="--rotate",
    )
    memory: Memory = method_option(
        f"The allocator of the buffers: {listed(Memory)}. torch is torch's allocator as the environment configures it, "
        "expandable is torch's allocator with expandable segments, nccl is NCCL's allocator ncclMemAlloc (NCCL 2.19).",
        parse_memory,
        choices=tuple(Memory),
        default_text="torch; nccl with --register",
    )
    register: Register = method_option(
        f"How the buffers are registered with the communicators of this tool: {listed(Register)}. local is "
        "ncclCommRegister (NCCL 2.19), window is a symmetric window (NCCL 2.27).",
        parse_register,
        choices=tuple(Register),
        default="none",
    )
    caller_stream: CallerStream = method_option(
        f"The stream on which the arms are called: {listed(CallerStream)}. side is a stream other than the default "
        "stream.",
        choice(CallerStream),
        choices=tuple(CallerStream),
        default="side",
    )
    seed: int = method_option("Random seed for the order in which arms are measured.", integer(0), default=1)
    timeout_s: float = timeout_option(Panel.METHOD, "one case, in addition to twice its estimated time", 120.0)
    variables: Mapping[str, str] = option(
        Panel.LAUNCH,
        "An environment variable for all ranks, NAME=VALUE; use --arm for one arm only. Repeatable.",
        parse_variables,
        flag="--env",
        argument=list[str],
        default={},
    )
    name: str = option(
        Panel.OUTPUT,
        "The name of the run and of its directory.",
        run_name,
        default="run",
        default_text="run, or the name of the TOML file",
    )

    @property
    def measured_arms(self) -> tuple[str, ...]:
        """The arms and, if there are two or more, the twin of the baseline."""
        return self.arms if len(self.arms) == 1 else (*self.arms, twin_of(self.baseline))

    @property
    def thresholds(self) -> Limits:
        """The limits, with the threshold for all cases that no limit matches."""
        return limits_of({"limits": self.limits}, self.threshold, "the configuration")

    def to_mapping(self) -> dict[str, object]:
        """Return plain data from which ``resolve`` makes an equal configuration."""
        return asdict(self)


def read_run_config(path: Path) -> dict[str, object]:
    """Return the settings in a TOML file; raise ``UsageError`` if it is malformed or has unknown keys.

    A file with messages is a workload. Every other file has options, and can have a model.
    """
    values = read_toml(path, MOST_BYTES)
    if "messages" in values:
        return {"name": path.stem, "workload": workload_of(values, str(path))}
    refuse_unknown_keys(values, (*options_of(RunConfig), "model"), str(path))
    return {"name": path.stem, **values}


def resolve(device: str, *layers: Mapping[str, object], spellings: Mapping[str, str] = NO_SPELLINGS) -> RunConfig:
    """Return the configuration. Each option comes from the last of ``layers`` that has it, or else from its default.

    ``spellings`` has the options of the command line. Raises ``UsageError`` with the option, the value given and the
    values allowed.
    """
    values = parse_options(RunConfig, device, layers, spellings)
    values["arms"] = choose_arms(spellings.get("arms", "arms"), values["arms"], values["user_arms"], DEVICES[device])
    base = spellings.get("baseline", "baseline")
    values["baseline"] = choose_baseline(base, values["baseline"], values["arms"], values["user_arms"])
    settle(values, given_options(layers), options_of(RunConfig), spellings)
    if values["workload"] is not None:
        refuse_options_beside_workload(values, layers, options_of(RunConfig), spellings)
        values |= values["workload"].options
    values["memory"] = resolve_memory(values["memory"], values["register"])
    settle_rounds(values, layers)
    refuse_unused_routes(values["routes"], values["arms"])
    return RunConfig(**values)
