"""An audit whose ranks this process launches."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from nccl_bench.analysis.wording import counted
from nccl_bench.audit.findings.audit import Audit, Outcome
from nccl_bench.audit.findings.suppressions import Suppression
from nccl_bench.audit.program import Program
from nccl_bench.cli.destination import stream_of, write_report
from nccl_bench.cli.messages import exit_with, print_message
from nccl_bench.cli.output import OutputConfig
from nccl_bench.launch.audit import WORKER, RankOutput, run_audit
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.launch.job import running_agent
from nccl_bench.launch.signals import ignoring_signals
from nccl_bench.report import Format
from nccl_bench.report.audit import reports
from nccl_bench.report.escaping import visible
from nccl_bench.report.html.audit_page import audit_html
from nccl_bench.safety.secrets import masked


def audit_launched(
    program: Program,
    ranks: int,
    timeout_s: float,
    every: int,
    suppressions: Sequence[Suppression],
    output: OutputConfig,
) -> None:
    """Run ``program`` on ``ranks`` ranks under watch, print the report, and exit with the code of the audit."""
    launch = LaunchConfig(nproc=ranks, worker=WORKER)
    with ignoring_signals(), running_agent() as agent:
        printed = RankOutput(agent.scratch)
        try:
            audit, interrupted = run_audit(
                program,
                launch,
                agent,
                directory=Path.cwd(),
                timeout_s=timeout_s,
                every=every,
                suppressions=suppressions,
                on_progress=lambda _positions: _pass_on(printed, ranks),
            )
        finally:
            _pass_on(printed, ranks, whole=False)
    print_audit(audit, output)
    if interrupted is not None:
        raise interrupted
    exit_with(audit.exit_code)


def print_audit(audit: Audit, output: OutputConfig) -> None:
    """Print the report of ``audit``, or write it to a file."""
    by_format = {**reports(stream_of(output.to), output.width, output.detail), Format.HTML: audit_html}
    write_report(by_format[output.format](audit), output.to)
    # A report in a terminal is long and begins with its answer. So this last line repeats the answer.
    is_known = audit.outcome in (Outcome.RACES, Outcome.NONE)
    print_message(output.summary(counted(len(audit.races), "race") if is_known else "not audited to the end"))


def _pass_on(printed: RankOutput, ranks: int, *, whole: bool = True) -> None:
    """Print what the ranks have printed to standard error, because standard output is for the report."""
    for rank, line in printed.new_lines(whole=whole):
        print(f"[rank {rank}] {visible(masked(line))}" if ranks > 1 else visible(masked(line)), file=sys.stderr)
