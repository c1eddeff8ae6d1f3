"""A Slurm of its own on this machine: its controller, one node, and munge."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_PROGRAMS = {"munged": "munge", "slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "srun": "slurm-wlm"}
_READY_S = 30
_CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
MpiDefault=none
ReturnToService=2
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
NodeName=localhost NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000
PartitionName=all Nodes=localhost Default=YES State=UP OverSubscribe=FORCE
"""


@contextmanager
def running_slurm() -> Iterator[Mapping[str, str]]:
    """Start Slurm and yield the variables by which its commands find it. Skip the test where that cannot be."""
    missing = sorted({package for program, package in _PROGRAMS.items() if shutil.which(program) is None})
    if missing:
        pytest.skip(f"not installed: {' '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("only root can start a Slurm for itself")
    daemons: list[subprocess.Popen[bytes]] = []
    # munge refuses a socket in a directory that others may write to, or that they cannot reach.
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/run") as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "munge.key").write_bytes(secrets.token_bytes(128))
        (root / "munge.key").chmod(0o600)
        config = _CONFIG.format(
            root=root,
            host=socket.gethostname().partition(".")[0],
            controller_port=_free_port(),
            node_port=_free_port(),
        )
        (root / "slurm.conf").write_text(config, encoding="ascii")
        environment = {**os.environ, "SLURM_CONF": str(root / "slurm.conf")}
        try:
            for command in (
                ["munged", "--foreground", *(f"--{key}={root}/munge.{suffix}" for key, suffix in _MUNGE_FILES.items())],
                ["slurmctld", "-D"],
                ["slurmd", "-D", "-N", "localhost"],
            ):
                with (root / f"{command[0]}.log").open("wb") as log:
                    daemons.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
            _wait_until_idle(root, daemons, environment)
            yield {"SLURM_CONF": environment["SLURM_CONF"]}
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
            for daemon in daemons:
                with suppress(subprocess.TimeoutExpired):
                    daemon.wait(10)
                daemon.kill()


_MUNGE_FILES = {"socket": "socket", "key-file": "key", "log-file": "log", "pid-file": "pid", "seed-file": "seed"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_idle(root: Path, daemons: list[subprocess.Popen[bytes]], environment: Mapping[str, str]) -> None:
    give_up = time.monotonic() + _READY_S
    while True:
        answer = subprocess.run(
            ["sinfo", "-h", "-o", "%t"], env=environment, capture_output=True, text=True, check=False
        )
        if answer.stdout.strip() == "idle":
            return
        if time.monotonic() > give_up or any(daemon.poll() is not None for daemon in daemons):
            logs = "\n".join(path.read_text(errors="replace")[-1500:] for path in root.glob("*.log"))
            pytest.skip(f"Slurm does not start here: {answer.stdout} {answer.stderr}\n{logs}")
        time.sleep(0.2)
