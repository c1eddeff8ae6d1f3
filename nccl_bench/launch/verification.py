"""Runs a verification: a hang or a crash is a failed probe, and the other probes go on."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from nccl_bench.catalog.probes import PROBES
from nccl_bench.config.verification import VerifyConfig
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.launch.supervise import Starter, supervise
from nccl_bench.plan.verification import group_by_launch
from nccl_bench.ranks.progress import Position
from nccl_bench.records.schema import Crash, Hang
from nccl_bench.verify.findings import Finding, append_finding, find_given_up_arms, read_findings
from nccl_bench.verify.judgement import Verification, judge
from nccl_bench.verify.spec import VerificationSpec


def run_verification(
    config: VerifyConfig, launch: LaunchConfig, agent: Starter, *, on_progress: Callable[[list[Position]], None]
) -> Verification:
    """Run every probe of ``config`` on the ranks that ``agent`` starts, and return the verification.

    ``on_progress`` gets the ranks' positions. The ``case_index`` of a position counts the arm probes of all launches.

    Raises:
        SetupError: The ranks did not finish their set-up.
        InterruptedRunError: This process got SIGINT, SIGTERM or SIGHUP.
    """
    notes: list[str] = []
    done = 0
    path = agent.scratch / "findings"
    for arm_probes in group_by_launch(config):
        spec = VerificationSpec(config=config, arm_probes=arm_probes, findings=str(path))
        supervise(
            spec,
            launch,
            agent,
            count=len(arm_probes),
            timeout_s=config.timeout_s,
            on_end=partial(_record_end, notes),
            on_progress=partial(_pass_on_positions, on_progress, done),
        )
        done += len(arm_probes)
    return judge(config, launch.nproc * launch.nnodes, read_findings(path), notes)


def _pass_on_positions(on_progress: Callable[[list[Position]], None], done: int, positions: list[Position]) -> None:
    on_progress([replace(p, case_index=p.case_index + done) if p.case_index >= 0 else p for p in positions])


def _record_end(notes: list[str], end: Hang | Crash, spec: VerificationSpec) -> VerificationSpec | None:
    """Record a hang or a crash as the finding of its arm probe, and return the work of the next launch."""
    path, arm_probes, following = Path(spec.findings), spec.arm_probes, end.case_index + 1
    if end.case_index >= len(arm_probes):
        # After its last item a rank has closed every communicator and written every finding.
        notes.append(f"After its last probe {_describe(end)}")
    elif end.case_index >= 0:
        arm_probe = arm_probes[end.case_index]
        written = next((finding for finding in read_findings(path) if finding.arm_probe == arm_probe), None)
        # After these findings the ranks end on purpose: the arm could not be made, or a probe that runs alone failed.
        if written is None or not (written.unmade or (written.failed and PROBES[arm_probe.probe].alone)):
            append_finding(path, Finding.of_break(arm_probe, _describe(end)))
        given_up = find_given_up_arms(read_findings(path))
        while following < len(arm_probes) and arm_probes[following].arm in given_up:
            append_finding(path, replace(given_up[arm_probes[following].arm], probe=arm_probes[following].probe))
            following += 1
    return None if end.case_index < 0 else replace(spec, first=following)


def _describe(end: Hang | Crash) -> str:
    if isinstance(end, Hang):
        state = f", {end.state.description}," if end.state else ""
        return f"rank {end.rank} on {end.host}{state} hung in {end.phase} for {end.timeout_s:.3g} s"
    return end.message.strip()
