"""Warnings about cells: reasons not to trust their figures."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nccl_bench.analysis.registration import GAINING, LEAST_GAINING_BYTES
from nccl_bench.analysis.rows import Rows
from nccl_bench.analysis.steadiness import LARGE_NOISE, Steadiness
from nccl_bench.analysis.summary import Row
from nccl_bench.analysis.warning_texts import WarningText
from nccl_bench.analysis.wording import case_name, counted, format_share, significant
from nccl_bench.catalog.cases import Scenario, scenario_words
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.scenarios import SCENARIOS
from nccl_bench.catalog.throttling import THROTTLE_REASONS, ThrottleReason
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.config.sizes import format_size
from nccl_bench.records.schema import BuffersRegistered, Status

# A share of the time. Ranks wait for each other, so the times of the ranks normally differ by a few percent only.
LARGE_SPREAD = 0.1
_Numbers = NDArray[np.float64]


def cell_warnings(runs: Sequence[tuple[str, Rows]]) -> Iterator[str]:
    """Yield the warnings about cells: one for each kind of problem, with the worst cell of all ``runs``.

    ``runs`` has the name and the rows of each run; the name is empty if there is only one run.
    """
    for text, size_of in _PROBLEMS.items():
        worst = _worst(runs, size_of)
        if worst is None:
            continue
        number, row, name = worst
        yield text.format(
            cells=counted(number, "cell"),
            worst=_label(row, name),
            limit=format_share(LARGE_SPREAD),
            discarded=counted(row.discarded or 0, "time"),
            fewer=_fewer_calls(row),
            spread=significant(row.rank_spread_us or 0),
            time=significant(row.time_us or 0),
            rank=row.slowest_rank,
            share=row.slowest_rank_share or 0,
            ulp=row.tolerance_ulp,
            least=format_size(LEAST_GAINING_BYTES),
            cost=significant(row.per_iteration_cost_us or 0),
        )
    yield from _gpu_warnings(runs)
    yield from _product_warnings(runs)


def noise_warnings(steadiness: Steadiness) -> Iterator[str]:
    """Yield a warning if the rounds of cells differ much, or come in two speeds."""
    if not steadiness.noisy:
        return
    limit, cells = format_share(LARGE_NOISE), counted(len(steadiness.noisy), "cell")
    if steadiness.has_two_speeds:
        clearest = max(steadiness.two_speeds, key=lambda cell: cell.speeds.explained)
        yield WarningText.TWO_SPEEDS.format(
            limit=limit,
            cells=cells,
            number=len(steadiness.two_speeds),
            worst=_label(clearest.row, clearest.side),
            fast=significant(clearest.speeds.fast_us),
            slow=significant(clearest.speeds.slow_us),
        )
        return
    worst = max(steadiness.noisy, key=lambda cell: cell.share)
    yield WarningText.NOISE.format(
        limit=limit,
        cells=cells,
        worst=_label(worst.row, worst.side),
        first=significant(worst.row.q1_us or 0),
        third=significant(worst.row.q3_us or 0),
        time=significant(worst.row.time_us or 0),
        normal="" if steadiness.has_gpus else "; without a GPU this is normal",
    )


def _gpu_warnings(runs: Sequence[tuple[str, Rows]]) -> Iterator[str]:
    throttled = _worst(runs, _throttled)
    if throttled is not None:
        number, row, name = throttled
        reasons = str(row.throttled).split(", ")
        sensors = (
            (row.throttled_share, "{:.0%} of the time"),
            (row.sm_clock_mhz, "SM clock {} MHz"),
            (row.temperature_c, "{} degrees Celsius"),
            (row.power_w, "{:.0f} W"),
        )
        yield WarningText.THROTTLED.format(
            cells=counted(number, "cell"),
            worst=_label(row, name),
            reasons=row.throttled,
            rank=row.throttled_rank,
            sensors=", ".join(text.format(value) for value, text in sensors if value is not None),
            # Two reasons can have the same remedy.
            remedies=". ".join(dict.fromkeys(THROTTLE_REASONS[ThrottleReason(reason)].remedy for reason in reasons)),
        )
    shared = _worst(runs, _shared)
    if shared is not None:
        number, row, name = shared
        yield WarningText.OTHER_PROCESS.format(
            cells=counted(number, "cell"),
            worst=_label(row, name),
            process=row.other_process,
            rank=row.other_process_rank,
        )


def _product_warnings(runs: Sequence[tuple[str, Rows]]) -> Iterator[str]:
    """Yield a warning if runs have different matrix products beside the collective of a case."""
    products: dict[str, dict[str, str]] = {}
    for name, rows in runs if len(runs) > 1 else ():
        for at, product in enumerate(rows.column("product")):
            if product is not None:
                row = rows[at]
                products.setdefault(f"{case_name(row)} {format_size(row.size_bytes or 0)}", {})[name] = product
    differing = {case: of_runs for case, of_runs in products.items() if len({*of_runs.values()}) > 1}
    for case, of_runs in list(differing.items())[:1]:
        texts = ", ".join(f"{product} ({name})" for name, product in of_runs.items())
        yield WarningText.OTHER_PRODUCTS.format(cases=counted(len(differing), "case"), worst=case, products=texts)


def _worst(runs: Sequence[tuple[str, Rows]], size_of: Callable[[Rows], _Numbers]) -> tuple[int, Row, str] | None:
    """Return how many cells have a problem, the row of the worst one, and the name of its run; ``None`` without any.

    ``size_of`` returns the size of the problem for each row, NaN for a row without it.
    """
    count, largest, worst = 0, -np.inf, None
    for name, rows in runs:
        sizes, timings = size_of(rows), rows.column("timing")
        cells = [at for at in np.flatnonzero(~np.isnan(sizes)).tolist() if timings[at] is not None]
        count += len(cells)
        if cells and (of_run := sizes[cells].max()) > largest:
            largest, worst = of_run, (rows, cells[sizes[cells].argmax()], name)
    return None if worst is None else (count, worst[0][worst[1]], worst[2])


def _above_zero(column: str) -> Callable[[Rows], _Numbers]:
    def size_of(rows: Rows) -> _Numbers:
        numbers = rows.numbers(column)
        return np.where(numbers > 0, numbers, np.nan)

    return size_of


def _spread(rows: Rows) -> _Numbers:
    time_us = rows.numbers("time_us")
    is_timed = time_us > 0
    shares = np.divide(rows.numbers("rank_spread_us"), time_us, out=np.zeros(len(rows)), where=is_timed)
    is_late = rows.numbers("delay_us") > 0
    large = np.flatnonzero((shares > LARGE_SPREAD) & ~is_late).tolist()
    # Ranks may end at different times in `enqueue`, in a collective with a root, and if one rank comes late.
    collectives, timings = rows.column("collective"), rows.column("timing")
    return _only(shares, [at for at in large if not COLLECTIVES[collectives[at]].rooted and _moves_bytes(timings[at])])


def _unchecked(rows: Rows) -> _Numbers:
    without_check, status = np.flatnonzero(np.isnan(rows.numbers("wrong"))).tolist(), rows.column("status")
    return _only(np.zeros(len(rows)), [at for at in without_check if status[at] == Status.OK])


def _would_gain(rows: Rows) -> _Numbers:
    """Return the sizes of the rows whose calls would be faster with registered buffers, as measurements have shown."""
    sizes = rows.numbers("size_bytes")
    registered, collectives, timings = (rows.column(name) for name in ("registered", "collective", "timing"))
    large = np.flatnonzero((sizes >= LEAST_GAINING_BYTES) & (rows.numbers("world_size") > 1)).tolist()
    not_registered = [at for at in large if registered[at] in (BuffersRegistered.NO, BuffersRegistered.PARTLY)]
    return _only(sizes, [at for at in not_registered if collectives[at] in GAINING and _moves_bytes(timings[at])])


def _throttled(rows: Rows) -> _Numbers:
    shares = np.nan_to_num(rows.numbers("throttled_share"))
    return _only(shares, [at for at, reasons in enumerate(rows.column("throttled")) if reasons])


def _shared(rows: Rows) -> _Numbers:
    # No such cell is worse than another.
    return np.where(np.isnan(rows.numbers("other_process")), np.nan, 0.0)


def _only(numbers: _Numbers, indexes: Sequence[int]) -> _Numbers:
    """Return ``numbers`` with NaN for all but those at ``indexes``."""
    chosen = np.full(len(numbers), np.nan)
    chosen[indexes] = numbers[indexes]
    return chosen


def _moves_bytes(timing: str | None) -> bool:
    return TIMINGS[Timing(timing or "")].moves_bytes


# The size of each problem of cells, for each row of a run; NaN for a row without it.
_PROBLEMS: Mapping[WarningText, Callable[[Rows], _Numbers]] = {
    WarningText.DISCARDED: _above_zero("discarded"),
    WarningText.RANK_SPREAD: _spread,
    WarningText.TOLERANCE: _above_zero("tolerance_ulp"),
    WarningText.NOT_CHECKED: _unchecked,
    WarningText.BUFFERS_UNREGISTERED: _would_gain,
    WarningText.PER_ITERATION: _above_zero("per_iteration_cost_us"),
}


def _fewer_calls(row: Row) -> str:
    """Return the option with which a batch has fewer calls; empty if the scenario of ``row`` has no such option."""
    options = SCENARIOS[Scenario(row.scenario or Scenario.ISOLATED)].options
    if "ops_per_batch" in options:
        return " Use fewer calls per batch (--iters)."
    return " Use fewer --layers." if "layers" in options else ""


def _label(row: Row, run: str) -> str:
    arm = f"{row.arm} ({run})" if run else row.arm
    words = (arm, row.timing, scenario_words(row), row.collective, row.dtype, format_size(row.size_bytes or 0))
    return " ".join(filter(None, words))
