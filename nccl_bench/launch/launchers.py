"""Reads a process's rank, node and master from the variables that torchrun, srun and mpirun set."""

import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from nccl_bench.errors import SetupError, UsageError
from nccl_bench.launch.config import parse_endpoint

# The default of torch.distributed.run's --master-port.
_DEFAULT_PORT = 29500
_DERIVED_PORTS = range(20000, 30000)


class Launcher(StrEnum):
    """The program that started the ranks."""

    TORCHRUN = "torchrun"
    SRUN = "srun"
    MPIRUN = "mpirun"
    ENVIRONMENT = "environment"  # an unknown program, which set RANK and WORLD_SIZE; only with --attach


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """The rank of this process among the ranks that another launcher started."""

    launcher: Launcher  # the program that started the ranks
    rank: int  # the number of this rank, from 0 to world_size - 1
    world_size: int  # the number of ranks on all nodes
    local_rank: int  # the number of this rank on its node, from 0
    local_world_size: int | None  # the number of ranks on this node; None if the launcher does not set it
    nodes: int | None  # the number of nodes; None if the launcher does not set it
    master_addr: str  # the host of rank 0
    master_port: int  # the port of rank 0

    @property
    def torch_variables(self) -> dict[str, str]:
        """The variables that torch.distributed's ``env://`` reads, and LOCAL_WORLD_SIZE if it is known."""
        variables = {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_RANK": str(self.local_rank),
            "MASTER_ADDR": self.master_addr,
            "MASTER_PORT": str(self.master_port),
        }
        if self.local_world_size is not None:
            variables["LOCAL_WORLD_SIZE"] = str(self.local_world_size)
        return variables


@dataclass(frozen=True, slots=True, kw_only=True)
class LauncherVariables:
    """The variables that launchers set. For each launcher, one method reads and checks its variables."""

    environ: Mapping[str, str] = field(repr=False)  # the environment of this process
    rdzv_endpoint: str | None  # --rdzv-endpoint, HOST:PORT; None if it was not given

    def torchrun(self) -> Attachment:
        """Return the attachment of a rank that torchrun started."""
        return self._from_torch(Launcher.TORCHRUN, self.number("LOCAL_WORLD_SIZE", least=1))

    def plain(self) -> Attachment:
        """Return the attachment of a rank that has only torch's own variables."""
        local = self.number("LOCAL_WORLD_SIZE", least=1) if "LOCAL_WORLD_SIZE" in self.environ else None
        return self._from_torch(Launcher.ENVIRONMENT, local)

    def srun(self) -> Attachment:
        """Return the attachment of a rank that srun started."""
        nodes = self.number(
            "SLURM_STEP_NUM_NODES" if "SLURM_STEP_NUM_NODES" in self.environ else "SLURM_NNODES", least=1
        )
        world_size = self.number("SLURM_STEP_NUM_TASKS", least=1)
        step = f"{self.text('SLURM_JOB_ID')}.{self.text('SLURM_STEP_ID')}"
        return self._attachment(
            Launcher.SRUN,
            rank="SLURM_PROCID",
            world_size=world_size,
            local_rank="SLURM_LOCALID",
            local_world_size=world_size if nodes == 1 else self._tasks_on_this_node(),
            nodes=nodes,
            master=self._choose_master(Launcher.SRUN, nodes, step),
        )

    def open_mpi(self) -> Attachment:
        """Return the attachment of a rank that Open MPI's mpirun started."""
        namespace = self.environ.get("PMIX_NAMESPACE") or self.environ.get("OMPI_MCA_ess_base_jobid")
        return self._mpi("OMPI_COMM_WORLD_{}", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE", namespace)

    def hydra(self) -> Attachment:
        """Return the attachment of a rank that the mpirun of MPICH or Intel MPI started."""
        return self._mpi("PMI_{}", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", self.environ.get("PMIX_NAMESPACE"))

    def _mpi(self, names: str, local_rank: str, local_size: str, job: str | None) -> Attachment:
        world_size = self.number(names.format("SIZE"), least=1)
        local_world_size = self.number(local_size, least=1)
        nodes = -(-world_size // local_world_size)
        return self._attachment(
            Launcher.MPIRUN,
            rank=names.format("RANK"),
            world_size=world_size,
            local_rank=local_rank,
            local_world_size=local_world_size,
            nodes=nodes,
            # The parent process, mpirun's daemon, is the same for all ranks of a node.
            master=self._choose_master(Launcher.MPIRUN, nodes, job or str(os.getppid())),
        )

    def _from_torch(self, launcher: Launcher, local_world_size: int | None) -> Attachment:
        """Return the attachment of a rank from torch's own variables, MASTER_ADDR included."""
        if self.rdzv_endpoint is not None:
            raise UsageError(
                f"--rdzv-endpoint is {self.rdzv_endpoint!r}, but these ranks already meet at MASTER_ADDR and "
                "MASTER_PORT: leave the option out"
            )
        world_size = self.number("WORLD_SIZE", least=1)
        return self._attachment(
            launcher,
            rank="RANK",
            world_size=world_size,
            local_rank="LOCAL_RANK",
            local_world_size=local_world_size,
            nodes=-(-world_size // local_world_size) if local_world_size else None,
            master=(self.text("MASTER_ADDR"), self._port()),
        )

    def _attachment(
        self,
        launcher: Launcher,
        *,
        rank: str,
        world_size: int,
        local_rank: str,
        local_world_size: int | None,
        nodes: int | None,
        master: tuple[str, int],
    ) -> Attachment:
        """Return the attachment of a rank; ``rank`` and ``local_rank`` are names of variables."""
        return Attachment(
            launcher=launcher,
            rank=self.number(rank, least=0, below=world_size),
            world_size=world_size,
            local_rank=self.number(local_rank, least=0, below=local_world_size or world_size),
            local_world_size=local_world_size,
            nodes=nodes,
            master_addr=master[0],
            master_port=master[1],
        )

    def _choose_master(self, launcher: Launcher, nodes: int, job: str) -> tuple[str, int]:
        """Return the host and the port where the ranks meet. On one node the job's name determines the port."""
        if self.rdzv_endpoint is not None:
            return parse_endpoint(self.rdzv_endpoint)
        address = self.environ.get("MASTER_ADDR")
        if address:
            return address, self._port()
        if nodes > 1:
            raise UsageError(
                f"{launcher} started ranks on {nodes} nodes, and the host of rank 0 is unknown: give --rdzv-endpoint "
                "HOST:PORT, or set MASTER_ADDR, with the host of rank 0"
            )
        derived = _DERIVED_PORTS[zlib.crc32(job.encode()) % len(_DERIVED_PORTS)]
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
        """Return the value of a variable; raise ``SetupError`` if it is not set."""
        value = self.environ.get(name)
        if not value:
            raise SetupError(
                f"{name} is not set, although other variables of the same launcher are set: set {name} "
                "for each rank, or give --launch to start ranks from this process"
            )
        return value

    def number(self, name: str, *, least: int, below: int | None = None) -> int:
        """Return a variable as an integer from ``least`` to ``below`` - 1; raise ``SetupError`` for another value."""
        text = self.text(name)
        value = int(text) if text.isdecimal() else -1
        if value < least or (below is not None and value >= below):
            allowed = f"from {least}" + (f" to {below - 1}" if below is not None else "")
            raise SetupError(
                f"{name} is {text!r}: it must be a whole number {allowed}; if no launcher set this variable, give "
                "--launch to start ranks from this process"
            )
        return value
