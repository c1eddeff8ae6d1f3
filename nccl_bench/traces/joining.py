"""Joins the recordings of one program. A rank's best recording counts; the others add sizes to its kernels."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from nccl_bench.traces import nccl_log
from nccl_bench.traces.fitting import Calls
from nccl_bench.traces.readers import ADD_LOG, READERS
from nccl_bench.traces.recording import Call, Message, Mode, Recording


class Unseen(NamedTuple):
    """A kernel of NCCL without a size."""

    mode: Mode  # how it was started
    collective: str  # the collective in its name
    streams: str  # the streams of its launch; empty if the file does not have them


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The messages of one rank, as far as its recordings have them."""

    rank: int | None  # the rank; None if no recording has it
    files: tuple[str, ...]  # the files that gave the counts, the sizes and the kernels
    unused: tuple[str, ...]  # files that have nothing to add
    calls: Counter[Call]  # calls with sizes, and how often each was made
    kernels: Mapping[Message, tuple[str, ...]]  # the kernels of a message, such as ``RING/LL``
    unseen: Counter[Unseen]  # kernels without sizes, and how often each ran
    remarks: tuple[str, ...]  # sentences about what the files lack


def join(recordings: Sequence[Recording]) -> list[Traffic]:
    """Return the traffic of each rank, by rank; unknown ranks are the last."""
    of_rank: dict[tuple[int | None, int | None], list[Recording]] = defaultdict(list)
    for recording in _with_ranks(recordings):
        # A process whose rank is unknown counts as a rank of its own.
        of_rank[recording.rank, recording.process if recording.rank is None else None].append(recording)
    order = sorted(of_rank, key=lambda key: tuple((part is None, part or 0) for part in key))
    return [_traffic(of_rank[key]) for key in order]


def _with_ranks(recordings: Sequence[Recording]) -> Iterator[Recording]:
    """Yield the recordings. A recording without a rank gets the rank that another file has for its process.

    If only one rank is known, files that name neither a rank nor a process belong to this rank.
    """
    # Processes on two nodes can have the same number. Such a number does not decide the rank.
    of_process: dict[int | None, set[int]] = defaultdict(set)
    for each in recordings:
        if each.rank is not None:
            of_process[each.process].add(each.rank)
    every = set().union(*of_process.values())
    for each in recordings:
        ranks = every if each.process is None else of_process[each.process]
        yield replace(each, rank=next(iter(ranks))) if each.rank is None and len(ranks) == 1 else each


def _traffic(recordings: Sequence[Recording]) -> Traffic:
    order = list(READERS)
    best, *further = sorted(recordings, key=lambda each: order.index(each.source))
    calls, unseen, files = Counter(best.calls), Counter[Unseen](), [best.file]
    remarks = [f"{best.file}: {remark}" for remark in best.remarks]
    undecided = Counter[tuple[Mode, str]]()
    of_others = [(each, Calls(each)) for each in further if each.sequences] if best.launches else []
    for launch, count in best.launches.items():
        streams = ", ".join(launch.streams)
        # Only NCCL's log has the calls of a graph.
        fitting = {
            other.file: other_calls.fitting(launch)
            for other, other_calls in of_others
            if launch.mode is Mode.EAGER or other.source == nccl_log.SOURCE
        }
        decided = next((file for file, sequences in fitting.items() if len(sequences) == 1), None)
        if decided is None:
            for collective, kernels in Counter(launch.collectives).items():
                unseen[Unseen(launch.mode, collective, streams)] += count * kernels
            undecided[launch.mode, _reason(fitting)] += count * len(launch.collectives)
            continue
        for message in fitting[decided][0]:
            calls[Call(message, launch.mode, streams)] += count
        if decided not in files:
            files.append(decided)
    remarks += [_without_sizes(count, mode, reason) for (mode, reason), count in undecided.items()]
    if READERS[best.source].unseen:
        remarks.append(READERS[best.source].unseen)
    for other in further:
        if other.kernels and other.file not in files:
            files.append(other.file)
        if other.file in files:
            remarks += [f"{other.file}: {remark}" for remark in other.remarks]
    return Traffic(
        rank=best.rank,
        files=tuple(files),
        unused=tuple(dict.fromkeys(other.file for other in further if other.file not in files)),
        calls=calls,
        kernels=_kernels(recordings),
        unseen=unseen,
        remarks=tuple(dict.fromkeys(remarks)),
    )


def _kernels(recordings: Sequence[Recording]) -> dict[Message, tuple[str, ...]]:
    """Return the names of the kernels that NCCL ran for each message."""
    names: dict[Message, set[str]] = defaultdict(set)
    for recording in recordings:
        for message, kernels in recording.kernels.items():
            names[message] |= {kernel.name for kernel in kernels}
    return {message: tuple(sorted(each)) for message, each in names.items()}


def _without_sizes(count: int, mode: Mode, reason: str) -> str:
    where = " in graphs" if mode is Mode.GRAPH else ""
    are = "call{} is a kernel without a size" if count == 1 else "calls{} are kernels without sizes"
    return f"{count} {are.format(where)}: {reason}"


def _reason(fitting: Mapping[str, Sequence[object]]) -> str:
    """Return why kernels have no sizes; ``fitting`` has the sequences that fit, by the file that was searched."""
    if not fitting:
        return ADD_LOG
    files = " and ".join(fitting)
    if any(fitting.values()):
        return f"several sequences of calls in {files} fit them, with different sizes: capture only one graph"
    return f"no sequence of calls in {files} fits them: record all files in one run, from the start of the program"
