"""``nccl-bench verify``: the verification that every arm keeps stream order."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from nccl_bench.catalog.probes import DETECTOR
from nccl_bench.cli.command import spellings
from nccl_bench.cli.destination import chosen_format, refuse_unwritable
from nccl_bench.cli.launching import choose_device, default_ranks, refuse_missing
from nccl_bench.cli.options import (
    AllowRecordedCode,
    Anonymous,
    Full,
    Nproc,
    Quiet,
    Resume,
    VerificationFile,
    VerificationFormat,
    check_resume,
    detail_of,
    layer_of,
    out_option,
    refuse_without_resume,
    width_option,
    with_options,
)
from nccl_bench.cli.output import OutputConfig
from nccl_bench.config.verification import FEWEST_RANKS, VerifyConfig, resolve_verification
from nccl_bench.errors import UsageError
from nccl_bench.report import NARROWEST_VERIFICATION, VERIFICATION_FORMATS


@with_options(VerifyConfig)
def verify(
    context: typer.Context,
    nproc: Nproc = None,
    out: Annotated[Path | None, out_option("nothing is recorded")] = None,
    resume: Resume = None,
    allow_recorded_code: AllowRecordedCode = False,
    format: VerificationFormat = None,
    to: VerificationFile = None,
    width: Annotated[int | None, width_option(NARROWEST_VERIFICATION)] = None,
    quiet: Quiet = False,
    full: Full = False,
    anonymous: Anonymous = False,
    **options: Any,
) -> None:
    """Verify by experiment that every arm keeps stream order, and that the probes detect an arm that does not keep it.

    Every verification includes the detector, an arm without any order. The detector must fail; the table shows its
    failures as `caught`. The ranks, 2 or more, all run on this node, and may share GPUs. Exit code 5: an arm failed a
    probe; 3: a user arm could not be made; 9: the detector was not caught, so nothing is verified; 130: interrupted.
    """
    from nccl_bench.cli.recorded_verification import new_record, resume_recorded, run_recorded
    from nccl_bench.launch.attach import detect_launcher

    launcher = detect_launcher(os.environ)
    if launcher is not None:
        raise UsageError(
            f"{launcher} started this process as one rank of several. A verification starts its own ranks on one node, "
            "because a failing probe may end its ranks: run `nccl-bench verify` once, outside of that launch"
        )
    chosen = chosen_format(format, to, VERIFICATION_FORMATS)
    refuse_unwritable(to)
    output = OutputConfig(
        out=out, format=chosen, to=to, width=width, detail=detail_of(quiet, full), anonymous=anonymous
    )
    if resume is None:
        refuse_without_resume(allow_recorded_code)
        run_recorded(new_record(*_configure(options, nproc, spellings(context))), output)
        return
    check_resume(context, resume, "--format", "--to", "--width", "--quiet", "--full", "--anonymous")
    resume_recorded(resume, replace(output, out=resume), layer_of(options), allow_recorded_code=allow_recorded_code)


def _configure(
    options: Mapping[str, Any], nproc: int | None, typed: Mapping[str, str]
) -> tuple[VerifyConfig, int, int | None]:
    """Return the configuration, the number of ranks, and the number of GPUs that they use, if the device has GPUs."""
    from nccl_bench.launch.hardware import gpu_count
    from nccl_bench.launch.hidden_modules import refuse_hidden_packages

    gpus = gpu_count(os.environ)
    layer = layer_of(options)
    config = resolve_verification(choose_device(layer["device"], gpus, typed), layer, spellings=typed)
    _refuse_inapplicable(config)
    refuse_hidden_packages()
    refuse_missing(config.user_arms)
    if config.device_spec.has_gpus and not gpus and nproc is None:
        raise UsageError("no GPU is visible on this machine: make one visible, or give --device cpu")
    ranks = nproc if nproc is not None else default_ranks(config.device_spec, gpus, FEWEST_RANKS)
    if ranks < FEWEST_RANKS:
        raise UsageError(
            f"--nproc is {nproc}, and ranks must wait for each other: give at least {FEWEST_RANKS}, or no --nproc"
        )
    return config, ranks, min(gpus, ranks) if config.device_spec.has_gpus and gpus else None


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
