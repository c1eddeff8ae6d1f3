"""The columns of a table, and the placement of each column."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nccl_bench.catalog.collectives import Placement
from nccl_bench.errors import RecordError
from nccl_bench.records.decoding import shown
from nccl_bench.records.importers.nccl_tests.lines import Line, matches

_NAMES = re.compile(r"#\s+(size\s+count\s+type\s.*)")
_PLACEMENTS = re.compile(r"#\s+((?:out-of|in)-place\b.*)")
_KNOWN_COLUMNS = frozenset(
    (
        *("size", "count", "type", "redop", "root", "time", "cputime", "hipevt", "algbw", "busbw", "#wrong", "error"),
        *("i_min", "i_max", "i_p99", "i_cv%", "date", "clock", "algo", "proto", "nchannels"),
    )
)
# The placements that nccl-tests measures without -O.
_BOTH = (Placement.OUT_OF_PLACE, Placement.IN_PLACE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns of the table."""

    names: tuple[str, ...]  # the name of each cell of a row
    spans: Mapping[Placement, slice]  # the cells of each placement
    case: slice  # the cells before the first placement
    notes: tuple[str, ...]  # sentences about unknown columns

    @property
    def has_cpu_time(self) -> bool:
        """True if the times are those of the CPU (-C)."""
        return "cputime" in self.names


def read_columns(lines: Sequence[Line]) -> Columns:
    """Return the columns; raise ``RecordError`` if a needed column is missing, or a placement has no name."""
    lists = {match[1].replace("timestamp", "date clock") for match in matches(_NAMES, lines)}
    if len(lists) != 1:
        raise RecordError(
            f"it has {len(lists)} different lines of column names, '# size count type ...', for one table: give the "
            "whole output"
        )
    names = tuple(lists.pop().split())
    starts = [index for index, name in enumerate(names) if name in ("time", "cputime")]
    if not starts:
        raise RecordError(f"the column names {' '.join(names)} have no time: give the whole output")
    spans = [slice(*ends) for ends in zip(starts, [*starts[1:], None], strict=True)]
    for span in spans:
        cells = names[span]
        if not {"algbw", "busbw"} <= set(cells) or not {"#wrong", "error"} & set(cells):
            raise RecordError(f"the column names {' '.join(names)} are incomplete: give the whole output")
    unknown = [name for name in dict.fromkeys(names) if name not in _KNOWN_COLUMNS]
    return Columns(
        names=names,
        spans=dict(zip(_placements(lines, len(spans)), spans, strict=True)),
        case=slice(0, starts[0]),
        notes=tuple(f"the column {shown(name)} is not known, and is not read" for name in unknown),
    )


def _placements(lines: Sequence[Line], count: int) -> list[Placement]:
    """Return the placements in the order of their columns; the line above the column names has them."""
    named = [re.findall(r"out-of-place|in-place", match[1]) for match in matches(_PLACEMENTS, lines)]
    placements = [Placement(name) for name in (named[0] if named else ())]
    if not named and count == len(_BOTH):
        return list(_BOTH)
    if not placements or len(placements) != count or len(set(placements)) != count or named != named[:1] * len(named):
        raise RecordError(
            f"it has times of {count} placements, and the line above the column names has {len(placements)}: give the "
            "whole output"
        )
    return placements
