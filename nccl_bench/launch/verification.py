"""A proof under the launching process's watch: a crash or a hang is a failed probe, and the rest goes on. No torch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from nccl_bench.catalog.probes import PROBES
from nccl_bench.config.verification import VerifyConfig
from nccl_bench.launch.supervise import supervise
from nccl_bench.launch.torchrun import LaunchConfig
from nccl_bench.plan.verification import group_by_launch
from nccl_bench.ranks.progress import Position
from nccl_bench.records.schema import Crash, Hang
from nccl_bench.verify.findings import Finding, append_finding, find_given_up_arms, read_findings
from nccl_bench.verify.judgement import Verification, judge
from nccl_bench.verify.spec import VerificationSpec


def run_verification(
    config: VerifyConfig, launch: LaunchConfig, *, on_progress: Callable[[list[Position]], None]
) -> Verification:
    """Probe everything that ``config`` asks for, on the ranks of ``launch``.

    ``on_progress`` gets the ranks' positions, their ``case_index`` counting the cells of all launches.

    Raises ``SetupError`` where ranks do not get past set-up, ``InterruptedRunError`` on SIGINT, SIGTERM and SIGHUP.
    """
    notes: list[str] = []
    done = 0
    with tempfile.TemporaryDirectory(prefix="nccl-bench-") as directory:
        path = Path(directory) / "findings"
        for cells in group_by_launch(config):
            spec = VerificationSpec(config=config, arm_probes=cells, findings=str(path))
            supervise(
                spec,
                launch,
                count=len(cells),
                timeout_s=config.timeout_s,
                first=0,
                on_end=partial(_note_end, spec, notes),
                on_progress=partial(_tell, on_progress, done),
            )
            done += len(cells)
        return judge(config, launch.nproc * launch.nnodes, read_findings(path), notes)


def _tell(on_progress: Callable[[list[Position]], None], done: int, positions: list[Position]) -> None:
    on_progress([replace(p, case_index=p.case_index + done) if p.case_index >= 0 else p for p in positions])


def _note_end(
    spec: VerificationSpec, notes: list[str], end: Hang | Crash, _first: int
) -> tuple[VerificationSpec, int] | None:
    """Make of a hang or a crash the finding of its cell, and go on behind it."""
    path, cells, following = Path(spec.findings), spec.arm_probes, end.case_index + 1
    if end.case_index >= len(cells):
        # Behind the last cell every communicator is closed and every finding made.
        notes.append(f"After its last probe {_message(end)}")
    elif end.case_index >= 0:
        cell = cells[end.case_index]
        made = next((finding for finding in read_findings(path) if finding.arm_probe == cell), None)
        # Ranks whose probe failed alone leave by themselves, their finding made, as is that of an arm that cannot be.
        if made is None or not (made.unmade or (made.failed and PROBES[cell.probe].alone)):
            broken = Finding(arm=cell.arm, probe=cell.probe, trials=1, failed=1, detail=_message(end), broken=True)
            append_finding(path, broken)
        given_up = find_given_up_arms(read_findings(path))
        while following < len(cells) and cells[following].arm in given_up:
            append_finding(path, replace(given_up[cells[following].arm], probe=cells[following].probe))
            following += 1
    return None if end.case_index < 0 else (spec, following)


def _message(end: Hang | Crash) -> str:
    if isinstance(end, Hang):
        return f"rank {end.rank} on {end.host} hung in {end.phase} for {end.timeout_s:.3g} s"
    return end.message.strip()
