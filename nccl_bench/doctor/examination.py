"""Examines all subjects, one after the other. If the examination of a subject fails, that is a diagnosis too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from nccl_bench.doctor.diagnosis import Diagnosis, Severity, changes
from nccl_bench.doctor.gpu_state import examine_clocks, examine_ecc, examine_mig
from nccl_bench.doctor.gpus import examine_gpus
from nccl_bench.doctor.libraries import examine_libraries
from nccl_bench.doctor.limits import examine_cpus, examine_memory, examine_shared_memory, examine_ulimits
from nccl_bench.doctor.links import examine_links, examine_nvls
from nccl_bench.doctor.machine import Machine
from nccl_bench.doctor.network import examine_hosts, examine_ports
from nccl_bench.doctor.packages import examine_driver, examine_nccl4py, examine_torch
from nccl_bench.doctor.settings import examine_settings
from nccl_bench.doctor.slurm import examine_slurm
from nccl_bench.errors import ExitCode
from nccl_bench.records.anonymity import Aliases
from nccl_bench.safety.secrets import masked

# The name of each subject and its function, in the order of the report. The subjects that wait for torch come last.
SUBJECTS: Mapping[str, Callable[[Machine], Iterator[Diagnosis]]] = {
    "GPUs": examine_gpus,
    "driver": examine_driver,
    "links": examine_links,
    "MIG": examine_mig,
    "ECC": examine_ecc,
    "clocks": examine_clocks,
    "CPUs": examine_cpus,
    "memory": examine_memory,
    "/dev/shm": examine_shared_memory,
    "ulimits": examine_ulimits,
    "host name": examine_hosts,
    "ports": examine_ports,
    "Slurm": examine_slurm,
    "torch": examine_torch,
    "libnccl": examine_libraries,
    "nccl4py": examine_nccl4py,
    "NVLS": examine_nvls,
    "settings": examine_settings,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """All diagnoses of a machine."""

    host: str  # the name of the machine
    diagnoses: tuple[Diagnosis, ...]  # in the order of the subjects

    def of(self, severity: Severity) -> list[Diagnosis]:
        """Return the diagnoses of one severity."""
        return [each for each in self.diagnoses if each.severity is severity]

    def anonymous(self, aliases: Aliases) -> Examination:
        """Return the examination with aliases for the host, for paths and for GPUs."""
        host = aliases.host(self.host)
        diagnoses = tuple(
            replace(
                each, seen=aliases.text(each.seen), effect=aliases.text(each.effect), command=aliases.text(each.command)
            )
            for each in self.diagnoses
        )
        return replace(self, host=host, diagnoses=diagnoses)

    @property
    def exit_code(self) -> ExitCode:
        """The exit code: ``SETUP`` if a benchmark of all GPUs would fail."""
        return ExitCode.SETUP if self.of(Severity.STOPS) else ExitCode.OK


def examine(machine: Machine) -> Examination:
    """Return the diagnoses of all subjects."""
    seen = (
        replace(each, subject=name, seen=masked(each.seen), command=masked(each.command))
        for name in SUBJECTS
        for each in _examine_one(name, machine)
    )
    return Examination(host=machine.host, diagnoses=tuple(seen))


def _examine_one(name: str, machine: Machine) -> Iterator[Diagnosis]:
    try:
        yield from SUBJECTS[name](machine)
    except Exception as error:  # noqa: BLE001 - a driver, a file or a library can fail in any way
        yield changes(
            f"this could not be examined: {type(error).__name__}: {error}",
            "What is wrong here stays unknown. A benchmark may still work.",
        )
