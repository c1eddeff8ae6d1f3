"""Compare the printed bandwidths of a row with its size and time. They differ if a row is damaged or a rank missing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nccl_bench.records.importers.nccl_tests.abridging import abridged
from nccl_bench.records.importers.nccl_tests.output import Output, PlacementResult, ResultRow

# The numbers of ranks for which the bus factor is tried.
_MOST_RANKS = 4096


@dataclass(frozen=True, slots=True)
class _Range:
    """The values that a printed number can stand for."""

    low: float
    high: float

    def times(self, factor: float) -> "_Range":
        return _Range(self.low * factor, self.high * factor)

    def meets(self, value: float, step: float) -> bool:
        """Return True if ``value`` lies in the range, or at most ``step``, a unit of its last digit, outside of it."""
        margin = step * 1.001 + abs(value) * 1e-9
        return self.low - margin <= value <= self.high + margin


def damaged_row(row: ResultRow, *, has_cpu_time: bool) -> str | None:
    """Return what is wrong with ``row`` if an algbw does not follow from size and time; else ``None``.

    With ``has_cpu_time`` (-C), the bandwidths do not come from the printed time, so this row cannot be checked.
    """
    for placement, result in row.results.items():
        expected = _algbw_gb_s(row, result)
        printed = result.algbw_gb_s
        if not has_cpu_time and not expected.meets(printed.value, printed.step):
            return (
                f"the row on {row.where}: {placement} has an algbw of {printed.value:g} GB/s, and {row.size_bytes} B "
                f"in {result.time_us.value:g} us are {(expected.low + expected.high) / 2:.4g} GB/s"
            )
    return None


def doubted_ranks(output: Output, rows: Sequence[ResultRow], *, has_cpu_time: bool) -> str | None:
    """Return a sentence about rows whose busbw contradicts algbw and the number of ranks; ``None`` without such rows.

    If all rows fit another number of ranks, the list of ranks in the file is probably incomplete.
    """
    of_rows = [(row, *pair) for row in rows for pair in _algbw_ranges(row, has_cpu_time=has_cpu_time)]
    factor = output.collective.bus_factor

    def fits(result: PlacementResult, algbw: _Range, ranks: int) -> bool:
        return algbw.times(factor(ranks)).meets(result.busbw_gb_s.value, result.busbw_gb_s.step)

    wrong = [(row, result) for row, result, algbw in of_rows if not fits(result, algbw, output.world_size)]
    if not wrong:
        return None
    fitting = [
        ranks for ranks in range(1, _MOST_RANKS + 1) if all(fits(result, algbw, ranks) for _, result, algbw in of_rows)
    ]
    places = list(dict.fromkeys(row.where for row, _ in wrong))
    named = ", ".join(abridged(places))
    row, result = wrong[0]
    text = (
        f"the busbw of {named} does not fit {output.collective.name} on {output.world_size} ranks, for example "
        f"{result.busbw_gb_s.value:g} GB/s of {row.size_bytes} B"
    )
    if fitting:
        ranks = f"{fitting[0]} ranks" if len(fitting) == 1 else f"{fitting[0]} to {fitting[-1]} ranks"
        text += f"; it fits {ranks}, so the list of ranks may be incomplete"
    return f"{text}. nccl-bench computes bus bandwidths for {output.world_size} ranks"


def _algbw_gb_s(row: ResultRow, result: PlacementResult) -> _Range:
    """Return the algorithm bandwidths that fit the size and the printed time."""
    time, half = result.time_us.value, result.time_us.step / 2
    return _Range(row.size_bytes / (time + half) / 1e3, row.size_bytes / max(time - half, time / 1e3) / 1e3)


def _algbw_ranges(row: ResultRow, *, has_cpu_time: bool) -> Iterator[tuple[PlacementResult, _Range]]:
    """Yield each result of ``row`` with its algorithm bandwidths, as exactly as they are known."""
    for result in row.results.values():
        printed = result.algbw_gb_s
        known = _Range(printed.value - printed.step, printed.value + printed.step)
        yield result, known if has_cpu_time else _algbw_gb_s(row, result)
