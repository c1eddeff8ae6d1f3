"""Detects that this process is one of several ranks that torchrun, srun or mpirun started. No torch.

Only variables that a launcher sets for each rank count. A batch script has SLURM_PROCID, a pod has RANK and WORLD_SIZE,
and a shell under ``srun --pty`` is a whole Slurm step. Yet in each of them a single process runs ``nccl-bench``, which
must launch the ranks itself.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from nccl_bench.errors import SetupError, UsageError
from nccl_bench.launch.torchrun import parse_endpoint

# Slurm's own steps (batch, extern, interactive, ...) have ids from this one on: slurm.h, SLURM_BATCH_SCRIPT and others.
_FIRST_SPECIAL_STEP = 0xFFFFFFF0
# torch.distributed.run's --master-port.
_DEFAULT_PORT = 29500
_DERIVED_PORTS = range(20000, 30000)


class Launcher(StrEnum):
    """The program that started the ranks."""

    TORCHRUN = "torchrun"
    SRUN = "srun"
    MPIRUN = "mpirun"
    ENVIRONMENT = "environment"  # RANK and WORLD_SIZE alone, which count only with --attach


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """The place of this process among ranks that another launcher started."""

    launcher: Launcher
    rank: int
    world_size: int
    local_rank: int
    local_world_size: int | None  # the number of ranks on this node; None if the launcher does not set it
    nodes: int | None  # None if the launcher does not set it
    master_addr: str  # the host of rank 0
    master_port: int


def choose_attachment(
    environ: Mapping[str, str], *, launch: bool, attach: bool, rdzv_endpoint: str | None
) -> Attachment | None:
    """Return the place among ranks to join, or ``None`` to launch ranks.

    ``launch`` and ``attach`` are the options that force either. Raises ``UsageError`` for both together, and for
    ``attach`` if there are no ranks to join.
    """
    if launch and attach:
        raise UsageError("--launch and --attach exclude each other: give only one of them, or neither")
    if launch:
        return None
    attachment = detect_attachment(environ, rdzv_endpoint, single_task=attach)
    if attachment is None and attach:
        if "RANK" not in environ or "WORLD_SIZE" not in environ:
            raise UsageError(
                "--attach found no ranks to join: run it under torchrun, srun or mpirun, or set RANK, WORLD_SIZE, "
                "LOCAL_RANK and MASTER_ADDR for each process"
            )
        return _LauncherVariables(environ=environ, rdzv_endpoint=rdzv_endpoint).plain()
    return attachment


def detect_attachment(
    environ: Mapping[str, str], rdzv_endpoint: str | None = None, *, single_task: bool = False
) -> Attachment | None:
    """Return the place of this process among the ranks it was started with, or ``None`` if it was started alone.

    ``rdzv_endpoint`` is where the ranks of srun and mpirun meet, HOST:PORT. A Slurm step with one task counts only with
    ``single_task``, since interactive shells are started that way.

    Raises:
        SetupError: A variable of the launcher is missing or malformed.
        UsageError: The ranks are on several nodes, and nothing says where they can meet.
    """
    variables = _LauncherVariables(environ=environ, rdzv_endpoint=rdzv_endpoint)
    if "TORCHELASTIC_RUN_ID" in environ:
        return variables.torchrun()
    # In a Slurm job, mpirun starts its daemons with srun, so its ranks have the variables of both.
    if "OMPI_COMM_WORLD_RANK" in environ:
        return variables.open_mpi()
    if "PMI_RANK" in environ and "MPI_LOCALRANKID" in environ:
        return variables.hydra()
    step = environ.get("SLURM_STEP_ID", "")
    if step.isdecimal() and int(step) < _FIRST_SPECIAL_STEP:
        return variables.srun() if single_task or variables.number("SLURM_STEP_NUM_TASKS", least=1) > 1 else None
    # PMI_RANK without MPI_LOCALRANKID: `hydra` raises an error that names the missing variable.
    return variables.hydra() if "PMI_RANK" in environ else None


def detect_launcher(environ: Mapping[str, str]) -> Launcher | None:
    """Return the launcher that started this process as one of several ranks, without a check of its variables."""
    step = environ.get("SLURM_STEP_ID", "")
    signs = {
        Launcher.TORCHRUN: "TORCHELASTIC_RUN_ID" in environ,
        Launcher.MPIRUN: "OMPI_COMM_WORLD_RANK" in environ or "PMI_RANK" in environ,
        Launcher.SRUN: step.isdecimal()
        and int(step) < _FIRST_SPECIAL_STEP
        and environ.get("SLURM_STEP_NUM_TASKS", "1") != "1",
    }
    return next((launcher for launcher, seen in signs.items() if seen), None)


def rendezvous_variables(attachment: Attachment) -> dict[str, str]:
    """Return the variables that torch.distributed's ``env://`` reads, and LOCAL_WORLD_SIZE if it is known."""
    variables = {
        "RANK": str(attachment.rank),
        "WORLD_SIZE": str(attachment.world_size),
        "LOCAL_RANK": str(attachment.local_rank),
        "MASTER_ADDR": attachment.master_addr,
        "MASTER_PORT": str(attachment.master_port),
    }
    if attachment.local_world_size is not None:
        variables["LOCAL_WORLD_SIZE"] = str(attachment.local_world_size)
    return variables


