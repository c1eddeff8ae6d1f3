"""The texts of an audit, which all of its reports show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nccl_bench.analysis.wording import counted
from nccl_bench.audit.findings.audit import Audit, Outcome
from nccl_bench.audit.findings.record import FoundAccess, FoundRace, Line, Sample, WatchedSource
from nccl_bench.audit.order.races import AccessMode, RaceKind

KINDS: Mapping[RaceKind, str] = {
    RaceKind.KERNELS: "between kernels",
    RaceKind.MEMORY: "memory used after it was freed",
    RaceKind.HOST_SPEED: "ordered only by the host's speed",
}
KIND_MEANINGS: Mapping[RaceKind, str] = {
    RaceKind.KERNELS: "Two kernels use the same bytes, and no stream, event or wait orders them.",
    RaceKind.MEMORY: "The allocator can hand the memory out again while a kernel still uses it.",
    RaceKind.HOST_SPEED: "The order is right only if the host is slow enough. Nothing promises that.",
}
_MODES: Mapping[AccessMode, str] = {
    AccessMode.READ: "reads",
    AccessMode.WRITE: "writes",
    AccessMode.HAND_OUT: "gets the memory",
}
MISSES = "misses"  # the name of what a source cannot see
_MIB = 1024**2


def headline(audit: Audit) -> str:
    """Return the answer in one sentence."""
    match audit.outcome:
        case Outcome.RACES:
            return f"{counted(len(audit.races), 'race')}: two accesses to the same memory that nothing orders."
        case Outcome.HANG | Outcome.FAILED:
            return "Not audited to the end: the program did not end well. No race was found before that."
        case Outcome.NONE:
            covered = "the steps that were watched" if _steps(audit) else "what this run did"
            return f"No race in {watched(audit)}. That covers {covered}, and nothing else."
        case Outcome.BLIND if len(audit.ranks) == audit.world_size:
            return (
                f"NOT AUDITED: no collective was seen in {counted(audit.works, 'operation')}. The program calls none, "
                "or calls them in processes that it starts itself, or reaches its library in a way that is not "
                "watched. See nccl-bench guide audit."
            )
    missing = counted(audit.world_size - len(audit.ranks), "rank")
    return f"NOT AUDITED: {missing} of {audit.world_size} reported nothing."


def watched(audit: Audit) -> str:
    """Return how much was watched."""
    collectives = audit.collectives.total()
    share = f"{collectives} of them {'a collective' if collectives == 1 else 'collectives'}"
    ranks = counted(len(audit.ranks), "rank")
    of_all = f" of {audit.world_size}" if len(audit.ranks) < audit.world_size else ""
    return f"{counted(audit.works, 'operation')}, {share}, on {ranks}{of_all}{_steps(audit)}"


def _steps(audit: Audit) -> str:
    """Return how many steps of a rank were watched; empty if the whole program was watched."""
    samples = _samples(audit)
    if not samples:
        return ""
    fewest = min(samples, key=lambda sample: sample.watched)
    return f", in {fewest.watched} of {counted(fewest.steps, 'step')}" if fewest.steps else ""


def sample_texts(audit: Audit) -> list[str]:
    """Return what a sample of steps can miss; empty if the whole program was watched."""
    samples = _samples(audit)
    if not samples:
        return []
    sample = samples[0]
    if not sample.steps:
        return ["--sample had no effect: the program called no module of torch, so it has no steps. All was watched."]
    texts = [
        f"One of every {sample.every} steps was watched, and what came before the first step. Chance chose the steps, "
        "the same on all ranks. A step begins when the program calls a module of torch from outside of all modules.",
        "Missed: races in the other steps; races between two steps, because the device is synchronised around the "
        "steps that are left out; replays of a graph that was captured before the watched step; and threads that "
        "started in a step that was left out.",
    ]
    if sample.watched_step_s is not None and sample.paused_step_s:
        texts.append(
            f"A watched step took {sample.watched_step_s / sample.paused_step_s:.2g} times as long as another one "
            "(medians of the first rank). torch calls the watch in both."
        )
    return texts


def _samples(audit: Audit) -> list[Sample]:
    """Return the sample of each rank; empty if the whole program was watched."""
    return [each.amount.sample for each in audit.ranks if each.amount.sample is not None]


def race_title(number: int, race: FoundRace) -> str:
    """Return the heading of a race."""
    return f"Race {number}, {KINDS[race.kind]}: {times(race.count)}, {rank_text(race.ranks)}"


def times(count: int) -> str:
    """Return ``count`` in words: once, 2 times."""
    return "once" if count == 1 else f"{count} times"


def rank_text(ranks: Sequence[int]) -> str:
    """Return the ranks, with neighbours as a range."""
    parts: list[list[int]] = []
    for rank in ranks:
        if parts and parts[-1][-1] == rank - 1:
            parts[-1].append(rank)
        else:
            parts.append([rank])
    texts = [str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts]
    return f"rank{'s' if len(ranks) > 1 else ''} {','.join(texts)}"


def access_text(access: FoundAccess) -> str:
    """Return what an access does, and on which stream."""
    graph = " in a captured graph" if access.in_graph else ""
    return f"{access.work} {_MODES[access.mode]} on {access.stream}{graph}"


def line_text(line: Line) -> str:
    """Return the place of a line, and the function around it."""
    return f"{line.place} in {line.function}"


def access_lines(access: FoundAccess) -> Iterator[tuple[str, str]]:
    """Yield the place of each line of an access, the innermost first, and the text of the line."""
    if access.replayed is not None:
        yield f"replayed at {line_text(access.replayed)}", access.replayed.source
    for index, line in enumerate(access.lines):
        yield f"{'called from ' if index else ''}{line_text(line)}", line.source
    if not access.lines:
        yield "a line that is not known", ""


def sources_on(audit: Audit) -> list[WatchedSource]:
    """Return the sources that watched."""
    return [source for source in audit.sources if source.reason_off is None]


def sources_off(audit: Audit) -> str:
    """Return the sources that did not watch, each with its reason; empty if all sources watched."""
    texts = [f"{source.name} ({source.reason_off})" for source in audit.sources if source.reason_off is not None]
    return f"Off: {', '.join(texts)}." if texts else ""


def source_texts(source: WatchedSource) -> Iterator[tuple[str, str]]:
    """Yield `sees` and `MISSES`, each with a text."""
    yield "sees", source.sees
    yield from ((MISSES, text) for text in source.blind_to)


def cost_texts(audit: Audit) -> list[str]:
    """Return what the watch cost."""
    if not audit.ranks:
        return []
    amounts = [each.amount for each in audit.ranks]
    slowest = max(amounts, key=lambda amount: amount.program_s)
    operators = (
        f" Watched operators took at least {slowest.slowdown:.2g} times as long as without the watch: some "
        "microseconds for each, which torch needs to call the watch, are not in this figure."
    )
    return [
        f"The program took {slowest.program_s:.2g} s under watch. Deciding the order took {slowest.judging_s:.2g} s of "
        f"them.{operators if audit.works else ''}",
        f"A rank used up to {max(amount.peak_bytes for amount in amounts) / _MIB:,.0f} MiB of host memory, the program "
        f"included, and remembered {max(amount.remembered for amount in amounts)} accesses, "
        "blocks and clock times at the end.",
    ]


def collective_counts(audit: Audit) -> str:
    """Return each collective with the number of its calls."""
    return ", ".join(f"{name} {count}" for name, count in audit.collectives.most_common())
