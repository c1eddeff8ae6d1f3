"""The table of the kernels that NCCL ran: for each kernel, the neighbouring sizes and the arms that ran it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.kernels import how_called, kernels_of
from nccl_bench.analysis.wording import case_name, counted, from_to, joined, size_with_unit
from nccl_bench.catalog.arms import is_twin
from nccl_bench.catalog.cases import Case
from nccl_bench.records.kernels import Kernels
from nccl_bench.records.run import Run
from nccl_bench.report.layout import Table, column

_TITLE = "What NCCL ran"


class _Ran(NamedTuple):
    """A kernel, and the arms that ran it."""

    kernels: Kernels  # the kernel; several if calls of one case differ
    arms: tuple[str, ...]  # the arms
    ways: tuple[str, ...]  # how their calls were made: eagerly, in graphs


def kernel_tables(analysis: Analysis) -> Iterator[Table]:
    """Yield the kernels of each run and kind of case; nothing if no log was read."""
    for side, run in analysis.runs:
        of_cases = _of_cases(run)
        for kind in dict.fromkeys(case.kind for case in of_cases):
            cases = sorted((case for case in of_cases if case.kind == kind), key=lambda case: case.size_bytes)
            title = " ".join(filter(None, (_TITLE, side)))
            name = f"{title}: {case_name(kind, ())}, {counted(run.world_size, 'rank')}"
            yield _table(name, run, [(case.size_bytes, of_cases[case]) for case in cases])


def _of_cases(run: Run) -> dict[Case, list[_Ran]]:
    """Return the kernels of each case."""
    ways_of: dict[Case, dict[tuple[Kernels, str], list[str]]] = defaultdict(lambda: defaultdict(list))
    for (case, timing, arm), kernels in kernels_of(run.samples).items():
        ways, way = ways_of[case][kernels, arm], how_called(timing)
        if not is_twin(arm) and way not in ways:
            ways.append(way)
    of_cases: dict[Case, list[_Ran]] = {}
    for case, of_case in ways_of.items():
        arms_of: dict[tuple[Kernels, tuple[str, ...]], list[str]] = {}
        for (kernels, arm), ways in of_case.items():
            if ways:
                arms_of.setdefault((kernels, tuple(sorted(ways))), []).append(arm)
        of_cases[case] = [_Ran(kernels, tuple(arms), ways) for (kernels, ways), arms in arms_of.items()]
    return of_cases


def _table(title: str, run: Run, of_sizes: Sequence[tuple[int, Sequence[_Ran]]]) -> Table:
    ranges: dict[_Ran, list[list[int]]] = defaultdict(list)
    for position, (size, of_size) in enumerate(of_sizes):
        for ran in of_size:
            if not position or ran not in of_sizes[position - 1][1]:
                ranges[ran].append([])
            ranges[ran][-1].append(size)
    rows = sorted(((sizes, ran) for ran, of_ran in ranges.items() for sizes in of_ran), key=lambda row: row[0][0])
    known = [ran for _, ran in rows]
    every_arm = {arm for ran in known for arm in ran.arms}
    every_way = {way for ran in known for way in ran.ways}
    columns: Mapping[str, list[str]] = {
        "sizes": [from_to(size_with_unit(sizes[0]), size_with_unit(sizes[-1])) for sizes, _ in rows],
        "kernel": [ran.kernels.names for ran in known],
        "channels": [", ".join(str(each.channels) for each in ran.kernels.distinct if each.channels) for ran in known],
        "calls": ["all" if {*ran.ways} == every_way else joined(ran.ways) for ran in known],
        "arms": ["all arms" if {*ran.arms} == every_arm else ", ".join(ran.arms) for ran in known],
    }
    several = {"calls": len(every_way) > 1, "arms": len(every_arm) > 1}
    shown = [
        column(name, (name,), texts, left=name != "channels")
        for name, texts in columns.items()
        if several.get(name, True)
    ]
    return Table(title=title, notes=(), columns=tuple(shown), keep=len(shown), gap=2)
