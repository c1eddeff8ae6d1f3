"""The network of this machine: the addresses of its own name, and its ports."""

from collections.abc import Iterator
from errno import EADDRINUSE
from ipaddress import ip_address

from nccl_bench.doctor.diagnosis import Diagnosis, changes, fine, stops
from nccl_bench.doctor.machine import Machine

# A look-up in /etc/hosts takes less than a millisecond.
_SLOW_S = 0.5
# Each rank takes a few ports for a moment.
_ENOUGH_PORTS = 1000
_TORCHRUN_PORT = 29500


def examine_hosts(machine: Machine) -> Iterator[Diagnosis]:
    """Yield which addresses the name of this machine has."""
    answer = machine.look_up(machine.host)
    lines = (line.partition("#")[0].split() for line in (machine.text("/etc/hosts") or "").splitlines())
    entries = [fields[0] for fields in lines if machine.host in fields[1:]]
    add = f"echo 'ADDRESS {machine.host}' | sudo tee -a /etc/hosts   # the address in the network between the nodes"
    if answer.problem:
        yield changes(
            f"the name of this machine, {machine.host}, has no address ({answer.problem})",
            "Runs on one node work. Runs on several nodes, mpirun, and torch programs that use Gloo can fail or wait.",
            add,
        )
    elif all(_is_loopback(address) for address in answer.addresses):
        yield changes(
            f"the name of this machine, {machine.host}, has the address {', '.join(answer.addresses)}",
            "Runs on one node work. On several nodes, the other nodes look for this node on themselves.",
            "nccl-bench run --rdzv-endpoint ADDRESS:29500 ...   # an address that the other nodes reach, not the name",
        )
    else:
        where = f", from /etc/hosts: {', '.join(entries)}" if entries else ""
        yield fine(f"{machine.host} has the address {', '.join(answer.addresses)}{where}")
    if answer.seconds > _SLOW_S and not answer.problem:
        yield changes(
            f"the look-up of {machine.host} took {answer.seconds:.1f} s",
            "Each rank looks the name up, so every start of ranks is slower.",
            add,
        )


def examine_ports(machine: Machine) -> Iterator[Diagnosis]:
    """Yield whether ranks can meet on the loopback interface."""
    try:
        machine.listen(0)
    except OSError as error:
        yield stops(
            f"nothing can listen on 127.0.0.1: {error}",
            "The ranks meet there, so no run starts.",
            "sudo ip link set lo up",
        )
        return
    span = (machine.text("/proc/sys/net/ipv4/ip_local_port_range") or "").split()
    count = int(span[1]) - int(span[0]) + 1 if len(span) == 2 and all(map(str.isdigit, span)) else None
    if count is not None and count < _ENOUGH_PORTS:
        yield changes(
            f"programs get one of {count} ports ({span[0]} to {span[1]})",
            "A run of many ranks can find no free port.",
            "sudo sysctl -w net.ipv4.ip_local_port_range='32768 60999'",
        )
    elif count is not None:
        yield fine(f"127.0.0.1 works; programs get ports {span[0]} to {span[1]}")
    try:
        machine.listen(_TORCHRUN_PORT)
    except OSError as error:
        if error.errno == EADDRINUSE:
            yield changes(
                f"another program uses port {_TORCHRUN_PORT}",
                "Runs on one node work. torchrun, and ranks on several nodes, often meet at this port and would fail.",
                f"nccl-bench run --rdzv-endpoint HOST:{_TORCHRUN_PORT + 1} ...",
            )


def _is_loopback(address: str) -> bool:
    return ip_address(address.partition("%")[0]).is_loopback
