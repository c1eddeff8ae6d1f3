"""The ranks that a launch starts on this node, and the command and environment of its processes."""

import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import psutil

from nccl_bench.errors import UsageError

_PACKAGE = Path(__file__).resolve().parents[1]


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

    @property
    def meeting_address(self) -> tuple[str, int]:
        """The host and the port of the store of node 0. On one node: loopback, and port 0 for any free port."""
        if self.nnodes == 1:
            return "127.0.0.1", 0
        assert self.rdzv_endpoint is not None
        return parse_endpoint(self.rdzv_endpoint)


def describe_loopback(launch: LaunchConfig) -> str | None:
    """Return a warning if node 0 of several nodes listens on a loopback address; ``None`` otherwise.

    For example, on Debian a machine's own name has the address 127.0.1.1.
    """
    host, port = launch.meeting_address
    if launch.nnodes == 1 or launch.node_rank != 0:
        return None
    try:
        address = str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return None  # the agent reports this error
    if not ip_address(address.partition("%")[0]).is_loopback:
        return None
    return (
        f"--rdzv-endpoint is {launch.rdzv_endpoint}: node 0 listens on {address}, which no other machine reaches. If a "
        "node is on another machine, give every node an address of node 0 in the network between the nodes"
    )


def agent_environment(environ: Mapping[str, str], launch: LaunchConfig) -> dict[str, str]:
    """Return the environment for the agent and the ranks of ``launch``, made from ``environ``."""
    # PET_* are torchrun's options in the pod of a PyTorchJob.
    variables = {name: value for name, value in environ.items() if not name.startswith("PET_")}
    variables.setdefault("OMP_NUM_THREADS", "1")
    # On one node this is the loopback interface, so no other machine can reach the ranks.
    interface = find_interface(*launch.meeting_address)
    if interface is not None:
        variables.setdefault("NCCL_SOCKET_IFNAME", interface)
        variables.setdefault("GLOO_SOCKET_IFNAME", interface)
    return variables


def module_command(module: str, *arguments: str, python: str | None = None, lazy: bool = False) -> list[str]:
    """Return the command that runs ``module`` in a new interpreter, which never searches the current directory.

    ``python`` is the interpreter; ``None`` stands for the interpreter of this process. The interpreter runs this copy
    of nccl_bench, even if its environment has another copy. It does not see the packages beside this copy: they belong
    to another environment.

    With ``lazy``, a function that a library lacks is an error only when it is called. torch can then be imported beside
    a preloaded libnccl that is older than its own.
    """
    lines = [
        *(["import os, sys", "sys.setdlopenflags(os.RTLD_LAZY)"] if lazy else []),
        "import runpy, sys",
        "from importlib.util import module_from_spec, spec_from_file_location",
        f"spec = spec_from_file_location({_PACKAGE.name!r}, {str(_PACKAGE / '__init__.py')!r})",
        f"package = sys.modules[{_PACKAGE.name!r}] = module_from_spec(spec)",
        "spec.loader.exec_module(package)",
    ]
    if _PACKAGE.parent.name not in ("site-packages", "dist-packages"):
        # A checkout is searched last, so that none of its files hides a module of Python or of an installed package.
        lines.append(f"sys.path.append({str(_PACKAGE.parent)!r})")
    lines.append(f"runpy.run_module({module!r}, run_name='__main__')")
    return [python or sys.executable, "-P", "-c", "; ".join(lines), *arguments]


def find_interface(host: str, port: int) -> str | None:
    """Return the name of the network interface that leads from this machine to ``host``; ``None`` if none is found."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            # Connecting a datagram socket sends nothing: it only chooses the route.
            probe.connect((address[0], address[1] or 1, *address[2:]))
            local = probe.getsockname()[0]
    except OSError:
        return None
    interfaces = psutil.net_if_addrs()
    return next((name for name, addresses in interfaces.items() if local in (each.address for each in addresses)), None)
