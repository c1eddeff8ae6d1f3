"""Detects that this process is one of several ranks that torchrun, srun or mpirun started.

It reads only variables that a launcher sets for each rank. Other variables mislead: a batch script has SLURM_PROCID, a
pod has RANK and WORLD_SIZE, and a shell under ``srun --pty`` is a Slurm step. There, ``nccl-bench`` launches the ranks.
"""

from collections.abc import Mapping

from nccl_bench.errors import UsageError
from nccl_bench.launch.launchers import Attachment, Launcher, LauncherVariables

# The smallest id of Slurm's own steps: batch, extern, interactive (slurm.h: SLURM_BATCH_SCRIPT, ...).
_FIRST_SPECIAL_STEP = 0xFFFFFFF0
# The variable with a rank's number -> the variable with the number of ranks, for Open MPI and for Hydra.
_MPI_SIZES = {"OMPI_COMM_WORLD_RANK": "OMPI_COMM_WORLD_SIZE", "PMI_RANK": "PMI_SIZE"}


def choose_attachment(
    environ: Mapping[str, str], *, launch: bool, attach: bool, rdzv_endpoint: str | None
) -> Attachment | None:
    """Return the attachment to the ranks that this process joins, or ``None`` if it must launch ranks.

    ``attach`` forces an attachment, ``launch`` forces ``None``. Raises ``UsageError`` for both together, and
    for ``attach`` without ranks to join.
    """
    if launch and attach:
        raise UsageError("--launch and --attach exclude each other: give only one of them, or neither")
    if launch:
        return None
    attachment = detect_attachment(environ, rdzv_endpoint, single_task=attach)
    if attachment is None and attach:
        if "RANK" not in environ or "WORLD_SIZE" not in environ:
            raise UsageError(
                "--attach found no ranks to join: run nccl-bench under torchrun, srun or mpirun, or set RANK, "
                "WORLD_SIZE, LOCAL_RANK and MASTER_ADDR for each process"
            )
        return LauncherVariables(environ=environ, rdzv_endpoint=rdzv_endpoint).plain()
    return attachment


def detect_attachment(
    environ: Mapping[str, str], rdzv_endpoint: str | None = None, *, single_task: bool = False
) -> Attachment | None:
    """Return the attachment to the ranks started with this process, or ``None`` if it was started alone.

    ``rdzv_endpoint`` is where the ranks of srun and mpirun meet, HOST:PORT. A Slurm step with one task may be an
    interactive shell, so its process counts as a rank only if ``single_task`` is true.

    Raises:
        SetupError: A variable of the launcher is missing or malformed.
        UsageError: The ranks are on several nodes, and no variable or option says where they can meet.
    """
    variables = LauncherVariables(environ=environ, rdzv_endpoint=rdzv_endpoint)
    if "TORCHELASTIC_RUN_ID" in environ:
        return variables.torchrun()
    # In a Slurm job, mpirun starts its daemons with srun, so the ranks have the variables of mpirun and of srun.
    if "OMPI_COMM_WORLD_RANK" in environ:
        return variables.open_mpi()
    if "PMI_RANK" in environ and "MPI_LOCALRANKID" in environ:
        return variables.hydra()
    if _is_slurm_step(environ):
        return variables.srun() if single_task or variables.number("SLURM_STEP_NUM_TASKS", least=1) > 1 else None
    # PMI_RANK without MPI_LOCALRANKID: `hydra` raises an error that names the missing variable.
    return variables.hydra() if "PMI_RANK" in environ else None


def detect_launcher(environ: Mapping[str, str]) -> Launcher | None:
    """Return the launcher that started this process as one of several ranks. Values of variables are not checked."""
    # The variable with the number of ranks, for each launcher that has started this process.
    sizes = {
        Launcher.TORCHRUN: "WORLD_SIZE" if "TORCHELASTIC_RUN_ID" in environ else None,
        Launcher.MPIRUN: next((size for rank, size in _MPI_SIZES.items() if rank in environ), None),
        Launcher.SRUN: "SLURM_STEP_NUM_TASKS"
        if _is_slurm_step(environ) and "SLURM_STEP_NUM_TASKS" in environ
        else None,
    }
    return next((launcher for launcher, size in sizes.items() if size and environ.get(size) != "1"), None)


def describe_only_rank(attachment: Attachment) -> str | None:
    """Return a warning if ``attachment`` is the only rank of its launch; ``None`` otherwise."""
    if attachment.world_size > 1:
        return None
    return (
        f"{attachment.launcher} started this process as its only rank, so one rank is measured and nothing is sent. "
        "To measure all GPUs of this machine, add --launch: nccl-bench then starts one rank for each GPU. To measure "
        f"the ranks of {attachment.launcher}, start several"
    )


def _is_slurm_step(environ: Mapping[str, str]) -> bool:
    step = environ.get("SLURM_STEP_ID", "")
    return step.isdecimal() and int(step) < _FIRST_SPECIAL_STEP
