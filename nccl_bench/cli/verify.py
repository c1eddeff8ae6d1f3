"""``nccl-bench verify``: the verification that every arm keeps stream order."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from nccl_bench import __version__
from nccl_bench.catalog.probes import DETECTOR
from nccl_bench.cli.launching import choose_device, default_ranks, refuse_missing
from nccl_bench.cli.messages import exit_with, print_message
from nccl_bench.cli.options import FormatOption, Nproc, layer_of, out_option, width_option, with_options
from nccl_bench.config.verification import VerifyConfig, resolve_verification
from nccl_bench.errors import InterruptedRunError, UsageError
from nccl_bench.report import NARROWEST_VERIFICATION, Format

if TYPE_CHECKING:
    from nccl_bench.launch.config import LaunchConfig
    from nccl_bench.verify.judgement import Verification

WORKER = "nccl_bench.verify.worker"
# With one rank, a collective is no more than a copy, and waits for no other rank.
FEWEST_RANKS = 2


@with_options(VerifyConfig)
def verify(
    nproc: Nproc = None,
    out: Annotated[Path | None, out_option("nothing is recorded")] = None,
    format: FormatOption = Format.TERMINAL,
    width: Annotated[int | None, width_option(NARROWEST_VERIFICATION)] = None,
    **options: Any,
) -> None:
    """Verify by experiment that every arm keeps stream order, and that the probes detect an arm that does not keep it.

    Every verification includes the detector, an arm without any order. The detector must fail; the table shows its
    failures as `caught`. The ranks, 2 or more, all run on this node, and may share GPUs. Exit code 5: an arm failed a
    probe; 3: a user arm could not be made; 9: the detector was not caught, so nothing is verified.
    """
    from nccl_bench.launch.attach import detect_launcher
    from nccl_bench.launch.config import LaunchConfig
    from nccl_bench.launch.hardware import gpu_count
    from nccl_bench.records.creation import create_files
    from nccl_bench.records.run import VERIFICATION

    gpus = gpu_count(os.environ)
    layer = layer_of(options)
    config = resolve_verification(choose_device(layer["device"], gpus), layer)
    _refuse_inapplicable(config)
    refuse_missing(config.user_arms)
    launcher = detect_launcher(os.environ)
    if launcher is not None:
        raise UsageError(
            f"{launcher} started this process as one rank of several. A verification starts its own ranks on one node, "
            "because a failing probe may end its ranks: run `nccl-bench verify` once, outside of that launch"
        )
    if config.device_spec.has_gpus and not gpus and nproc is None:
        raise UsageError("no GPU is visible on this machine: make one visible, or give --device cpu")
    ranks = nproc if nproc is not None else default_ranks(config.device_spec, gpus, FEWEST_RANKS)
    if ranks < FEWEST_RANKS:
        raise UsageError(
            f"--nproc is {nproc}, and ranks must wait for each other: give at least {FEWEST_RANKS}, or no --nproc"
        )
    # Create the record before the ranks start: a bad path must not waste a verification.
    record = None if out is None else out / VERIFICATION
    created = None if record is None else create_files(record.parent, [VERIFICATION])
    about = _describe_command(config)
    try:
        verification = _run(config, LaunchConfig(nproc=ranks, worker=WORKER))
    except BaseException:
        if created is not None:
            created.remove()  # an empty record would make the next verification refuse the directory
        raise
    shared = min(gpus, ranks) if config.device_spec.has_gpus and gpus else None
    _print(replace(verification, gpus=shared), about, record, format, width)
    exit_with(verification.exit_code)


def _refuse_inapplicable(config: VerifyConfig) -> None:
    """Raise ``UsageError`` if no probe applies to any arm besides the detector."""
    from nccl_bench.plan.verification import list_arm_probes, reason_not_applicable

    reasons = {
        arm_probe: reason_not_applicable(config, arm_probe)
        for arm_probe in list_arm_probes(config)
        if arm_probe.arm != DETECTOR
    }
    if None not in reasons.values():
        texts = dict.fromkeys(f"{arm_probe.probe}: {reason}" for arm_probe, reason in reasons.items())
        raise UsageError(
            f"on the device {config.device} none of the --probes {','.join(config.probes)} applies to the --arms "
            f"{','.join(config.arms)} ({'; '.join(texts)}): choose other probes or other arms"
        )


def _describe_command(config: VerifyConfig) -> dict[str, object]:
    """Return the facts about the command and the machine, for the record."""
    from datetime import datetime

    from nccl_bench.records.environment import collect

    return {
        "tool": "nccl-bench",
        "version": __version__,
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": ["nccl-bench", *sys.argv[1:]],
        "config": asdict(config),
        "environment": collect(),
    }


def _run(config: VerifyConfig, launch: LaunchConfig) -> Verification:
    from nccl_bench.cli.progress import Display
    from nccl_bench.launch.job import running_agent
    from nccl_bench.launch.verification import run_verification
    from nccl_bench.plan.verification import group_by_launch

    total = sum(map(len, group_by_launch(config)))
    try:
        with running_agent() as agent, Display(total, lambda _index: "") as display:
            return run_verification(config, launch, agent, on_progress=display.show)
    except (InterruptedRunError, KeyboardInterrupt) as error:
        # The text of a KeyboardInterrupt is empty.
        reason = str(error) or "interrupted by SIGINT"
        raise InterruptedRunError(f"{reason}; an incomplete verification verifies nothing") from error


def _print(
    verification: Verification, about: dict[str, object], record: Path | None, format: Format, width: int | None
) -> None:
    """Print the verification, and write its record."""
    from nccl_bench.records.files import writing
    from nccl_bench.report.verification import reports

    by_format = reports(sys.stdout, width, about)
    try:
        print(by_format[format](verification), end="", flush=True)
    finally:
        # A verification takes minutes, so write its record even if printing fails.
        if record is not None:
            with writing(record):
                record.write_text(by_format[Format.JSON](verification), encoding="utf-8")
            print_message(f"recorded in {record.parent.absolute()}")
