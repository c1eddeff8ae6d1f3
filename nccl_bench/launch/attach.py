"""Joining ranks that somebody else started: an outer torchrun, srun or mpirun. No torch.

Only the marks that a launcher leaves on each rank it starts count. A batch script has SLURM_PROCID, a pod has RANK and
WORLD_SIZE, and a shell under ``srun --pty`` has a whole Slurm step around it, yet in each of them one process runs
``nccl-bench`` and wants ranks launched.
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

# Slurm's own steps (batch, extern, interactive, ...) have ids from here on: slurm.h, SLURM_BATCH_SCRIPT and others.
_FIRST_SPECIAL_STEP = 0xFFFFFFF0
# torch.distributed.run's --master-port.
_DEFAULT_PORT = 29500
_DERIVED_PORTS = range(20000, 30000)


class Launcher(StrEnum):
    """Who started the ranks."""

    TORCHRUN = "torchrun"
    SRUN = "srun"
    MPIRUN = "mpirun"
    ENVIRONMENT = "environment"  # RANK and WORLD_SIZE alone, taken only where --attach asks for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """This process's place among the ranks; ``None`` where the launcher does not say."""

    source: Launcher
    rank: int
    world_size: int
    local_rank: int
    local_world_size: int | None
    nodes: int | None
    master_addr: str
    master_port: int


def choose_attachment(
    environ: Mapping[str, str], *, launch: bool, attach: bool, rdzv_endpoint: str | None
) -> Attachment | None:
    """The ranks to join, or ``None`` to launch some.

    ``launch`` and ``attach`` are the options that force either one. Raises ``UsageError`` for both at once, and for
    ``attach`` where there is nothing to join.
    """
    if launch and attach:
        raise UsageError("--launch and --attach exclude each other: give one of them, or neither")
    if launch:
        return None
    found = detect_attachment(environ, rdzv_endpoint, lone=attach)
    if found is None and attach:
        if "RANK" not in environ or "WORLD_SIZE" not in environ:
            raise UsageError(
                "--attach found no ranks to join: run it under torchrun, srun or mpirun, or set RANK, WORLD_SIZE, "
                "LOCAL_RANK and MASTER_ADDR for each process"
            )
        return _Reader(environ=environ, rdzv_endpoint=rdzv_endpoint).plain()
    return found


def detect_attachment(
    environ: Mapping[str, str], rdzv_endpoint: str | None = None, *, lone: bool = False
) -> Attachment | None:
    """The ranks this process was started among, or ``None``.

    ``rdzv_endpoint`` is where srun's and mpirun's ranks meet, HOST:PORT. A Slurm step of one task is joined only with
    ``lone``: it is how interactive shells are started. Raises ``SetupError`` for a launcher's variable that is missing
    or malformed, and ``UsageError`` where ranks on several nodes have no place to meet.
    """
    reader = _Reader(environ=environ, rdzv_endpoint=rdzv_endpoint)
    if "TORCHELASTIC_RUN_ID" in environ:
        return reader.torchrun()
    # mpirun within a Slurm job starts its daemons with srun, so its ranks have both kinds of marks.
    if "OMPI_COMM_WORLD_RANK" in environ:
        return reader.open_mpi()
    if "PMI_RANK" in environ and "MPI_LOCALRANKID" in environ:
        return reader.hydra()
    step = environ.get("SLURM_STEP_ID", "")
    if step.isdecimal() and int(step) < _FIRST_SPECIAL_STEP:
        return reader.srun() if lone or reader.number("SLURM_STEP_NUM_TASKS", least=1) > 1 else None
    # What is left is a launcher that says PMI_RANK and not MPI_LOCALRANKID, and is told so.
    return reader.hydra() if "PMI_RANK" in environ else None


def detect_launcher(environ: Mapping[str, str]) -> Launcher | None:
    """Who started this process as one of several ranks, if somebody did; its variables are not looked into."""
    step = environ.get("SLURM_STEP_ID", "")
    marks = {
        Launcher.TORCHRUN: "TORCHELASTIC_RUN_ID" in environ,
        Launcher.MPIRUN: "OMPI_COMM_WORLD_RANK" in environ or "PMI_RANK" in environ,
        Launcher.SRUN: step.isdecimal()
        and int(step) < _FIRST_SPECIAL_STEP
        and environ.get("SLURM_STEP_NUM_TASKS", "1") != "1",
    }
    return next((source for source, marked in marks.items() if marked), None)


