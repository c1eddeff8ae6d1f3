"""Decides whether a command may continue a record: on the same machine, with the same versions and settings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nccl_bench import __version__
from nccl_bench.errors import UsageError

# Facts of an environment that change while the machine and its versions stay the same.
_MOMENTARY = ("sm_clock_mhz", "memory_clock_mhz", "topology", "topology_error", "gpu_query_error")
# The start of the names of NCCL's variables that change only what NCCL logs, and where.
_LOGGING = "NCCL_DEBUG"
# A record can come from another person, and the processes of its ranks must not fill the machine.
_MOST_RANKS = 1024


def refuse_links(directory: Path, names: Iterable[str]) -> None:
    """Raise ``UsageError`` if a file or a directory of a record is a link: a resume would write elsewhere."""
    for name in names:
        if os.path.islink(directory / name):
            raise UsageError(f"{directory / name} is a link, and --resume writes into it: replace the link by a copy")


def refuse_many_ranks(directory: Path, ranks: int) -> None:
    """Raise ``UsageError`` if the record in ``directory`` names more ``ranks`` than a resume starts."""
    if ranks > _MOST_RANKS:
        raise UsageError(
            f"--resume is {directory}, whose record names {ranks:,} ranks: a record to continue has at most "
            f"{_MOST_RANKS:,} ranks"
        )


def refuse_changes(directory: Path, meta: Mapping[str, Any], environment: Mapping[str, object]) -> None:
    """Raise ``UsageError`` with each difference between this machine and the machine of a record.

    ``meta`` is the content of ``run.json`` or ``verification.json`` in ``directory``. ``environment`` are the facts
    about this machine now.
    """
    recorded = {"nccl-bench": str(meta.get("version")), **_facts(meta.get("environment"))}
    present = {"nccl-bench": __version__, **_facts(environment)}
    if recorded.get("kernel") != present.get("kernel"):
        # The platform includes the version of the kernel, and the message already names this version.
        recorded.pop("platform", None)
        present.pop("platform", None)
    changes = [
        f"{name} is {present.get(name, 'not known')}, and was {recorded.get(name, 'not known')}"
        for name in sorted(recorded.keys() | present.keys())
        if recorded.get(name) != present.get(name)
    ]
    if changes:
        raise UsageError(
            f"{directory} was recorded on another machine, or with other versions or settings: {'; '.join(changes)}. "
            "Restore what differs and resume, or start again in another directory with --out"
        )


def _facts(value: object, name: str = "") -> dict[str, str]:
    """Return every fact in ``value``, which is plain data, by its path."""
    if isinstance(value, Mapping):
        items: list[tuple[object, object]] = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    else:
        return {} if value is None else {name: str(value)}
    facts: dict[str, str] = {}
    for key, item in items:
        if key not in _MOMENTARY and not str(key).startswith(_LOGGING):
            facts |= _facts(item, f"{name} {key}".strip())
    return facts
