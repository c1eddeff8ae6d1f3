"""Starting the workers with torchrun, and ending them for certain. No torch: torchrun is a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from nccl_bench.errors import SetupError, UsageError
from nccl_bench.ranks.spec import LaunchSpec

_ROOT = Path(__file__).resolve().parents[2]
# torchrun's own wait between SIGTERM and SIGKILL for its workers is 30 s; an interrupted run should end in a few.
_SHUTDOWN_S = 2
# A process that SIGKILL does not end is stuck in a driver, and no waiting helps.
_UNKILLABLE_S = 30


def parse_endpoint(text: str) -> tuple[str, int]:
    """The host and port of ``HOST:PORT``, or of ``[ADDRESS]:PORT`` for IPv6; raises ``UsageError`` for other texts."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"--rdzv-endpoint is {text!r}: give HOST:PORT, for example node0:29500")
    return host, int(port)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchConfig:
    """Which ranks to start: ``nproc`` here, on node ``node_rank`` of ``nnodes`` that meet at ``rdzv_endpoint``.

    ``worker`` is the module each rank runs. Raises ``UsageError`` for values that do not go together.
    """

    nproc: int
    nnodes: int = 1
    node_rank: int = 0
    rdzv_endpoint: str | None = None
    worker: str = "nccl_bench.bench.worker"

    def __post_init__(self) -> None:
        if self.nproc < 1:
            raise UsageError(f"--nproc is {self.nproc}: it has to be at least 1")
        if self.nnodes < 1:
            raise UsageError(f"--nnodes is {self.nnodes}: it has to be at least 1")
        if not 0 <= self.node_rank < self.nnodes:
            raise UsageError(
                f"--node-rank is {self.node_rank}: with --nnodes {self.nnodes} it is 0 to {self.nnodes - 1}"
            )
        if self.rdzv_endpoint is not None:
            parse_endpoint(self.rdzv_endpoint)
        elif self.nnodes > 1:
            raise UsageError(
                f"--nnodes is {self.nnodes} and the nodes have no place to meet: give every one of them "
                "--rdzv-endpoint HOST:PORT with the host of node 0"
            )

    def times(self, processes_per_rank: int) -> LaunchConfig:
        """The launch of so many processes for each of these ranks, each of which is a rank to torchrun."""
        return replace(self, nproc=self.nproc * processes_per_rank)

    def command(self, spec: Path, logs: Path, attempt: int) -> list[str]:
        """torchrun's command line for the ``attempt``-th launch of a run, from 0."""
        if self.nnodes == 1:
            # Port 0 is any free one; without --local-addr workers look for each other by the host's name, which a
            # laptop or a container may be unable to resolve.
            meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--rdzv-id", uuid.uuid4().hex]
            meeting += ["--local-addr", "127.0.0.1"]
        else:
            assert self.rdzv_endpoint is not None
            host, port = parse_endpoint(self.rdzv_endpoint)
            # Static, since only then node 0 has rank 0. A relaunch takes the next port: peers of the last launch may
            # still be on the old one.
            meeting = ["--rdzv-backend", "static", "--master-addr", host, "--master-port", str(port + attempt)]
            meeting += ["--rdzv-id", f"nccl-bench-{attempt}", "--node-rank", str(self.node_rank)]
        return [
            *(sys.executable, "-m", "torch.distributed.run"),
            *("--nproc-per-node", str(self.nproc), "--nnodes", str(self.nnodes), *meeting),
            *("--max-restarts", "0", "--redirects", "3", "--log-dir", str(logs)),
            *("-m", self.worker, str(spec)),
        ]


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` for torchrun and its workers."""
    # PET_* are torchrun's options in a PyTorchJob's pod, and PET_RDZV_ENDPOINT would win over --master-addr.
    variables = {name: value for name, value in environ.items() if not name.startswith("PET_")}
    variables.setdefault("OMP_NUM_THREADS", "1")
    variables.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_SHUTDOWN_S))
    # For a checkout; an installation is found anyway, and site-packages must not come before the standard library.
    if _ROOT.name not in ("site-packages", "dist-packages"):
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), variables.get("PYTHONPATH"))))
    return variables


class Job:
    """One torchrun and its workers, from ``start`` to ``stop``.

    ``scratch`` holds what they write: positions, failures, ``torchrun.log`` and ``logs``.
    """

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
                # A terminal's Ctrl-C is for the launcher alone, which then ends its workers in order.
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """torchrun's exit code, or ``None`` while it runs."""
        return self._torchrun.poll()

    def processes(self) -> list[int]:
        """The ids of all living processes of this job: torchrun and workers, whichever session they are in.

        They are known by their command lines, which hold this job's own specification file, so an id that was reused
        for something else is never among them.
        """
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            # It may end at any moment; a zombie's command line is empty.
            with suppress(OSError):
                words = path.read_bytes().decode(errors="replace").split("\0")
                if self._worker in words and str(self._spec) in words:
                    found.append(int(path.parent.name))
        return found

    def stop(self) -> None:
        """End torchrun and every worker, by force after about two seconds; returns when all are gone.

        Raises ``SetupError`` for a process that even SIGKILL does not end.
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
                raise SetupError(f"processes {left} do not end on SIGKILL: a driver holds them, see dmesg")
            time.sleep(0.05)