@dataclass(frozen=True, slots=True, kw_only=True)
class _LauncherVariables:
    """The environment, with one method for each launcher that reads and checks its variables."""

    environ: Mapping[str, str] = field(repr=False)
    rdzv_endpoint: str | None

    def torchrun(self) -> Attachment:
        return self._torch_variables(Launcher.TORCHRUN, self.number("LOCAL_WORLD_SIZE", least=1))

    def plain(self) -> Attachment:
        local = self.number("LOCAL_WORLD_SIZE", least=1) if "LOCAL_WORLD_SIZE" in self.environ else None
        return self._torch_variables(Launcher.ENVIRONMENT, local)

    def srun(self) -> Attachment:
        nodes = self.number(
            "SLURM_STEP_NUM_NODES" if "SLURM_STEP_NUM_NODES" in self.environ else "SLURM_NNODES", least=1
        )
        world_size = self.number("SLURM_STEP_NUM_TASKS", least=1)
        return self._attachment(
            Launcher.SRUN,
            rank="SLURM_PROCID",
            world_size=world_size,
            local_rank="SLURM_LOCALID",
            local_world_size=world_size if nodes == 1 else self._tasks_on_this_node(),
            nodes=nodes,
            identity=f"{self.text('SLURM_JOB_ID')}.{self.text('SLURM_STEP_ID')}",
        )

    def open_mpi(self) -> Attachment:
        namespace = self.environ.get("PMIX_NAMESPACE") or self.environ.get("OMPI_MCA_ess_base_jobid")
        return self._mpi("OMPI_COMM_WORLD_{}", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE", namespace)

    def hydra(self) -> Attachment:
        return self._mpi("PMI_{}", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", self.environ.get("PMIX_NAMESPACE"))

    def _mpi(self, names: str, local_rank: str, local_size: str, identity: str | None) -> Attachment:
        world_size = self.number(names.format("SIZE"), least=1)
        local_world_size = self.number(local_size, least=1)
        return self._attachment(
            Launcher.MPIRUN,
            rank=names.format("RANK"),
            world_size=world_size,
            local_rank=local_rank,
            local_world_size=local_world_size,
            nodes=-(-world_size // local_world_size),
            # Its daemon is the parent of all ranks of a node.
            identity=identity or str(os.getppid()),
        )

    def _attachment(
        self,
        launcher: Launcher,
        *,
        rank: str,
        world_size: int,
        local_rank: str,
        local_world_size: int | None,
        nodes: int,
        identity: str,
    ) -> Attachment:
        master_addr, master_port = self._meeting_place(launcher, nodes, identity)
        return Attachment(
            launcher=launcher,
            rank=self.number(rank, least=0, below=world_size),
            world_size=world_size,
            local_rank=self.number(local_rank, least=0, below=local_world_size or world_size),
            local_world_size=local_world_size,
            nodes=nodes,
            master_addr=master_addr,
            master_port=master_port,
        )

    def _torch_variables(self, launcher: Launcher, local_world_size: int | None) -> Attachment:
        """Return the attachment from variables that are already torch's, MASTER_ADDR included."""
        if self.rdzv_endpoint is not None:
            raise UsageError(
                f"--rdzv-endpoint is {self.rdzv_endpoint!r}, but these ranks already meet at MASTER_ADDR and "
                "MASTER_PORT: leave the option out"
            )
        world_size = self.number("WORLD_SIZE", least=1)
        return Attachment(
            launcher=launcher,
            rank=self.number("RANK", least=0, below=world_size),
            world_size=world_size,
            local_rank=self.number("LOCAL_RANK", least=0, below=local_world_size or world_size),
            local_world_size=local_world_size,
            nodes=-(-world_size // local_world_size) if local_world_size else None,
            master_addr=self.text("MASTER_ADDR"),
            master_port=self._port(),
        )

    def _meeting_place(self, launcher: Launcher, nodes: int, identity: str) -> tuple[str, int]:
        if self.rdzv_endpoint is not None:
            return parse_endpoint(self.rdzv_endpoint)
        address = self.environ.get("MASTER_ADDR")
        if address:
            return address, self._port()
        if nodes > 1:
            raise UsageError(
                f"{launcher} started ranks on {nodes} nodes, and nothing says where rank 0 is: give --rdzv-endpoint "
                "HOST:PORT, or set MASTER_ADDR, with the host of rank 0"
            )
        derived = _DERIVED_PORTS[zlib.crc32(identity.encode()) % len(_DERIVED_PORTS)]
        return "127.0.0.1", self._port() if "MASTER_PORT" in self.environ else derived

    def _port(self) -> int:
        return self.number("MASTER_PORT", least=1, below=65536) if "MASTER_PORT" in self.environ else _DEFAULT_PORT

    def _tasks_on_this_node(self) -> int | None:
        """Return this node's entry of SLURM_STEP_TASKS_PER_NODE, which has the form ``8(x2),4``."""
        tasks = self.environ.get("SLURM_STEP_TASKS_PER_NODE")
        if tasks is None or "SLURM_NODEID" not in self.environ:
            return None
        counts: list[int] = []
        for part in tasks.split(","):
            match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
            if match is None:
                raise SetupError(f"SLURM_STEP_TASKS_PER_NODE is {tasks!r}: the allowed form is '8(x2),4'")
            counts += [int(match[1])] * int(match[2] or 1)
        return counts[self.number("SLURM_NODEID", least=0, below=len(counts))]

    def text(self, name: str) -> str:
        value = self.environ.get(name)
        if not value:
            raise SetupError(
                f"{name} is not set, although others of the same launcher are: start each rank with it, "
                "or give --launch to start ranks from this process"
            )
        return value

    def number(self, name: str, *, least: int, below: int | None = None) -> int:
        text = self.text(name)
        value = int(text) if text.isdecimal() else -1
        if value < least or (below is not None and value >= below):
            allowed = f"from {least}" + (f" to {below - 1}" if below is not None else "")
            raise SetupError(
                f"{name} is {text!r}: it must be a whole number {allowed}; if no launcher set it, give --launch to "
                "start ranks from this process"
            )
        return value
