"""Decides whether a command may continue a record: on the same machine, with the same versions, and alone."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from errno import ENOLCK, ENOSYS, ENOTSUP
from pathlib import Path
from typing import Any

from nccl_bench import __version__
from nccl_bench.errors import UsageError

# Facts of an environment that change while the machine and its versions stay the same.
_MOMENTARY = ("sm_clock_mhz", "memory_clock_mhz", "topology", "topology_error", "gpu_query_error")


def refuse_changes(directory: Path, meta: Mapping[str, Any], environment: Mapping[str, object]) -> None:
    """Raise ``UsageError`` with each difference between this machine and the machine of a record.

    ``meta`` is the first file of the record in ``directory``. ``environment`` are the facts about this machine now.
    """
    recorded = {"nccl-bench": str(meta.get("version")), **_facts(meta.get("environment"))}
    present = {"nccl-bench": __version__, **_facts(environment)}
    changes = [
        f"{name} is {present.get(name, 'not known')}, and was {recorded.get(name, 'not known')}"
        for name in sorted(recorded.keys() | present.keys())
        if recorded.get(name) != present.get(name)
    ]
    if changes:
        raise UsageError(
            f"{directory} was recorded on another machine, or with other versions or settings: {'; '.join(changes)}. "
            "Resume it as it was, or start again in another directory with --out"
        )


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a lock on ``file`` within a ``with`` block. The end of this process, however it ends, frees the lock.

    Raises ``UsageError`` if another command holds the lock.
    """
    with file.open("rb") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another command writes {file.parent} at present: wait for its end") from error
        except OSError as error:
            # Some network file systems have no locks.
            if error.errno not in (ENOLCK, ENOSYS, ENOTSUP):
                raise
        yield


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
        if key not in _MOMENTARY:
            facts |= _facts(item, f"{name} {key}".strip())
    return facts
