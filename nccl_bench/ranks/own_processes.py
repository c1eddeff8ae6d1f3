"""Finds the processes of this run on a node among all processes."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from nccl_bench.records.environment import proc_fields

# The server of MPS, with which several processes share a GPU. It computes nothing itself.
_SHARING_SERVICE = "nvidia-cuda-mps"


class OwnProcesses:
    """The processes of a run: those in ``ranks``, and the processes that they started."""

    def __init__(self, ranks: Collection[int], proc: Path = Path("/proc")) -> None:
        self._ranks = {*ranks}
        self._proc = proc

    def first_other(self, listed: Iterable[int]) -> int | None:
        """Return the lowest process id in ``listed`` that does not belong to this run; ``None`` if there is none.

        ``listed`` are the ids that a driver reports. In a container, a driver can report the host's ids, which mean
        nothing here. So also return ``None`` if this process is not in the list.
        """
        ids = sorted({*listed})
        families = {number: self._family(number) for number in ids}
        if not any(family[:1] == [os.getpid()] for family in families.values()):
            return None
        return next((family[0] for family in families.values() if family and not self._ranks & {*family}), None)

    def _family(self, number: int) -> list[int]:
        """Return the process with this process or thread id, and its parents; empty if it ended or is MPS's server."""
        family: list[int] = []
        while number > 0:
            # A driver can report the id of a thread. `Tgid` is its process.
            status = proc_fields(self._proc / str(number) / "status")
            if not family and (status.get("State", "Z")[0] in "XZ" or status["Name"].startswith(_SHARING_SERVICE)):
                return []
            if "Tgid" not in status:
                break
            family.append(int(status["Tgid"]))
            number = int(status["PPid"])
        return family
