"""The sweep of a run as a test wants it: lines, and then an error or an end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nccl_bench.launch.sweep import Outcome
from nccl_bench.records.schema import Entry
from nccl_bench.records.store import RunStore


def swept(error: Exception | None, lines: Sequence[Entry] = (), **outcome: Any) -> Callable[..., Outcome]:
    """Return a sweep that records some lines, and then raises or ends."""

    def run_sweep(spec: Any, *_arguments: object, **_keywords: object) -> Outcome:
        for line in lines:
            RunStore(path=Path(spec.run_dir)).append(line)
        if error is not None:
            raise error
        ended: dict[str, Any] = {"hangs": (), "crashes": (), "stopped": None}
        return Outcome(**(ended | outcome))

    return run_sweep
