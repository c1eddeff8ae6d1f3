"""The table of the memory of each arm: the memory of its communicator, and the memory that its calls strand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nccl_bench.analysis.machine import NamedRuns
from nccl_bench.catalog.arms import is_twin
from nccl_bench.report.layout import Table, column

_MIB = 1024**2
# Column -> its meaning.
_COLUMNS: Mapping[str, str] = {
    "device": "what the communicator and its first call took on a GPU",
    "host": "how much the resident memory of a rank grew by the communicator and its first call",
    "stranded": "free memory of torch's allocator that the caller's stream cannot have, behind eight calls and their "
    "tensors",
}


def memory_tables(metas: NamedRuns) -> Iterator[Table]:
    """Yield the memory of the arms of each run; nothing if it was not measured."""
    for side, meta in metas:
        recorded: Mapping[str, Mapping[str, Any]] = (meta.get("worker") or {}).get("memory") or {}
        arms = {arm: memory for arm, memory in recorded.items() if not is_twin(arm)}
        texts = {name: [_text(memory.get(f"{name}_bytes")) for memory in arms.values()] for name in _COLUMNS}
        shown = {name: of_arms for name, of_arms in texts.items() if any(of_arms)}
        if shown:
            title = " ".join(filter(None, ("Memory of each arm", side)))
            meanings = [f"{name}: {_COLUMNS[name]}." for name in shown]
            absent = [
                f"stranded of {arm} is not known: {memory['stranded_absent']}."
                for arm, memory in arms.items()
                if memory.get("stranded_absent")
            ]
            yield Table(
                title=f"{title} (MiB)",
                notes=(" ".join(["The rank with the most.", *meanings]), *absent),
                columns=(
                    column("arm", ("arm",), list(arms), left=True),
                    *(column(name, (name,), of_arms) for name, of_arms in shown.items()),
                ),
                keep=1 + len(shown),
            )


def _text(recorded: list[int] | int | None) -> str:
    """Return the largest number of a rank in MiB; an empty text if no number is known."""
    numbers = recorded if isinstance(recorded, list) else [] if recorded is None else [recorded]
    return f"{max(numbers) / _MIB:.2f}" if numbers else ""
