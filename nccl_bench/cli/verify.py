"""``nccl-bench verify``: the proof that a communicator keeps stream order."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nccl_bench import __version__
from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.probes import DETECTOR, PROBES
from nccl_bench.cli.run import DEFAULT_CPU_RANKS, choose_device
from nccl_bench.config.user_arms import ARM_HELP, parse
from nccl_bench.errors import ExitCode, InterruptedRunError, RecordError, UsageError

if TYPE_CHECKING:
    from nccl_bench.cli.session import Output
    from nccl_bench.config.verification import VerifyConfig
    from nccl_bench.launch.torchrun import LaunchConfig

WORKER = "nccl_bench.verify.worker"
# A proof without a peer would prove nothing: one rank's collective is a copy, or nothing at all.
FEWEST_RANKS = 2
DEFAULT_TIMEOUT_S = 60.0


def _choices(names: Iterable[str]) -> str:
    return ", ".join(names)


def verify(
    arms: Annotated[
        str | None,
        typer.Option(
            help=f"Of {_choices(arm for arm in ARMS if arm != DETECTOR)}. Default: all that need nothing installed."
        ),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{ARM_HELP} Repeatable.",
        ),
    ] = None,
    before_tree: Annotated[
        str | None,
        typer.Option(
            help="A source tree: the arm `before` is --arm TARGET taken from it.",
        ),
    ] = None,
    after_tree: Annotated[
        str | None,
        typer.Option(
            help="Another one, for the arm `after`.",
        ),
    ] = None,
    probes: Annotated[str | None, typer.Option(help=f"Of {_choices(PROBES)}. Default: all.")] = None,
    routes: Annotated[
        str | None,
        typer.Option(
            help="Overrides of the coordinator arms' routing table, [OPERATION.]MODE=BACKEND, comma-separated; see "
            "nccl-bench list."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help=f"Of {_choices(DEVICES)}. Default: what the machine has.")] = None,
    nproc: Annotated[
        int | None,
        typer.Option(help="Ranks, all on this node, 2 or more; more than GPUs share them. Default: its GPUs, or 2."),
    ] = None,
    nccl_library: Annotated[str | None, typer.Option(help="A libnccl.so to use instead of torch's.")] = None,
    transport: Annotated[
        str | None,
        typer.Option(help=f"The binding that our arms call NCCL through: {_choices(DEVICES['cuda'].bindings)}."),
    ] = None,
    timeout: Annotated[
        float, typer.Option("-T", "--timeout", help="Seconds one probe of one arm may take; later it failed.")
    ] = DEFAULT_TIMEOUT_S,
    out: Annotated[Path | None, typer.Option(help="Write the JSON to this new file too, whatever is printed.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    width: Annotated[int | None, typer.Option(help="Columns of the table. Default: the terminal's.")] = None,
) -> None:
    """Prove that every arm keeps stream order, and that the proof can see when one does not.

    An arm that nothing orders takes part in every proof and has to fail; its failure shows as `caught`. Exit code 5: a
    probe failed; 3: an arm of yours cannot be made; 9: the unordered arm was not caught, so nothing is proven.
    """
    from nccl_bench.cli.session import Output, refuse_missing
    from nccl_bench.config.verification import resolve
    from nccl_bench.launch.attach import detect_launcher
    from nccl_bench.launch.hardware import gpu_count
    from nccl_bench.launch.torchrun import LaunchConfig
    from nccl_bench.report.verification import NARROWEST

    gpus = gpu_count(os.environ)
    config = resolve(
        choose_device(device, gpus),
        arms=arms,
        user_arms=parse(arm or (), before_tree, after_tree),
        probes=probes,
        routes=routes,
        nccl_library=nccl_library,
        transport=transport,
        timeout_s=timeout,
    )
    _refuse_nothing(config)
    refuse_missing(config.user_arms)
    if width is not None and width < NARROWEST:
        raise UsageError(f"--width is {width}: the table of a proof needs at least {NARROWEST}")
    output = Output(out=out, json=json, width=width)
    launcher = detect_launcher(os.environ)
    if launcher is not None:
        raise UsageError(
            f"{launcher} started this process as one rank of several, and a proof starts its own on one node, since a "
            "probe that fails may end them: run `nccl-bench verify` once, outside of it"
        )
    if config.device == "cuda" and not gpus and nproc is None:
        raise UsageError("this machine has no GPU that could be seen: with --device cpu any machine will do")
    ranks = nproc if nproc is not None else DEFAULT_CPU_RANKS if config.device == "cpu" else max(gpus, FEWEST_RANKS)
    if ranks < FEWEST_RANKS:
        raise UsageError(
            f"--nproc is {nproc}, and a proof needs at least {FEWEST_RANKS} ranks: one alone has nobody to wait for. "
            "Give more, or leave it out"
        )
    shared = min(gpus, ranks) if config.device == "cuda" and gpus else None
    code = _prove(config, LaunchConfig(nproc=ranks, worker=WORKER), output, shared)
    if code is not ExitCode.OK:
        raise SystemExit(int(code))


def _refuse_nothing(config: VerifyConfig) -> None:
    """Raise ``UsageError`` where nothing that was asked for applies, and the detector alone would be left."""
    from nccl_bench.plan.verification import list_arm_probes, reason_not_applicable

    reasons = {cell: reason_not_applicable(config, cell) for cell in list_arm_probes(config) if cell.arm != DETECTOR}
    if None not in reasons.values():
        told = dict.fromkeys(f"{cell.probe}: {reason}" for cell, reason in reasons.items())
        raise UsageError(
            f"on the device {config.device} the --probes {','.join(config.probes)} have nothing to ask of the --arms "
            f"{','.join(config.arms)} ({'; '.join(told)}): choose other probes, or other arms"
        )


def _prove(config: VerifyConfig, launch: LaunchConfig, output: Output, gpus: int | None) -> ExitCode:
    from datetime import datetime

    from nccl_bench.cli.progress import Display
    from nccl_bench.launch.verification import run_verification
    from nccl_bench.plan.verification import group_by_launch
    from nccl_bench.records.environment import collect
    from nccl_bench.report.verification import NARROWEST, verification_json, verification_text

    cells = [cell for group in group_by_launch(config) for cell in group]
    about = {
        "tool": "nccl-bench",
        "version": __version__,
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": ["nccl-bench", *sys.argv[1:]],
        "config": asdict(config),
        "environment": collect(),
    }
    # Before the first rank starts: a bad path must not cost a proof.
    if output.out is not None:
        _create(output.out)
    try:
        with Display(len(cells), lambda index: "") as display:
            proof = replace(run_verification(config, launch, on_progress=display.show), gpus=gpus)
    except BaseException as error:
        if output.out is not None:
            output.out.unlink(missing_ok=True)  # empty, and in the way of the next attempt
        if isinstance(error, InterruptedRunError | KeyboardInterrupt):
            # A KeyboardInterrupt says nothing.
            how = str(error) or "interrupted by SIGINT"
            raise InterruptedRunError(f"{how}; nothing is proven by a part") from error
        raise
    width = output.width or max(NARROWEST, shutil.get_terminal_size((80, 24)).columns)
    as_json = verification_json(proof, about)
    try:
        print(as_json if output.json else verification_text(proof, width, sys.stdout.isatty()), end="", flush=True)
    finally:
        # Of a proof that took minutes one of the two may well be left when the other fails.
        if output.out is not None:
            _write(output.out, as_json)
    return proof.exit_code


def _create(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("x").close()
    except OSError as error:
        # Not by the error's kind: a directory that is a file is reported as one that exists, too. And os.path, since
        # a Path raises for what it may not look at.
        is_file = next((f"{parent} is a file" for parent in file.parents if os.path.isfile(parent)), error.strerror)
        what = "is there already" if os.path.exists(file) else f"cannot be written: {is_file}"
        raise UsageError(f"{file} {what}; choose another file with --out") from error


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecordError(
            f"{file} cannot be written: {error.strerror}; what is in it, if anything, is not the whole proof"
        ) from error