def rendezvous_variables(attachment: Attachment) -> dict[str, str]:
    """The variables that ``torch.distributed``'s ``env://`` reads; no LOCAL_WORLD_SIZE where it is not known."""
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
class _Reader:
    """One launcher's variables each, checked."""

    environ: Mapping[str, str] = field(repr=False)
    rdzv_endpoint: str | None

    def torchrun(self) -> Attachment:
        return self._ready(Launcher.TORCHRUN, self.number("LOCAL_WORLD_SIZE", least=1))

    def plain(self) -> Attachment:
        local = self.number("LOCAL_WORLD_SIZE", least=1) if "LOCAL_WORLD_SIZE" in self.environ else None
        return self._ready(Launcher.ENVIRONMENT, local)

    def srun(self) -> Attachment:
        nodes = self.number(
            "SLURM_STEP_NUM_NODES" if "SLURM_STEP_NUM_NODES" in self.environ else "SLURM_NNODES", least=1
        )
        world_size = self.number("SLURM_STEP_NUM_TASKS", least=1)
        return self._place(
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
        return self._place(
            Launcher.MPIRUN,
            rank=names.format("RANK"),
            world_size=world_size,
            local_rank=local_rank,
            local_world_size=local_world_size,
            nodes=-(-world_size // local_world_size),
            # One daemon starts all ranks of a node.
            identity=identity or str(os.getppid()),
        )

    def _place(
        self,
        source: Launcher,
        *,
        rank: str,
        world_size: int,
        local_rank: str,
        local_world_size: int | None,
        nodes: int,
        identity: str,
    ) -> Attachment:
        master_addr, master_port = self._meeting_place(source, nodes, identity)
        return Attachment(
            source=source,
            rank=self.number(rank, least=0, below=world_size),
            world_size=world_size,
            local_rank=self.number(local_rank, least=0, below=local_world_size or world_size),
            local_world_size=local_world_size,
            nodes=nodes,
            master_addr=master_addr,
            master_port=master_port,
        )

    def _ready(self, source: Launcher, local_world_size: int | None) -> Attachment:
        """Variables that are torch's already, the meeting place among them."""
        if self.rdzv_endpoint is not None:
            raise UsageError(
                f"--rdzv-endpoint is {self.rdzv_endpoint!r}, but these ranks meet at MASTER_ADDR and MASTER_PORT, "
                "which are set: leave the option out"
            )
        world_size = self.number("WORLD_SIZE", least=1)
        return Attachment(
            source=source,
            rank=self.number("RANK", least=0, below=world_size),
            world_size=world_size,
            local_rank=self.number("LOCAL_RANK", least=0, below=local_world_size or world_size),
            local_world_size=local_world_size,
            nodes=-(-world_size // local_world_size) if local_world_size else None,
            master_addr=self.text("MASTER_ADDR"),
            master_port=self._port(),
        )

    def _meeting_place(self, source: Launcher, nodes: int, identity: str) -> tuple[str, int]:
        if self.rdzv_endpoint is not None:
            return parse_endpoint(self.rdzv_endpoint)
        address = self.environ.get("MASTER_ADDR")
        if address:
            return address, self._port()
        if nodes > 1:
            raise UsageError(
                f"{source} started ranks on {nodes} nodes and none of them knows where rank 0 is: give "
                "--rdzv-endpoint HOST:PORT, or set MASTER_ADDR, with the host of rank 0"
            )
        derived = _DERIVED_PORTS[zlib.crc32(identity.encode()) % len(_DERIVED_PORTS)]
        return "127.0.0.1", self._port() if "MASTER_PORT" in self.environ else derived

    def _port(self) -> int:
        return self.number("MASTER_PORT", least=1, below=65536) if "MASTER_PORT" in self.environ else _DEFAULT_PORT

    def _tasks_on_this_node(self) -> int | None:
        """This node's part of SLURM_STEP_TASKS_PER_NODE, which reads as ``8(x2),4``."""
        tasks = self.environ.get("SLURM_STEP_TASKS_PER_NODE")
        if tasks is None or "SLURM_NODEID" not in self.environ:
            return None
        counts: list[int] = []
        for part in tasks.split(","):
            match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
            if match is None:
                raise SetupError(f"SLURM_STEP_TASKS_PER_NODE is {tasks!r}: it should read as '8(x2),4'")
            counts += [int(match[1])] * int(match[2] or 1)
        return counts[self.number("SLURM_NODEID", least=0, below=len(counts))]

    def text(self, name: str) -> str:
        value = self.environ.get(name)
        if not value:
            raise SetupError(
                f"{name} is not set, although its neighbours are: start each rank with the same launcher, or give "
                "--launch to start ranks from here"
            )
        return value

    def number(self, name: str, *, least: int, below: int | None = None) -> int:
        text = self.text(name)
        value = int(text) if text.isdecimal() else -1
        if value < least or (below is not None and value >= below):
            allowed = f"from {least}" + (f" to {below - 1}" if below is not None else "")
            raise SetupError(
                f"{name} is {text!r}: it has to be a whole number {allowed}; if no launcher set it, give --launch to "
                "start ranks from here"
            )
        return value
