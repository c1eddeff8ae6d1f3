"""Findings of a verification, as its ranks would write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

from nccl_bench.catalog.probes import DETECTOR, Place
from nccl_bench.cli.recorded_verification import new_record
from nccl_bench.config.user_arms import UserArm
from nccl_bench.config.verification import VerifyConfig, resolve_verification
from nccl_bench.plan.verification import ArmProbe, group_by_launch
from nccl_bench.report.verification import json_verification
from nccl_bench.verify.findings import Finding, Processes, TrialGroup, append_finding, append_processes
from nccl_bench.verify.record import VerificationRecord

# What a detector must fail if it is selected, and the experiments in every verification.
CAUGHT = tuple(ArmProbe(arm=DETECTOR, probe=probe) for probe in ("producer", "consumer", "order"))
SMALL, LARGE = 1024, 16 * 1024**2
OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter")


def make_findings(config: VerifyConfig, *failed: ArmProbe, broken: Iterable[ArmProbe] = ()) -> list[Finding]:
    """Return one finding for every applicable arm probe: a race for ``failed``, a break for ``broken``."""
    return [
        Finding(
            arm=arm_probe.arm,
            probe=arm_probe.probe,
            trials=4,
            failed=4 if arm_probe in failed else int(arm_probe in broken),
            raced=4 if arm_probe in failed else 0,
            quiet=() if arm_probe in failed else tuple(Place),
            detail="planted" if arm_probe in failed or arm_probe in broken else None,
            broken=arm_probe in broken,
        )
        for group in group_by_launch(config)
        for arm_probe in group
    ]


def write_verification(
    directory: Path, config: VerifyConfig, findings: Iterable[Finding], **facts: object
) -> VerificationRecord:
    """Write the record of a verification of two ranks that was killed after ``findings``, and return its start."""
    record = new_record(config, 2, None)
    record = replace(record, facts={**record.facts, **facts})
    text = json_verification(record.verification)
    (directory / "verification.json").write_text(text, encoding="utf-8")
    (directory / "findings.jsonl").touch()
    for finding in findings:
        append_finding(directory / "findings.jsonl", finding)
    return record


def plant(
    arm_probe: ArmProbe, wrong: Callable[[TrialGroup], bool], *, raced: bool = True, detail: str = "planted"
) -> Finding:
    """Return a finding with trials on every stream, with three operations and two sizes, which fail if ``wrong``."""
    groups = tuple(
        TrialGroup(place=place, operation=operation, size_bytes=size, trials=1, failed=0, calls=2)
        for place, operation, size in product(Place, OPERATIONS, (SMALL, LARGE))
    )
    groups = tuple(replace(group, failed=int(wrong(group))) for group in groups)
    failed = [group for group in groups if group.failed]
    return Finding(
        arm=arm_probe.arm,
        probe=arm_probe.probe,
        trials=len(groups),
        failed=len(failed),
        raced=len(failed) if raced else 0,
        quiet=tuple(place for place in Place if place not in {group.place for group in failed}),
        detail=f"{failed[0].place}, {failed[0].operation}, rank 0: {detail}" if failed else None,
        groups=groups,
    )


# The places, operations and sizes at which a user's arm with one defect each fails, by its name.
DEFECTIVE: Mapping[str, Mapping[str, Callable[[TrialGroup], bool]]] = {
    "right": {},
    "large-unjoined": {"consumer": lambda group: group.size_bytes == LARGE},
    "joins-default": {"consumer": lambda group: group.place is not Place.DEFAULT},
    "gather-unjoined": {"consumer": lambda group: group.operation == "all_gather"},
    "forks-once": {"producer": lambda _group: True},
}


def make_user_verification(directory: Path, *, ran: int | None = None) -> VerificationRecord:
    """Return the record, in ``directory``, of a verification of arms that fail as ``DEFECTIVE`` says.

    Only the first ``ran`` of its probes ran.
    """
    arms = [UserArm(name=name, target=f"engine.py:{name.title().replace('-', '')}") for name in DEFECTIVE]
    config = resolve_verification("cuda", {"user_arms": tuple(arms), "probes": "producer,consumer,allocator"})
    findings = [
        plant(arm_probe, _wrong(arm_probe), detail="a copy of the output did not wait for the collective")
        for group in group_by_launch(config)
        for arm_probe in group
    ]
    command = ["nccl-bench", "verify", "--probes", "producer,consumer,allocator"]
    for arm in arms:
        command += ["--arm", f"{arm.name}={arm.target}"]
    environment = {
        "packages": {"torch": "2.11.0", "nvidia-nccl-cu13": "2.28.9"},
        "variables": {"NCCL_NVLS_ENABLE": "0"},
        "gpus": [{"name": "NVIDIA H200", "driver": "580.159.04"}] * 2,
    }
    status = "complete" if ran is None else "interrupted"
    facts = {"command": command, "environment": environment, "status": status}
    write_verification(directory, config, findings[:ran], **facts)
    for arm in (DETECTOR, *DEFECTIVE):
        versions = {"Python": "3.12.3", "torch": "2.12.0" if arm == "right" else "2.11.0", "NCCL": "2.28.9"}
        processes = Processes(arms=(arm,), python=None, library=None, variables={}, versions=versions)
        append_processes(directory / "findings.jsonl", processes)
    return replace(VerificationRecord.load(directory), directory=Path("results/verify"))


def _wrong(arm_probe: ArmProbe) -> Callable[[TrialGroup], bool]:
    if arm_probe.arm != DETECTOR:
        return DEFECTIVE[arm_probe.arm].get(arm_probe.probe, lambda _group: False)
    # The detector is caught everywhere, but by `allocator` with large messages only.
    return lambda group: arm_probe.probe != "allocator" or group.size_bytes == LARGE
