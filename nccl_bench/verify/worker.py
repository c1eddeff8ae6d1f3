"""One rank of a proof, started by torchrun as ``python -m nccl_bench.verify.worker SPEC_FILE``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch.distributed as dist

from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.probes import PROBES
from nccl_bench.config.user_arms import of_arm
from nccl_bench.errors import ExitCode, UserArmError
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.ranks.control import Control
from nccl_bench.ranks.process import NO_TIMEOUT, SETUP_INDEX, SETUP_TIMEOUT_S, default_group, run_rank
from nccl_bench.ranks.progress import Progress
from nccl_bench.transports.device import open_device
from nccl_bench.user_arms.building import as_user_arm_error
from nccl_bench.verify.findings import Finding, append_finding, find_given_up_arms, read_findings
from nccl_bench.verify.probes import RUN
from nccl_bench.verify.rig import Rig
from nccl_bench.verify.spec import VerificationSpec


class _Arms:
    """The arm at work: one at a time, and the same one for probes that follow each other."""

    def __init__(self, make: Callable[[str], Arm]) -> None:
        self.make = make
        self._arm: Arm | None = None

    def get(self, name: str) -> Arm:
        """The arm ``name``, which is none but the last one until that is closed; making it is collective."""
        if self._arm is None:
            self._arm = self.make(name)
        assert self._arm.name == name
        return self._arm

    def close(self) -> None:
        """Close the arm at work, if there is one."""
        arm, self._arm = self._arm, None
        if arm is not None:
            arm.close()


def prove(spec: VerificationSpec, progress: Progress) -> None:
    """Do this rank's part of ``spec``'s cells."""
    config = spec.config
    setup = partial(progress.update, case_index=SETUP_INDEX, arm="", deadline_s=SETUP_TIMEOUT_S)
    os.environ.update(spec.variables)
    setup(phase="connect")
    dist.init_process_group("gloo", timeout=NO_TIMEOUT)
    control = Control(default_group())
    setup(phase="device")
    local_rank = int(os.environ["LOCAL_RANK"])
    device = open_device(config.device, local_rank, config.nccl_library, config.transport, sharing=True)
    findings = Path(spec.findings)
    given_up = find_given_up_arms(read_findings(findings))
    made = False

    def make(name: str) -> Arm:
        nonlocal made
        # The first communicator of a process loads and connects much that later ones find ready.
        position = progress.position
        progress.update(
            case_index=position.case_index,
            arm=name,
            phase=position.phase,
            deadline_s=config.timeout_s if made else max(config.timeout_s, SETUP_TIMEOUT_S),
        )
        arm = Arm(name, default_group(), device, config.routing, config.user_arms)
        made = True
        progress.update(case_index=position.case_index, arm=name, phase=position.phase, deadline_s=config.timeout_s)
        return arm

    arms = _Arms(make)

    def shared_arm(cell: ArmProbe) -> Arm:
        try:
            return arms.get(cell.arm)
        except UserArmError as error:
            # By whichever rank it is that cannot: all of them are on this node.
            unmade = Finding(
                arm=cell.arm, probe=cell.probe, trials=1, failed=1, detail=str(error), broken=True, unmade=True
            )
            append_finding(findings, unmade)
            raise

    for index in range(spec.first, len(spec.arm_probes)):
        cell = spec.arm_probes[index]

        def at(trial: str, index: int = index, cell: ArmProbe = cell, deadline_s: float | None = None) -> None:
            where = " ".join(filter(None, (cell.probe, trial)))
            progress.update(case_index=index, arm=cell.arm, phase=where, deadline_s=deadline_s)

        at("", deadline_s=config.timeout_s)
        if cell.arm in given_up:
            finding = replace(given_up[cell.arm], probe=cell.probe)
        else:
            rig = Rig(
                cell=cell,
                device=device,
                device_spec=config.device_spec,
                control=control,
                shared_arm=partial(shared_arm, cell),
                new_arm=partial(arms.make, cell.arm),
                at=at,
                routes=config.routing,
            )
            try:
                RUN[cell.probe](rig)
                finding = rig.finding()
            except (Exception, SystemExit) as error:
                user_arm = of_arm(config.user_arms, cell.arm)
                raise error if user_arm is None else as_user_arm_error(user_arm, error) from error
        if control.rank == 0:
            append_finding(findings, finding)
        if finding.failed and PROBES[cell.probe].alone and cell.arm not in given_up:
            # It may have left the process unusable, destructors included; the launcher goes on with fresh ones.
            sys.stderr.flush()
            os._exit(ExitCode.OK)
        # Here, where an end that does not end well is this arm's.
        if index + 1 == len(spec.arm_probes) or spec.arm_probes[index + 1].arm != cell.arm:
            arms.close()

    dist.destroy_process_group()
    progress.finish()


def main(spec_file: str) -> None:
    """The process that torchrun starts."""
    spec = VerificationSpec.read(Path(spec_file))
    assert spec.scratch is not None
    run_rank(Path(spec.scratch), partial(prove, spec))


if __name__ == "__main__":
    main(sys.argv[1])
