"""Warnings about a whole run: reasons not to trust its figures. `cell_warnings` has the warnings about cells."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from nccl_bench.analysis.carry_over import find_carry_over
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.description import recorded_user_arms
from nccl_bench.analysis.libraries import callers_of
from nccl_bench.analysis.registration import arms_with
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.warning_texts import WarningText
from nccl_bench.analysis.wording import case_name, counted, format_ratio, format_share
from nccl_bench.catalog.arms import twin_of
from nccl_bench.catalog.routes import Mode
from nccl_bench.catalog.timings import TIMINGS
from nccl_bench.config.limits import Limits
from nccl_bench.config.sizes import format_size
from nccl_bench.records.columns import SampleColumns
from nccl_bench.records.importers import READERS
from nccl_bench.records.run import Run, is_attached
from nccl_bench.records.schema import Registration

# The second remedy for two copies of libnccl in one process.
_OR_PROCESSES = (
    ", or choose the libnccl of an arm with --arm NAME=ARM,library=PATH: then its processes load no other copy"
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
        # If another launcher started the ranks, no arm can have processes of its own.
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
    """Yield a warning if the twin is faster or slower than the baseline; ``comparisons`` are the twin's."""
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
