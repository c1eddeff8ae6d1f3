"""A proof under the launching process's watch: a crash or a hang is a failed probe, and the rest goes on. No torch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from nccl_bench.launch.supervise import supervise
from nccl_bench.launch.torchrun import LaunchConfig
from nccl_bench.records.handoff import Position
from nccl_bench.records.schema import Crash, Hang
from nccl_bench.verify.catalog import PROBES
from nccl_bench.verify.proof import (
    Cell,
    Finding,
    Proof,
    ProofConfig,
    ProofSpec,
    judge,
    launches,
    read_findings,
)


def run_proof(config: ProofConfig, launch: LaunchConfig, *, on_progress: Callable[[list[Position]], None]) -> Proof:
    """Probe everything that ``config`` asks for, on the ranks of ``launch``.

    ``on_progress`` gets the ranks' positions, their ``case_index`` counting the cells of all launches.

    Raises ``SetupError`` where ranks do not get past set-up, ``InterruptedRunError`` on SIGINT, SIGTERM and SIGHUP.
    """
    findings: dict[Cell, Finding] = {}
    notes: list[str] = []
    done = 0
    with tempfile.TemporaryDirectory(prefix="nccl-bench-") as directory:
        for number, cells in enumerate(launches(config)):
            path = Path(directory) / f"findings-{number}"
            ends: list[Hang | Crash] = []

            def on_end(end: Hang | Crash, ends: list[Hang | Crash] = ends) -> bool:
                ends.append(end)
                return True

            supervise(
                ProofSpec(config=config, cells=cells, findings=str(path)),
                launch,
                count=len(cells),
                timeout_s=config.timeout_s,
                first=0,
                on_end=on_end,
                on_progress=partial(_tell, on_progress, done),
            )
            findings |= {finding.cell: finding for finding in read_findings(path)}
            findings |= _of_ends(cells, [end for end in ends if end.case_index < len(cells)], findings)
            # Behind the last cell every communicator is closed and every finding made.
            notes += [f"After its last probe {_message(end)}" for end in ends if end.case_index >= len(cells)]
            done += len(cells)
    return judge(config, launch.nproc * launch.nnodes, findings.values(), notes)


def _tell(on_progress: Callable[[list[Position]], None], done: int, positions: list[Position]) -> None:
    on_progress([replace(p, case_index=p.case_index + done) if p.case_index >= 0 else p for p in positions])


def _of_ends(cells: Sequence[Cell], ends: Sequence[Hang | Crash], findings: dict[Cell, Finding]) -> dict[Cell, Finding]:
    """What a hang or a crash says about its cell. Ranks that failed alone leave by themselves, their finding made."""
    broken = {}
    for end in ends:
        cell = cells[end.case_index]
        finding = findings.get(cell)
        if finding is not None and finding.failed and PROBES[cell.probe].alone:
            continue
        made = finding or Finding(arm=cell.arm, probe=cell.probe, trials=1, failed=0, detail=None)
        broken[cell] = replace(made, failed=made.failed + 1, detail=_message(end), broken=True)
    return broken


def _message(end: Hang | Crash) -> str:
    if isinstance(end, Hang):
        return f"rank {end.rank} on {end.host} hung in {end.phase} for {round(end.timeout_s, 1):g} s"
    return end.message.strip()
