"""Starts ranks with torchrun, which is a process of its own, and makes sure that all ranks end."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nccl_bench.errors import SetupError, UsageError
from nccl_bench.ranks.spec import LaunchSpec

_ROOT = Path(__file__).resolve().parents[2]
# By default torchrun waits 30 s between SIGTERM and SIGKILL; an interrupted run should end within a few seconds.
_SHUTDOWN_S = 2
# A process that SIGKILL does not end in this time is stuck in a driver. A longer wait does not help.
_UNKILLABLE_S = 30


def parse_endpoint(text: str) -> tuple[str, int]:
    """Return the host and the port of ``HOST:PORT`` or ``[ADDRESS]:PORT``; raise ``UsageError`` for other texts."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"--rdzv-endpoint is {text!r}: give HOST:PORT, for example node0:29500")
    return host, int(port)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchConfig:
    """The ranks to start on this node. Raises ``UsageError`` for values that are not allowed together."""

    nproc: int  # the number of ranks on each node
    nnodes: int = 1  # the number of nodes
    node_rank: int = 0  # the number of this node, from 0
    rdzv_endpoint: str | None = None  # the address where several nodes meet, HOST:PORT; None on one node
    worker: str = "nccl_bench.bench.worker"  # the module that each rank runs

    def __post_init__(self) -> None:
        if self.nproc < 1:
            raise UsageError(f"--nproc is {self.nproc}: it must be at least 1")
        if self.nnodes < 1:
            raise UsageError(f"--nnodes is {self.nnodes}: it must be at least 1")
        if not 0 <= self.node_rank < self.nnodes:
            raise UsageError(
                f"--node-rank is {self.node_rank}: with --nnodes {self.nnodes} it is 0 to {self.nnodes - 1}"
            )
        if self.rdzv_endpoint is not None:
            parse_endpoint(self.rdzv_endpoint)
        elif self.nnodes > 1:
            raise UsageError(
                f"--nnodes is {self.nnodes} and there is no address where the nodes can meet: give each node "
                "--rdzv-endpoint HOST:PORT with the host of node 0"
            )

    def command(self, spec: Path, logs: Path, attempt: int) -> list[str]:
        """Return torchrun's command line for launch number ``attempt`` of a run, counted from 0."""
        if self.nnodes == 1:
            # Without --local-addr the ranks connect by the host's name, which a container may be unable to resolve.
            meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--rdzv-id", uuid.uuid4().hex]
            meeting += ["--local-addr", "127.0.0.1"]
        else:
            assert self.rdzv_endpoint is not None
            host, port = parse_endpoint(self.rdzv_endpoint)
            # Only the static backend puts rank 0 on node 0. The last launch may still use its port.
            meeting = ["--rdzv-backend", "static", "--master-addr", host, "--master-port", str(port + attempt)]
            meeting += ["--rdzv-id", f"nccl-bench-{attempt}", "--node-rank", str(self.node_rank)]
        return [
            *(sys.executable, "-m", "torch.distributed.run"),
            *("--nproc-per-node", str(self.nproc), "--nnodes", str(self.nnodes), *meeting),
            *("--max-restarts", "0", "--redirects", "3", "--log-dir", str(logs)),
            *("-m", self.worker, str(spec)),
        ]


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for torchrun and its ranks, made from ``environ``."""
    # PET_* are torchrun's options in the pod of a PyTorchJob, and PET_RDZV_ENDPOINT would override --master-addr.
    variables = {name: value for name, value in environ.items() if not name.startswith("PET_")}
    variables.setdefault("OMP_NUM_THREADS", "1")
    variables.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_SHUTDOWN_S))
    if _ROOT.name not in ("site-packages", "dist-packages"):
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), variables.get("PYTHONPATH"))))
    return variables


class Job:
    """A torchrun process and its ranks. The constructor starts them, and all write their files into ``scratch``."""

    def __init__(self, launch: LaunchConfig, spec: LaunchSpec, attempt: int) -> None:
        assert spec.scratch is not None
        self.scratch = Path(spec.scratch)
        self._worker = launch.worker
        self._spec = self.scratch / "spec.json"
        spec.write(self._spec)
        with (self.scratch / "torchrun.log").open("wb") as log:
            self._torchrun = subprocess.Popen(
                launch.command(self._spec, self.scratch / "logs", attempt),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=worker_environment(os.environ),
                # Ctrl-C in a terminal must reach only the launcher, which then ends its ranks.
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """Return torchrun's exit code, or ``None`` while it runs."""
        return self._torchrun.poll()

    def processes(self) -> list[int]:
        """Return the ids of the processes that still run and name this job's specification in their command line."""
        ids = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            # The process may end at any moment; the command line of a zombie is empty.
            with suppress(OSError):
                words = path.read_bytes().decode(errors="replace").split("\0")
                if self._worker in words and str(self._spec) in words:
                    ids.append(int(path.parent.name))
        return ids

    def stop(self) -> None:
        """End torchrun and every rank, with SIGKILL after about two seconds. Return when all are gone.

        Raises ``SetupError`` if even SIGKILL does not end a process.
        """
        if self.poll() is None:
            self._torchrun.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._torchrun.wait(_SHUTDOWN_S)
        if self.poll() is None:
            os.killpg(self._torchrun.pid, signal.SIGKILL)
        give_up = time.monotonic() + _UNKILLABLE_S
        while self.poll() is None or self.processes():
            left = self.processes()
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > give_up:
                raise SetupError(f"the processes {left} do not end even after SIGKILL: a driver holds them, see dmesg")
            time.sleep(0.05)
