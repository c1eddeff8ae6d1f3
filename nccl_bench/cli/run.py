"""``nccl-bench run``: from options to a configuration, then to the ranks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from nccl_bench.catalog.arms import ARMS, DEFAULT_ARMS, DEFAULT_BASELINE
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.timings import Timing
from nccl_bench.cli.gate import FailOn, Format, parse_fail_on
from nccl_bench.config.limits import read_tables
from nccl_bench.config.run import DEFAULT_MAX_ROUNDS, CallerStream, Register, defaults, read_toml, resolve
from nccl_bench.config.sizes import parse_size, sweep
from nccl_bench.config.user_arms import ARM_HELP, parse
from nccl_bench.errors import UsageError


def _choices(names: Iterable[str]) -> str:
    return ", ".join(str(name) for name in names)


def _default(key: str) -> str:
    """The default of ``key`` as the help shows it."""
    values = {device: str(defaults(device)[key]) for device in DEVICES}
    if len(set(values.values())) == 1:
        return f"Default: {values['cuda']}."
    return f"Default: {values['cuda']}; CPU: {values['cpu']}."


_SWEEP, _MEASURE, _LAUNCH, _OUTPUT = "What to measure", "How to measure", "Launching", "Output"
# A laptop without a GPU: enough for every collective to be one, and no more than any machine has.
DEFAULT_CPU_RANKS = 2
_SWEPT = re.compile(r"([^:]+):([^:]+):\s*(x(?=\d{1,999}\s*$)|\+)([^:]+)")
_TIMED = [name for name, arm in ARMS.items() if arm.timed]


def run(
    config: Annotated[
        Path | None, typer.Argument(help="A TOML file of options, for example configs/quick.toml.")
    ] = None,
    begin: Annotated[
        str | None, typer.Option("-b", "--begin", help="Smallest message size.", rich_help_panel=_SWEEP)
    ] = None,
    end: Annotated[
        str | None,
        typer.Option("-e", "--end", help="Largest message size.", rich_help_panel=_SWEEP),
    ] = None,
    factor: Annotated[
        int | None,
        typer.Option("-f", "--factor", help="From size to size, times this.", rich_help_panel=_SWEEP),
    ] = None,
    step: Annotated[
        str | None, typer.Option("-i", "--step", help="From size to size, plus this.", rich_help_panel=_SWEEP)
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(help=f"All at once: 1M:8M:+1M, or 16K,512K,2M. {_default('sizes')}", rich_help_panel=_SWEEP),
    ] = None,
    collective: Annotated[
        str | None,
        typer.Option(help=f"Of {_choices(COLLECTIVES)}; or all. {_default('collectives')}", rich_help_panel=_SWEEP),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "-d", "--dtype", help=f"Of {_choices(DTYPES)}; or all. {_default('dtypes')}", rich_help_panel=_SWEEP
        ),
    ] = None,
    op: Annotated[
        str | None,
        typer.Option("-o", "--op", help=f"Of {_choices(RedOp)}; or all. {_default('redops')}", rich_help_panel=_SWEEP),
    ] = None,
    placement: Annotated[
        str | None,
        typer.Option(help=f"Of {_choices(Placement)}; or all. {_default('placements')}", rich_help_panel=_SWEEP),
    ] = None,
    root: Annotated[
        int | None,
        typer.Option("-r", "--root", help=f"Root of broadcast and reduce. {_default('root')}", rich_help_panel=_SWEEP),
    ] = None,
    arms: Annotated[
        str | None,
        typer.Option(help=f"Of {_choices(_TIMED)}. Default: {_choices(DEFAULT_ARMS)}.", rich_help_panel=_SWEEP),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{ARM_HELP} Repeatable.",
            rich_help_panel=_SWEEP,
        ),
    ] = None,
    before_tree: Annotated[
        str | None,
        typer.Option(help="A source tree: the arm `before` is --arm TARGET taken from it.", rich_help_panel=_SWEEP),
    ] = None,
    after_tree: Annotated[
        str | None, typer.Option(help="Another one, for the arm `after`.", rich_help_panel=_SWEEP)
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help=f"The arm that the ratios compare with. Default: {DEFAULT_BASELINE}.", rich_help_panel=_SWEEP
        ),
    ] = None,
    routes: Annotated[
        str | None,
        typer.Option(
            help="Overrides of the coordinator arms' routing table, [OPERATION.]MODE=BACKEND, comma-separated; "
            "see nccl-bench list.",
            rich_help_panel=_SWEEP,
        ),
    ] = None,
    timing: Annotated[
        str | None, typer.Option(help=f"Of {_choices(Timing)}. Default: all.", rich_help_panel=_MEASURE)
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            help="Fewest batches of every arm, case and timing; with several arms more follow until the ratios are "
            f"sure, see --threshold, --max-rounds, --max-seconds. {_default('rounds')}",
            rich_help_panel=_MEASURE,
        ),
    ] = None,
    max_rounds: Annotated[
        int | None,
        typer.Option(
            help=f"Most of them. Default: {DEFAULT_MAX_ROUNDS}, or --rounds where that is more.",
            rich_help_panel=_MEASURE,
        ),
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            help=f"Seconds of the whole run after which only the fewest rounds are done. {_default('max_seconds')}",
            rich_help_panel=_MEASURE,
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            help=f"The share of the baseline's time that matters in practice. {_default('threshold')}",
            rich_help_panel=_MEASURE,
        ),
    ] = None,
    limits: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file of thresholds by collective, timing and size, as configs/limits.toml.",
            rich_help_panel=_MEASURE,
        ),
    ] = None,
    iters: Annotated[
        int | None,
        typer.Option("-n", "--iters", help="Operations per batch. Default: by a pilot.", rich_help_panel=_MEASURE),
    ] = None,
    warmup: Annotated[
        int | None,
        typer.Option(
            "-w", "--warmup", help=f"Operations before timing. {_default('warmup')}", rich_help_panel=_MEASURE
        ),
    ] = None,
    check: Annotated[
        int | None, typer.Option("-c", "--check", help="Check results: 1 or 0. Default: 1.", rich_help_panel=_MEASURE)
    ] = None,
    per_iteration: Annotated[
        bool | None,
        typer.Option(
            "-I",
            "--per-iteration/--no-per-iteration",
            help="Percentiles of single operations too; what that costs is shown.",
            rich_help_panel=_MEASURE,
        ),
    ] = None,
    same_buffer: Annotated[
        bool | None,
        typer.Option(
            "--same-buffer/--rotate",
            help="One buffer for all calls, or an arena larger than the cache.",
            rich_help_panel=_MEASURE,
        ),
    ] = None,
    register: Annotated[
        str | None,
        typer.Option(
            help=f"The buffers, of {_choices(Register)}: torch's memory; or NCCL's (ncclMemAlloc), registered with "
            "each of our arms' communicators by ncclCommRegister (NCCL 2.19) or as a symmetric window (2.27). "
            f"{_default('register')}",
            rich_help_panel=_MEASURE,
        ),
    ] = None,
    caller_stream: Annotated[
        str | None,
        typer.Option(
            help=f"Stream the arms are called on: {_choices(CallerStream)}. {_default('caller_stream')}",
            rich_help_panel=_MEASURE,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help=f"Of the order in which arms are visited. {_default('seed')}", rich_help_panel=_MEASURE),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "-T", "--timeout", help=f"Seconds one case may take. {_default('timeout_s')}", rich_help_panel=_MEASURE
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help=f"Of {_choices(DEVICES)}. Default: what the machine has.", rich_help_panel=_LAUNCH),
    ] = None,
    nccl_library: Annotated[
        str | None, typer.Option(help="A libnccl.so to use instead of torch's.", rich_help_panel=_LAUNCH)
    ] = None,
    transport: Annotated[
        str | None,
        typer.Option(
            help=f"The binding that our arms call NCCL through: {_choices(DEVICES['cuda'].bindings)}.",
            rich_help_panel=_LAUNCH,
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=VALUE, for the ranks' environment; see --arm for one arm's alone. Repeatable.",
            rich_help_panel=_LAUNCH,
        ),
    ] = None,
    nproc: Annotated[
        int | None, typer.Option(help="Ranks on this node. Default: its GPUs; CPU: 2.", rich_help_panel=_LAUNCH)
    ] = None,
    nnodes: Annotated[int, typer.Option(help="Nodes.", rich_help_panel=_LAUNCH)] = 1,
    node_rank: Annotated[int, typer.Option(help="Which of the nodes this is.", rich_help_panel=_LAUNCH)] = 0,
    rdzv_endpoint: Annotated[
        str | None, typer.Option(help="HOST:PORT where the nodes meet.", rich_help_panel=_LAUNCH)
    ] = None,
    launch: Annotated[
        bool,
        typer.Option("--launch", help="Launch ranks even under torchrun, srun or mpirun.", rich_help_panel=_LAUNCH),
    ] = False,
    attach: Annotated[
        bool, typer.Option("--attach", help="Be one of the ranks that somebody launched.", rich_help_panel=_LAUNCH)
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Name of the run, and of its directory.", rich_help_panel=_OUTPUT)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory. Default: results/<time>-<name>.", rich_help_panel=_OUTPUT)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan, its memory and its time.", rich_help_panel=_OUTPUT)
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON instead of tables.", rich_help_panel=_OUTPUT)
    ] = False,
    format: Annotated[
        Format | None,
        typer.Option("--format", help="How to print it; markdown is for a pull request.", rich_help_panel=_OUTPUT),
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(
            help=f"Of {_choices(FailOn)}: verdicts that set the exit code. Wrong results always count.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="Columns of the tables. Default: the terminal's.", rich_help_panel=_OUTPUT)
    ] = None,
) -> None:
    """Sweep collectives over message sizes, arm against arm, and print the tables.

    Short options mean what they mean in nccl-tests. Options override the TOML file.
    """
    from nccl_bench.cli.session import Output, refuse_missing, run_attached, run_launched, show_plan
    from nccl_bench.launch.attach import choose_attachment
    from nccl_bench.launch.hardware import gpu_count
    from nccl_bench.launch.torchrun import LaunchConfig

    layers = [read_toml(config)] if config else []
    layers.append(
        {
            "name": name,
            "collectives": collective,
            "sizes": sizes,
            "dtypes": dtype,
            "redops": op,
            "placements": placement,
            "root": root,
            "arms": arms,
            "user_arms": parse(arm or (), before_tree, after_tree) or None,
            "baseline": baseline,
            "routes": routes,
            "timings": timing,
            "rounds": rounds,
            "max_rounds": max_rounds,
            "max_seconds": max_seconds,
            "threshold": threshold,
            "ops_per_batch": iters,
            "warmup": warmup,
            "check": check,
            "per_iteration": per_iteration,
            "same_buffer": same_buffer,
            "register": register,
            "caller_stream": caller_stream,
            "seed": seed,
            "timeout_s": timeout,
            "nccl_library": nccl_library,
            "transport": transport,
            "variables": _variables(env),
        }
    )
    if limits is not None:
        layers.insert(-1, read_tables(limits))
    gpus = gpu_count(os.environ)
    from_file = next((layer["device"] for layer in layers if "device" in layer), None)
    chosen = choose_device(from_file if device is None else device, gpus)
    if any(value is not None for value in (begin, end, factor, step)):
        if sizes is not None:
            raise UsageError("--sizes and -b, -e, -f, -i exclude each other: give one or the others")
        written = next((layer["sizes"] for layer in layers if layer.get("sizes") is not None), DEVICES[chosen].sizes)
        layers.append({"sizes": _sweep(written, begin, end, factor, step)})
    resolved = resolve(chosen, *layers)
    gates = parse_fail_on(fail_on)
    if len(resolved.arms) == 1 and {FailOn.SLOWER, FailOn.INCONCLUSIVE} & set(gates):
        raise UsageError(f"--fail-on is {fail_on!r}, and a run of one arm compares nothing: give it a second arm")

    attachment = choose_attachment(os.environ, launch=launch, attach=attach, rdzv_endpoint=rdzv_endpoint)
    output = Output(out=out, json=json, format=format, fail_on=gates, width=width)
    # On several nodes, or as one rank of several, what is missing here alone is for a deadline to end: the others wait.
    alone = attachment is None and nnodes == 1
    if (alone or dry_run) and "PYTHONPATH" not in resolved.variables:
        refuse_missing(resolved.user_arms)
    if attachment is not None:
        if not dry_run:
            run_attached(resolved, attachment, output)
        elif attachment.rank == 0:
            show_plan(resolved, attachment.world_size, attachment.local_world_size or attachment.world_size)
        return
    ranks = nproc if nproc is not None else DEFAULT_CPU_RANKS if chosen == "cpu" else gpus or 1
    if chosen == "cuda" and 0 < gpus < ranks:
        raise UsageError(f"--nproc is {ranks}, and this node has {gpus} GPUs: NCCL wants one for each rank")
    launching = LaunchConfig(nproc=ranks, nnodes=nnodes, node_rank=node_rank, rdzv_endpoint=rdzv_endpoint)
    if dry_run:
        show_plan(resolved, ranks * nnodes, ranks)
    else:
        run_launched(resolved, launching, output)


def _variables(env: list[str] | None) -> dict[str, str] | None:
    if env is None:
        return None
    pairs = [text.partition("=") for text in env]
    for name, equals, _ in pairs:
        if not equals:
            raise UsageError(f"--env is {name!r}: give NAME=VALUE")
    return {name: value for name, _, value in pairs}


def choose_device(wanted: object, gpus: int) -> str:
    """The device wanted, or else what a machine with so many ``gpus`` has."""
    if wanted is None:
        return "cuda" if gpus else "cpu"
    if wanted not in list(DEVICES):
        raise UsageError(f"the device is {wanted!r}: allowed are {_choices(DEVICES)}")
    return str(wanted)


def _sweep(
    written: object, begin: str | None, end: str | None, factor: int | None, step: str | None
) -> tuple[int, ...]:
    """The sweep ``written`` in the file, or else the default one, with the parts given in place of its own."""
    if factor is not None and step is not None:
        raise UsageError("-f and -i exclude each other: give a factor or a step")
    parts = _SWEPT.fullmatch(written) if isinstance(written, str) else None
    if parts is None:
        raise UsageError(
            f"the file's sizes are {written!r}, and not BEGIN:END:xFACTOR or BEGIN:END:+STEP, of which -b, -e, -f and "
            "-i would change a part: use --sizes"
        )
    first, last, kind, stride = parts.groups()
    if factor is None and step is None:
        factor, step = (int(stride), None) if kind == "x" else (None, stride)
    return sweep(
        parse_size(first if begin is None else begin),
        parse_size(last if end is None else end),
        factor=factor,
        step=None if step is None else parse_size(step),
    )
