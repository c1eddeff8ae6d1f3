"""Runs a verification: a hang or a crash is a failed probe, and the other probes go on."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from nccl_bench.catalog.probes import PROBES
from nccl_bench.config.verification import VerifyConfig
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.launch.signals import collect_signals, raise_interrupted
from nccl_bench.launch.supervise import Starter, supervise
from nccl_bench.plan.verification import group_by_launch
from nccl_bench.ranks.progress import Position
from nccl_bench.records.schema import Crash, Hang
from nccl_bench.verify.findings import Finding, append_finding, append_note, find_given_up_arms, read_findings
from nccl_bench.verify.spec import VerificationSpec


def run_verification(
    config: VerifyConfig,
    launch: LaunchConfig,
    agent: Starter,
    findings: Path,
    *,
    on_progress: Callable[[list[Position]], None],
) -> None:
    """Run every probe of ``config`` that has no finding in the file ``findings``, and append its finding to the file.

    ``agent`` starts the ranks. ``on_progress`` gets their positions. The ``case_index`` of a position counts all arm
    probes; arm probes that already had a finding come first.

    Raises:
        SetupError: The ranks did not finish their set-up.
        RecordError: A finding could not be written.
        InterruptedRunError: This process got SIGINT, SIGTERM or SIGHUP.
    """
    done = {finding.arm_probe for finding in read_findings(findings)}
    number = len(done)
    # `supervise` collects signals too. This list gets the signals between two launches.
    with collect_signals() as received:
        for group in group_by_launch(config):
            arm_probes = tuple(arm_probe for arm_probe in group if arm_probe not in done)
            if not arm_probes:
                continue
            raise_interrupted(received)
            supervise(
                VerificationSpec(config=config, arm_probes=arm_probes, findings=str(findings)),
                launch,
                agent,
                count=len(arm_probes),
                timeout_s=config.timeout_s,
                on_end=_record_end,
                on_progress=partial(_pass_on_positions, on_progress, number),
            )
            number += len(arm_probes)


def _pass_on_positions(on_progress: Callable[[list[Position]], None], done: int, positions: list[Position]) -> None:
    on_progress([replace(p, case_index=p.case_index + done) if p.case_index >= 0 else p for p in positions])


def _record_end(end: Hang | Crash, spec: VerificationSpec) -> VerificationSpec | None:
    """Record a hang or a crash as the finding of its arm probe, and return the work of the next launch."""
    path, arm_probes, following = Path(spec.findings), spec.arm_probes, end.case_index + 1
    if end.case_index >= len(arm_probes):
        # After its last item a rank has closed every communicator and written every finding.
        append_note(path, f"After its last probe {_describe(end)}")
    elif end.case_index >= 0:
        arm_probe = arm_probes[end.case_index]
        written = next((finding for finding in read_findings(path) if finding.arm_probe == arm_probe), None)
        # After these findings the ranks end on purpose: the arm could not be made, or a failure made the processes
        # unusable.
        if written is None or not (written.unmade or (written.failed and PROBES[arm_probe.probe].ends_processes)):
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
