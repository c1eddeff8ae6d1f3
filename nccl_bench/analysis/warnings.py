"""Warnings: reasons not to trust the figures of single cells, or of a whole run."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from nccl_bench.analysis.carry_over import find_carry_over
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.description import recorded_user_arms
from nccl_bench.analysis.libraries import callers_of
from nccl_bench.analysis.registration import GAINING, LEAST_GAINING_BYTES, arms_with
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.steadiness import LARGE_NOISE, Steadiness
from nccl_bench.analysis.summary import Row
from nccl_bench.analysis.warning_texts import WarningText
from nccl_bench.analysis.wording import case_name, counted, format_ratio, format_share, significant
from nccl_bench.catalog.arms import twin_of
from nccl_bench.catalog.cases import Scenario, scenario_words
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.routes import Mode
from nccl_bench.catalog.scenarios import SCENARIOS
from nccl_bench.catalog.throttling import THROTTLE_REASONS, ThrottleReason
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.config.limits import Limits
from nccl_bench.config.sizes import format_size
from nccl_bench.records.columns import SampleColumns
from nccl_bench.records.importers import READERS
from nccl_bench.records.run import Run, is_attached
from nccl_bench.records.schema import BuffersRegistered, Registration, Status

# A share of the time. Ranks wait for each other, so the times of the ranks normally differ by a few percent only.
LARGE_SPREAD = 0.1
# The second way out of two copies of libnccl in one process.
_OR_PROCESSES = (
    ", or choose the libnccl of an arm with --arm NAME=ARM,library=PATH: then its processes load no other copy"
)


def cell_warnings(runs: Sequence[tuple[str, Sequence[Row]]]) -> Iterator[str]:
    """Yield the warnings about cells: one of each kind, with the worst cell of all ``runs``.

    ``runs`` has the name and the rows of each run; the name is empty if there is only one run.
    """
    rows = [(row, name) for name, of_run in runs for row in of_run if row.timing]
    spreads = [
        (spread, row, name)
        for row, name in rows
        if row.time_us and (spread := (row.rank_spread_us or 0) / row.time_us) > LARGE_SPREAD and _ranks_wait(row)
    ]
    unchecked = [(0, row, name) for row, name in rows if row.wrong is None and row.status == Status.OK]
    costs = [(row.per_iteration_cost_us, row, name) for row, name in rows if row.per_iteration_cost_us is not None]
    # The cells for each warning: the size of the problem, the row of the cell, and the name of the run.
    kinds: Mapping[WarningText, Sequence[tuple[float, Row, str]]] = {
        WarningText.DISCARDED: [(row.discarded, row, name) for row, name in rows if row.discarded],
        WarningText.RANK_SPREAD: spreads,
        WarningText.TOLERANCE: [(row.tolerance_ulp, row, name) for row, name in rows if row.tolerance_ulp],
        WarningText.NOT_CHECKED: unchecked,
        WarningText.BUFFERS_UNREGISTERED: [(row.size_bytes or 0, row, name) for row, name in rows if _would_gain(row)],
        WarningText.PER_ITERATION: [cell for cell in costs if cell[0] > 0],
    }
    for text, cells in kinds.items():
        if not cells:
            continue
        _, row, name = max(cells, key=lambda cell: cell[0])
        yield text.format(
            cells=counted(len(cells), "cell"),
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
    yield from _gpu_warnings(rows)


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


def _gpu_warnings(rows: Sequence[tuple[Row, str]]) -> Iterator[str]:
    throttled = [(row, name) for row, name in rows if row.throttled]
    if throttled:
        row, name = max(throttled, key=lambda cell: cell[0].throttled_share or 0)
        reasons = str(row.throttled).split(", ")
        sensors = (
            (row.throttled_share, "{:.0%} of the time"),
            (row.sm_clock_mhz, "SM clock {} MHz"),
            (row.temperature_c, "{} degrees Celsius"),
            (row.power_w, "{:.0f} W"),
        )
        yield WarningText.THROTTLED.format(
            cells=counted(len(throttled), "cell"),
            worst=_label(row, name),
            reasons=row.throttled,
            rank=row.throttled_rank,
            sensors=", ".join(text.format(value) for value, text in sensors if value is not None),
            # Two reasons can have the same remedy.
            remedies=". ".join(dict.fromkeys(THROTTLE_REASONS[ThrottleReason(reason)].remedy for reason in reasons)),
        )
    shared = [(row, name) for row, name in rows if row.other_process is not None]
    if shared:
        row, name = shared[0]
        yield WarningText.OTHER_PROCESS.format(
            cells=counted(len(shared), "cell"),
            worst=_label(row, name),
            process=row.other_process,
            rank=row.other_process_rank,
        )


def run_warnings(run: Run, arms: Collection[str], baseline: str) -> Iterator[str]:
    """Yield the warnings about the whole run that concern ``arms`` or ``baseline``."""
    worker = run.meta.get("worker") or {}
    library = worker.get("transport") or {}
    with_events = int((~run.samples.per_iteration.equals(None)).sum())
    if with_events and run.is_import:
        option, cells = READERS[run.baseline].events_option, counted(with_events, "cell")
        yield WarningText.IMPORTED_EVENTS.format(tool=run.baseline, option=option, cells=cells)
    if libraries := worker.get("other_nccl_libraries"):
        callers = callers_of(run.meta, [*arms, baseline])
        # Ranks of another launcher cannot have processes for one arm alone.
        or_processes = "" if is_attached(run.meta) else _OR_PROCESSES
        yield WarningText.TWO_LIBRARIES.format(others=", ".join(libraries), callers=callers, or_processes=or_processes)
    if variables := worker.get("unread_variables"):
        yield WarningText.UNREAD.format(
            variables=", ".join(variables), library=library.get("path"), version=library.get("version")
        )
    unregistered = [name for name in arms_with(run, Registration.UNAVAILABLE) if name in {*arms, baseline}]
    if unregistered:
        how = str(run.meta["config"].get("register")).capitalize()
        yield WarningText.UNREGISTERED.format(how=how, arms=", ".join(unregistered))
    yield from _same_paths(worker, run.samples, arms, baseline)
    existing = [user_arm.get("arm") for user_arm in recorded_user_arms(run) if user_arm.get("ready")]
    twin_base = run.recorded_baseline
    if twin_base in existing and twin_of(twin_base) in run.samples.arm.distinct():
        yield WarningText.SAME_OBJECT.format(baseline=twin_base)


def carry_over_warnings(run: Run, limits: Limits) -> Iterator[str]:
    """Yield a warning about the largest effect of an arm on the arm that was measured right after it."""
    effects = find_carry_over(run, limits)
    if not effects:
        return
    worst, sizes = effects[0], [format_size(case.size_bytes) for case in effects[0].cases]
    span = sizes[0] if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    yield WarningText.CARRY_OVER.format(
        arm=worst.arm,
        effect=format_share(abs(worst.effect)),
        direction="slower" if worst.effect > 0 else "faster",
        predecessor=worst.predecessor,
        where=f"{worst.timing} {case_name(worst.cases[0])} {span}",
        others="" if len(effects) == 1 else f"; this is the largest of {len(effects)} such effects",
    )


def twin_warnings(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Yield a warning if the twin gets a verdict that no twin should get; ``comparisons`` are the twin's."""
    different = [each for each in comparisons if each.verdict in (Verdict.FASTER, Verdict.SLOWER)]
    if different:
        worst = max(different, key=lambda each: abs(math.log(each.ratio)))
        yield WarningText.TWIN_DIFFERS.format(
            baseline=worst.baseline,
            verdict=worst.verdict,
            cells=counted(len(different), "cell"),
            worst=f"{worst.timing} {case_name(worst.case)} {format_size(worst.case.size_bytes)}",
            ratio=format_ratio(worst.ratio),
        )


