"""Slurm: whether this shell is inside a job, and on a node of the job."""

from collections.abc import Iterator

from nccl_bench.doctor.diagnosis import Diagnosis, changes, fine
from nccl_bench.doctor.machine import Machine

_SHELL = "srun --gpus-per-node=8 --cpus-per-task=16 --pty bash"


def examine_slurm(machine: Machine) -> Iterator[Diagnosis]:
    """Yield how this shell is related to Slurm."""
    job = machine.environ.get("SLURM_JOB_ID")
    if job is None:
        if not machine.has_program("srun"):
            yield fine("not installed")
        elif machine.gpus:
            yield fine("installed, and this shell is in no job")
        else:
            yield changes(
                "Slurm is installed, this shell is in no job, and there is no GPU",
                "This may be a login node. A run here measures its CPU.",
                _SHELL,
            )
        return
    node = machine.environ.get("SLURMD_NODENAME")
    if node is None:
        yield changes(
            f"this shell is in job {job}, and on no node of the job that Slurm names",
            "A run that is not started with srun measures the machine of this shell, not that of the job.",
            "srun nccl-bench run   # see nccl-bench guide slurm",
        )
        return
    tasks = machine.environ.get("SLURM_STEP_NUM_TASKS", "1")
    how = f"srun has started {tasks} ranks" if tasks != "1" else "nccl-bench starts the ranks itself"
    yield fine(f"job {job} on node {node}: {how}")
