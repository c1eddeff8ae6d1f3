"""``nccl-bench run``: it turns options into a configuration, and starts or joins the ranks."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from nccl_bench.catalog.devices import DEVICES
from nccl_bench.cli.command import spellings
from nccl_bench.cli.completion import offer
from nccl_bench.cli.gate import parse_fail_on, refuse_gate_of_one_arm
from nccl_bench.cli.launching import (
    choose_device,
    default_ranks,
    refuse_failing_imports,
    refuse_missing,
    warn_of_short_limit,
)
from nccl_bench.cli.messages import print_message
from nccl_bench.cli.model_option import with_workload, write_workload
from nccl_bench.cli.options import (
    AllowRecordedCode,
    FailOnText,
    FormatOption,
    Full,
    Nproc,
    Quiet,
    Resume,
    Width,
    check_resume,
    detail_of,
    layer_of,
    out_option,
    refuse_without_resume,
    with_options,
)
from nccl_bench.cli.output import OutputConfig
from nccl_bench.cli.sweep_options import changed_sizes
from nccl_bench.config.limits import read_tables
from nccl_bench.config.options import Panel
from nccl_bench.config.presets import preset_file, presets
from nccl_bench.config.run import RunConfig, read_run_config, resolve
from nccl_bench.config.scenarios import default_sweep
from nccl_bench.errors import UsageError
from nccl_bench.report import Format

_sweep_option = partial(typer.Option, rich_help_panel=Panel.SWEEP)
_launch_option = partial(typer.Option, rich_help_panel=Panel.LAUNCH)


@with_options(RunConfig)
def run(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Argument(help="A TOML file of options, for example configs/quick.toml.")
    ] = None,
    preset: Annotated[
        str | None,
        _sweep_option(
            help="Options or a model that come with nccl-bench; nccl-bench list presets shows them. Default: none.",
            autocompletion=offer(presets),
        ),
    ] = None,
    model: Annotated[
        str | None,
        _sweep_option(
            metavar="KEY=VALUE,...",
            help="The shape of a model, whose messages are measured: hidden=7168,layers=61,tokens=1:512:x2. With the "
            "preset of a model, these values replace those of the preset. See nccl-bench guide models. Default: none.",
        ),
    ] = None,
    begin: Annotated[str | None, _sweep_option("-b", "--begin", help="The smallest message size.")] = None,
    end: Annotated[str | None, _sweep_option("-e", "--end", help="The largest message size.")] = None,
    factor: Annotated[int | None, _sweep_option("-f", "--factor", help="The factor from one size to the next.")] = None,
    step: Annotated[str | None, _sweep_option("-i", "--step", help="The difference from one size to the next.")] = None,
    nproc: Nproc = None,
    nnodes: Annotated[int, _launch_option(help="The number of nodes.")] = 1,
    node_rank: Annotated[int, _launch_option(help="The number of this node, from 0.")] = 0,
    rdzv_endpoint: Annotated[str | None, _launch_option(help="HOST:PORT where the nodes connect.")] = None,
    launch: Annotated[
        bool, _launch_option("--launch", help="Start ranks even under torchrun, srun or mpirun.")
    ] = False,
    attach: Annotated[bool, _launch_option("--attach", help="Join the ranks that another launcher started.")] = False,
    out: Annotated[Path | None, out_option("results/<time>-<name>")] = None,
    resume: Resume = None,
    allow_recorded_code: AllowRecordedCode = False,
    save_workload: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file for the messages of a model, to edit and to measure with run FILE. Default: no file.",
            rich_help_panel=Panel.OUTPUT,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the plan, its memory and its time; measure nothing.", rich_help_panel=Panel.OUTPUT
        ),
    ] = False,
    format: FormatOption = Format.TERMINAL,
    fail_on: FailOnText = None,
    width: Width = None,
    quiet: Quiet = False,
    full: Full = False,
    **options: Any,
) -> None:
    """Measure collectives over a sweep of message sizes, and compare the arms.

    Short options have the same meaning as in nccl-tests. Options on the command line override the TOML file, and the
    TOML file overrides the preset.
    """
    from nccl_bench.cli.attached_run import refuse_new_processes, run_attached
    from nccl_bench.cli.dry_run import show_plan
    from nccl_bench.cli.launched_run import run_launched
    from nccl_bench.launch.attach import choose_attachment, describe_only_rank
    from nccl_bench.launch.config import LaunchConfig
    from nccl_bench.launch.hardware import gpu_count
    from nccl_bench.launch.hidden_modules import refuse_hidden_packages

    if resume is not None:
        from nccl_bench.cli.resumed_run import resume_run

        check_resume(context, resume, "--format", "--fail-on", "--width", "--quiet", "--full")
        gates = parse_fail_on(fail_on)
        output = OutputConfig(format=format, fail_on=gates, width=width, detail=detail_of(quiet, full))
        resume_run(resume, output, layer_of(options), allow_recorded_code=allow_recorded_code)
        return
    refuse_without_resume(allow_recorded_code)
    files = [*([] if preset is None else [preset_file(preset)]), *([config] if config else [])]
    layers = [read_run_config(file) for file in files]
    if options["limits"] is not None:
        layers.append(read_tables(options.pop("limits")))
    layers.append(layer_of(options))
    gpus = gpu_count(os.environ)
    typed = spellings(context)
    device = choose_device(_last(layers, "device"), gpus, typed)
    if any(part is not None for part in (begin, end, factor, step)):
        if options["sizes"] is not None:
            raise UsageError("--sizes and -b, -e, -f, -i exclude each other: give --sizes alone, or leave --sizes out")
        written = _last(layers, "sizes") or default_sweep(DEVICES[device], _last(layers, "scenario"))
        layers.append({"sizes": changed_sizes(written, begin, end, factor, step, typed)})
    attachment = choose_attachment(os.environ, launch=launch, attach=attach, rdzv_endpoint=rdzv_endpoint)
    ranks = nproc if nproc is not None else default_ranks(DEVICES[device], gpus)
    world_size = ranks * nnodes if attachment is None else attachment.world_size
    resolved = resolve(device, *with_workload(layers, model, device, world_size), spellings=typed)
    gates = parse_fail_on(fail_on)
    refuse_gate_of_one_arm(resolved.arms, gates)
    if save_workload is not None and (node_rank if attachment is None else attachment.rank) == 0:
        write_workload(resolved.workload, save_workload)

    output = OutputConfig(out=out, format=format, fail_on=gates, width=width, detail=detail_of(quiet, full))
    refuse_hidden_packages()
    # On several nodes the ranks report a missing target. If one node refused it here, the other nodes would wait.
    alone = attachment is None and nnodes == 1
    if (alone or dry_run) and "PYTHONPATH" not in resolved.variables:
        refuse_missing(resolved.user_arms)
    if dry_run:
        refuse_failing_imports(resolved)
    if attachment is not None:
        warning = None if attach else describe_only_rank(attachment)
        if warning:
            print_message(warning)
        if attachment.rank == 0 and "max_seconds" in typed:
            warn_of_short_limit(resolved, world_size)
        if not dry_run:
            run_attached(resolved, attachment, output)
        elif attachment.rank == 0:
            refuse_new_processes(resolved, attachment)
            ranks_per_node = attachment.local_world_size or attachment.world_size
            show_plan(resolved, world_size, ranks_per_node, gpus, output)
        return
    if DEVICES[device].has_gpus and 0 < gpus < ranks:
        raise UsageError(f"--nproc is {ranks}, and this node has {gpus} GPUs, one for each rank: give at most {gpus}")
    launching = LaunchConfig(nproc=ranks, nnodes=nnodes, node_rank=node_rank, rdzv_endpoint=rdzv_endpoint)
    if node_rank == 0 and "max_seconds" in typed:
        warn_of_short_limit(resolved, world_size)
    if dry_run:
        show_plan(resolved, world_size, ranks, gpus, output if node_rank == 0 else None)
    else:
        run_launched(resolved, launching, output)


def _last(layers: Sequence[Mapping[str, object]], key: str) -> object:
    """Return the value of ``key`` in the last layer that has a value, else ``None``."""
    return next((layer[key] for layer in reversed(layers) if layer.get(key) is not None), None)