def _same_paths(
    worker: Mapping[str, Any], samples: SampleColumns, arms: Collection[str], baseline: str
) -> Iterator[str]:
    paths = {(path.get("collective"), path.get("arm")): path for path in worker.get("paths") or ()}
    for (collective, arm), path in paths.items():
        of_baseline = paths.get((collective, baseline))
        if of_baseline is None or arm not in arms or arm in (baseline, twin_of(baseline)):
            continue
        cases = [case for case in samples.case.values if case.collective == collective]
        of_collective = samples.take(samples.case.equals(*cases) & samples.arm.equals(*arms, baseline))
        own, other = (
            {*of_collective.placement.take(of_collective.arm.equals(name)).distinct()} for name in (arm, baseline)
        )
        if own != other:
            continue
        timings = of_collective.timing.distinct()
        for mode in Mode:
            of_mode = [timing for timing in timings if TIMINGS[timing].captured == (mode is Mode.GRAPH)]
            same = path.get(mode)
            if of_mode and same is not None and same == of_baseline.get(mode):
                where = f"{collective} ({', '.join(of_mode)})"
                yield WarningText.SAME_PATH.format(candidate=arm, baseline=baseline, where=where, path=same)


def _would_gain(row: Row) -> bool:
    """Return whether registered buffers would make the calls of ``row`` faster, as far as this is measured."""
    return (
        row.registered in (BuffersRegistered.NO, BuffersRegistered.PARTLY)
        and row.collective in GAINING
        and (row.size_bytes or 0) >= LEAST_GAINING_BYTES
        and (row.world_size or 1) > 1
        and TIMINGS[Timing(row.timing or "")].moves_bytes
    )


def _ranks_wait(row: Row) -> bool:
    """Return True unless a rank can end before the others: in `enqueue`, if there is a root, or if it comes late."""
    if row.delay_us or COLLECTIVES[row.collective or ""].rooted:
        return False
    return TIMINGS[Timing(row.timing or "")].moves_bytes


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
