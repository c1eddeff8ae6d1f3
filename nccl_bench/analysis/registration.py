"""The buffers of a run: their allocator, and whether NCCL had them registered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nccl_bench.analysis.machine import memory_text
from nccl_bench.analysis.wording import counted
from nccl_bench.catalog.arms import TWIN_SUFFIX, is_twin
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.memory import Memory
from nccl_bench.catalog.timings import TIMINGS
from nccl_bench.records.columns import SampleColumns
from nccl_bench.records.importers import READERS
from nccl_bench.records.run import Run, is_import
from nccl_bench.records.schema import BuffersRegistered, Registration

# The smallest size that was measured, on 2x H200. See the page `measuring` of the guide.
LEAST_GAINING_BYTES = 16 * 1024**2
GAINING = tuple(name for name, row in COLLECTIVES.items() if row.gains_from_registration)


def registration_notes(run: Run) -> Iterator[str]:
    """Yield the allocator of the buffers, the arms with registered buffers, and what NCCL's log says about them."""
    memory = memory_text(run.meta)
    if memory not in (None, Memory.TORCH):
        yield f"buffers: {memory} memory"
    registered = arms_with(run, Registration.REGISTERED)
    unregistered = arms_with(run, Registration.UNAVAILABLE, Registration.ABSENT)
    if registered or unregistered:
        rest = f"; the same memory without registration: {', '.join(unregistered)}" if unregistered else ""
        yield f"registered memory ({run.meta['config'].get('register')}): {', '.join(registered) or 'none'}{rest}"
    # With one rank nothing is sent, so NCCL never registers.
    if run.world_size > 1:
        arms: dict[str, list[str]] = {}
        for arm, lines in _lines_by_arm(run).items():
            arms.setdefault(_in_modes(lines), []).append(arm)
        for text, names in arms.items():
            yield f"buffers that NCCL had registered: {text}: {', '.join(names)}"
    if reason := (run.meta.get("worker") or {}).get("log_absent"):
        ran = " and what it ran are" if run.meta["config"].get("tuning") else " is"
        yield f"whether NCCL had buffers registered{ran} unknown: {reason}"


def arms_with(run: Run, *registrations: Registration) -> list[str]:
    """Return the arms, without twins, for which the result of memory registration is in ``registrations``."""
    recorded = (run.meta.get("worker") or {}).get("registered") or {}
    return [
        name for name, result in recorded.items() if result in list(registrations) and not name.endswith(TWIN_SUFFIX)
    ]


def _lines_by_arm(run: Run) -> dict[str, SampleColumns]:
    """Return, by arm, the lines for which NCCL's log says whether buffers were registered."""
    samples = run.samples
    known = ~samples.registered.equals(None, BuffersRegistered.UNKNOWN) & ~samples.arm.map(is_twin)
    arms = samples.arm.take(known).distinct()
    return {arm: samples.take(known & samples.arm.equals(arm)) for arm in arms}


def _in_modes(lines: SampleColumns) -> str:
    """Return in how many cases buffers were registered, eagerly and in graphs."""
    parts = []
    for captured, mode in ((False, "eagerly"), (True, "in graphs")):
        modes = [timing for timing, spec in TIMINGS.items() if spec.captured == captured]
        of_mode = lines.take(lines.timing.equals(*modes))
        cases = of_mode.case.distinct()
        for state, degree in ((BuffersRegistered.YES, ""), (BuffersRegistered.PARTLY, "partly ")):
            number = len(of_mode.case.take(of_mode.registered.equals(state)).distinct())
            if cases and (number or state is BuffersRegistered.YES):
                parts.append(f"{degree}{mode} in {number} of {counted(len(cases), 'case')}")
    return ", ".join(parts)


def one_process(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """Yield a line about each import whose ranks shared processes, if the ranks of another run did not.

    ``runs`` has the name and the ``run.json`` of each run. Within one process NCCL needs no registered buffers.
    """
    if all(is_import(meta) for _, meta in runs):
        return
    for name, meta in runs:
        config, ranks = meta["config"], meta["launch"]["world_size"]
        processes = config.get("processes") or ranks
        gaining = [collective for collective in config.get("collectives") or () if collective in GAINING]
        if is_import(meta) and processes < ranks and gaining:
            tool = config["baseline"]
            where = "one process" if processes == 1 else f"{processes} processes"
            yield (
                f"{tool} ran {counted(ranks, 'rank')} in {where} ({name}). There its buffers need no registration. "
                f"Between processes they do, or large messages of {', '.join(gaining)} take longer. To measure {tool} "
                f"in the same way, {READERS[tool].own_processes}"
            )
