"""Runs, or arms of one, compared: as tables for a terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

from rich.text import Text

from nccl_bench.analysis.between import Between
from nccl_bench.analysis.sources import Cell
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.sizes import format_size
from nccl_bench.report import verdicts
from nccl_bench.report.tables import case_name
from nccl_bench.report.terminal import table_lines
from nccl_bench.report.text import rendered, wrapped


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparative:
    """What a comparison says.

    ``ground`` is what the verdicts stand on, ``reason`` says so or why there are none, and ``shared`` is the arm that
    times are relative to. ``more`` is of what it takes more to decide what is open, ``witnesses`` of which there are
    several that tell how sure it is, ``judged`` whether anything could be, and ``notes`` stand above the tables.
    ``failures`` are those of every run that was read, ``not_measured`` what each of them lacks, and ``unmatched`` the
    cells that have no counterpart, in few words; ``lacking`` says that the candidate is without some of them.
    """

    title: str
    ground: str
    reason: str
    more: str
    told: tuple[verdicts.Told, ...]
    judged: bool = False
    witnesses: str = "rounds"
    shared: str | None = None
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()
    lacking: bool = False
    not_measured: tuple[str, ...] = ()


def unmatched(found: Between) -> Iterator[str]:
    """Every cell that has no counterpart, by what they have in common."""
    # Both have it, though not in each of their runs, or not in a round of the arm that it would be relative to.
    other = set(found.only_after)
    both = dict.fromkeys(cell for cell in found.only_before if cell in other)
    beside = f" beside {found.shared}" if found.shared else ""
    yield from listed("before alone has", (cell for cell in found.only_before if cell not in both))
    yield from listed("after alone has", (cell for cell in found.only_after if cell not in both))
    yield from listed(f"not in every run{beside}:", both)


def listed(what: str, cells: Iterable[Cell]) -> Iterator[str]:
    """``what`` and ``cells``, a line for those that differ by their sizes alone."""
    groups: dict[tuple[str, Timing, str], list[int]] = {}
    for case, timing, arm in cells:
        groups.setdefault((arm, timing, case_name(case)), []).append(case.size_bytes)
    for (arm, timing, name), sizes in groups.items():
        yield f"{what} {arm} {timing} {name} {', '.join(map(format_size, sorted(set(sizes))))}"


def comparative_text(found: Comparative, width: int, styled: bool) -> str:
    """Tables in ``width`` cells, and what to know about them."""
    return rendered(_lines(found, width), width, styled)


def comparative_json(found: Comparative) -> str:
    """Every cell."""
    mapping = {
        "title": found.title,
        "ground": found.ground,
        "reason": found.reason,
        "shared": found.shared,
        "notes": list(found.notes),
        "cells": [_cell(one) for one in found.told],
        "failures": list(found.failures),
        "warnings": list(found.warnings),
        "hints": list(verdicts.hints(found.told, found.more)),
        "not_compared": list(found.unmatched),
        "not_measured": list(found.not_measured),
    }
    return json.dumps(mapping, indent=2) + "\n"


def _cell(one: verdicts.Told) -> Mapping[str, object]:
    case: Case = one.case
    interval = one.interval
    cell = {
        "who": one.who,
        f"{one.sides[0]}_arm": one.arms[0],
        f"{one.sides[1]}_arm": one.arms[1],
        **asdict(case),
        "timing": one.timing,
        f"{one.sides[0]}_us": one.before_us,
        f"{one.sides[1]}_us": one.after_us,
        "ratio": one.ratio,
        "ratio_low": interval.low if interval else None,
        "ratio_high": interval.high if interval else None,
        "threshold": one.threshold,
        "verdict": one.verdict,
        "noise_floor": one.floor,
        "below_floor": None if one.verdict is None else one.below_floor,
        "pairs_needed": one.pairs_needed,
    }
    return {key: value for key, value in cell.items() if value is not None}


def _lines(found: Comparative, width: int) -> Iterator[Text]:
    yield from (Text(line, "bold") for line in wrapped(found.title, width))
    for note in (*found.notes, *([verdicts.heading(found.told, found.witnesses)] if found.told else [])):
        yield from (Text(line, "dim") for line in wrapped(note, width))
    for table in verdicts.tables(found.told):
        yield from table_lines(table, width, "give --format json")
    yield from _items("Failures", found.failures, width, "bold red")
    yield from _items("Warnings", [*found.warnings, *verdicts.hints(found.told, found.more)], width, "yellow")
    yield from _items("Not compared", found.unmatched, width, "")
    yield from _items("Not measured", found.not_measured, width, "")


def _items(title: str, items: Iterable[str], width: int, style: str) -> Iterator[Text]:
    items = list(items)
    if items:
        yield from (Text(), Text(title, "bold"))
    for item in items:
        yield from (Text(line, style) for line in wrapped(item, width, "- "))
