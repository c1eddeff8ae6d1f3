"""``nccl-bench audit``: the races of a program, found by construction while its ranks run under watch."""

import os
from pathlib import Path
from typing import Annotated

import typer

from nccl_bench.cli.destination import chosen_format, refuse_unwritable
from nccl_bench.cli.launching import DEFAULT_CPU_RANKS
from nccl_bench.cli.options import AuditQuiet, Full, Nproc, detail_of, format_option, to_option, width_option
from nccl_bench.cli.output import OutputConfig
from nccl_bench.config.options import Panel
from nccl_bench.config.parsers import time_limit
from nccl_bench.errors import UsageError
from nccl_bench.report import AUDIT_FORMATS, NARROWEST_AUDIT, Format

# Long enough for an engine to read its weights. The audit does not see this work.
_TIMEOUT_S = 300.0


def audit(
    program: Annotated[
        str, typer.Argument(metavar="SCRIPT", help="The Python program: a file, or with -m the name of a module.")
    ],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGS", help="The arguments of the program.")] = None,
    module: Annotated[
        bool, typer.Option("-m", "--module", help="SCRIPT is the name of a module, as in `python -m`.")
    ] = False,
    nproc: Nproc = None,
    timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="The program hangs if no rank does anything that is watched for this time.",
            rich_help_panel=Panel.LAUNCH,
        ),
    ] = _TIMEOUT_S,
    sample: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="For long programs: watch one of N steps. A step begins when the program calls a module of torch from "
            "outside of all modules.",
            rich_help_panel=Panel.LAUNCH,
        ),
    ] = 1,
    suppress: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File of races that you accept: lines of PATTERN [-> PATTERN]: REASON.",
            rich_help_panel=Panel.OUTPUT,
        ),
    ] = None,
    format: Annotated[Format | None, format_option(AUDIT_FORMATS)] = None,
    to: Annotated[Path | None, to_option(AUDIT_FORMATS)] = None,
    width: Annotated[int | None, width_option(NARROWEST_AUDIT)] = None,
    quiet: AuditQuiet = False,
    full: Full = False,
) -> None:
    """Run a program under watch, and report accesses to the same memory that no stream, event or wait orders.

    Options of this command come before SCRIPT; everything behind it belongs to the program. What the program prints
    goes to standard error. Under torchrun, srun or mpirun, each rank runs this command, the first rank of each node
    reports, and what the program prints stays on standard output. Exit code 5: races; 6: the program hung; 3: it
    failed; 8: no collective was seen, so nothing is known; 0: no race in what was watched.
    """
    from nccl_bench.audit.findings.suppressions import read_suppressions
    from nccl_bench.audit.program import Program
    from nccl_bench.cli.attached_audit import audit_attached
    from nccl_bench.cli.launched_audit import audit_launched
    from nccl_bench.launch.attach import detect_attachment
    from nccl_bench.launch.hardware import gpu_count

    chosen = chosen_format(format, to, AUDIT_FORMATS)
    refuse_unwritable(to)
    timeout = time_limit("--timeout", timeout)
    if sample < 1:
        raise UsageError(f"--sample is {sample}: give 1 for every step, or a larger number")
    suppressions = read_suppressions(suppress) if suppress is not None else ()
    what = Program(name=program, arguments=tuple(arguments or ()), is_module=module)
    reason = what.missing()
    if reason is not None:
        raise UsageError(reason)
    output = OutputConfig(format=chosen, to=to, width=width, detail=detail_of(quiet, full))
    attachment = detect_attachment(os.environ)
    if attachment is None:
        ranks = nproc if nproc is not None else gpu_count(os.environ) or DEFAULT_CPU_RANKS
        audit_launched(what, ranks, timeout, sample, suppressions, output)
        return
    if nproc is not None:
        raise UsageError(f"--nproc is {nproc}, but {attachment.launcher} has started the ranks already: leave it out")
    audit_attached(what, attachment, timeout, sample, suppressions, output)
