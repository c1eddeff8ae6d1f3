"""The process of one rank of a verification, started as ``python -m nccl_bench.verify.worker SPEC_FILE``."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.probes import PROBES
from nccl_bench.config.user_arms import user_arm_of
from nccl_bench.errors import ExitCode, UserArmError
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.ranks.joining import join
from nccl_bench.ranks.process import SETUP_INDEX, SETUP_TIMEOUT_S, default_group, destroy_group, run_rank
from nccl_bench.ranks.progress import Progress
from nccl_bench.safety.secrets import recordable
from nccl_bench.transports.device import Device, open_device
from nccl_bench.transports.versions import describe_versions
from nccl_bench.user_arms.building import as_user_arm_error
from nccl_bench.verify.findings import (
    Finding,
    Processes,
    append_finding,
    append_processes,
    find_given_up_arms,
    read_findings,
)
from nccl_bench.verify.probes import PROBE_FUNCTIONS
from nccl_bench.verify.rig import Rig
from nccl_bench.verify.spec import VerificationSpec


class _Arms:
    """The arms of this rank. Making an arm has a deadline. At most one arm is kept, which several probes share."""

    def __init__(self, spec: VerificationSpec, device: Device, progress: Progress) -> None:
        self._config, self._findings = spec.config, Path(spec.findings)
        self._device, self._progress = device, progress
        self._shared: Arm | None = None
        self._made_any = False

    def make(self, name: str) -> Arm:
        """Return a new arm. Collective."""
        timeout_s, position = self._config.timeout_s, self._progress.position
        update = partial(self._progress.update, case_index=position.case_index, arm=name, phase=position.phase)
        # The first communicator of a process takes longer: it loads libraries and makes connections.
        update(deadline_s=timeout_s if self._made_any else max(timeout_s, SETUP_TIMEOUT_S))
        arm = Arm(name, default_group(), self._device, self._config.routing, self._config.user_arms)
        self._made_any = True
        update(deadline_s=timeout_s)
        return arm

    def get_shared(self, arm_probe: ArmProbe) -> Arm:
        """Return the shared arm, made on first use. Collective. Call ``close_shared`` before you need another arm."""
        if self._shared is None:
            try:
                self._shared = self.make(arm_probe.arm)
            except UserArmError as error:
                # Any rank may write to this file, because all ranks of a verification are on one node.
                append_finding(self._findings, Finding.of_break(arm_probe, str(error), unmade=True))
                raise
        assert self._shared.name == arm_probe.arm
        return self._shared

    def close_shared(self) -> None:
        """Close the shared arm if there is one."""
        arm, self._shared = self._shared, None
        if arm is not None:
            arm.close()


def run_probes(spec: VerificationSpec, progress: Progress) -> None:
    """Do this rank's part of the probes in ``spec``."""
    config = spec.config
    setup = partial(progress.update, case_index=SETUP_INDEX, arm="", deadline_s=SETUP_TIMEOUT_S)
    setup(phase="connect")
    control = join(process_sets=1).own_set
    setup(phase="device")
    local_rank = int(os.environ["LOCAL_RANK"])
    device = open_device(config.device, local_rank, config.nccl_library, arm_library=spec.library, sharing=True)
    device, _ = device.with_binding(config.transport, control)
    findings = Path(spec.findings)
    if control.rank == 0:
        append_processes(findings, _describe_processes(spec, device))
    given_up = find_given_up_arms(read_findings(findings))
    arms = _Arms(spec, device, progress)

    for index in range(spec.first, len(spec.arm_probes)):
        arm_probe = spec.arm_probes[index]
        update = partial(progress.update, case_index=index, arm=arm_probe.arm)
        update(phase=arm_probe.probe, deadline_s=config.timeout_s)
        if arm_probe.arm in given_up:
            finding = replace(given_up[arm_probe.arm], probe=arm_probe.probe)
        else:
            rig = Rig(
                arm_probe=arm_probe,
                device=device,
                device_spec=config.device_spec,
                control=control,
                get_shared_arm=partial(arms.get_shared, arm_probe),
                make_arm=partial(arms.make, arm_probe.arm),
                announce_trial=partial(_announce_trial, update, arm_probe.probe),
                routes=config.routing,
            )
            try:
                PROBE_FUNCTIONS[arm_probe.probe](rig)
                finding = rig.make_finding()
            except (Exception, SystemExit) as error:
                user_arm = user_arm_of(config.user_arms, arm_probe.arm)
                raise error if user_arm is None else as_user_arm_error(user_arm, error) from error
        if control.rank == 0:
            append_finding(findings, finding)
        if finding.failed and PROBES[arm_probe.probe].ends_processes and arm_probe.arm not in given_up:
            # The process can be unusable now, and its destructors can hang. The launcher continues with new processes.
            sys.stderr.flush()
            os._exit(ExitCode.SETUP)
        # Close the arm while the position still names it, so that a crash during the close is blamed on this arm.
        if index + 1 == len(spec.arm_probes) or spec.arm_probes[index + 1].arm != arm_probe.arm:
            arms.close_shared()

    destroy_group(default_group())
    progress.finish()


def _describe_processes(spec: VerificationSpec, device: Device) -> Processes:
    user_arm = spec.user_arm
    return Processes(
        arms=tuple(dict.fromkeys(arm_probe.arm for arm_probe in spec.arm_probes)),
        python=user_arm.python if user_arm else None,
        library=spec.library,
        variables=recordable(user_arm.variables) if user_arm else {},
        versions=describe_versions(device),
    )


def _announce_trial(update: Callable[..., None], probe: str, trial: str) -> None:
    update(phase=f"{probe} {trial}", deadline_s=None)


def main(spec_file: str) -> None:
    """Run one rank as the specification in ``spec_file`` says."""
    spec = VerificationSpec.read(Path(spec_file))
    assert spec.scratch is not None
    run_rank(Path(spec.scratch), partial(run_probes, spec))


if __name__ == "__main__":
    main(sys.argv[1])
