"""What stands under the tables: failures, doubts about the data, and what was not measured."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from nccl_bench.analysis.machine import over_ranks_of
from nccl_bench.analysis.summary import Row, measured_rows
from nccl_bench.catalog.arms import ARMS, TWIN_SUFFIX, twin_of
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.routes import Mode
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.config.sizes import format_size
from nccl_bench.records.importers import OverRanks
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash, Hang, Registration, Samples, Skipped, Status
from nccl_bench.report.layout import counted, significant

# Ranks that were aligned on the device and wait for each other end within a few percent of one another.
LARGE_SPREAD = 0.1
# Differences between arms of some ten percent are what runs are made for.
LARGE_NOISE = 0.1
_OVER_RANKS = {
    OverRanks.FIRST: "those of rank 0 (-a 0)",
    OverRanks.AVERAGE: "averages over ranks (-a 1)",
    OverRanks.MINIMUM: "the fastest rank's (-a 2)",
    OverRanks.MAXIMUM: "the slowest rank's (-a 3)",
}


class Doubt(StrEnum):
    """A reason to trust figures less: what was seen, why it matters and which flag helps."""

    DISCARDED = (
        "The gate opened before all calls of a batch were queued, most often for {worst} ({discarded}; "
        "{cells} affected). Such batches would hold launch cost and were thrown away, so what is left is sound, "
        "and a cell that says DISCARDED has none left. A busy CPU is the usual cause; fewer calls a batch "
        "(--iters) make it rarer."
    )
    RANK_SPREAD = (
        "Ranks differ by over {limit:.0%} of the time in {cells}, most for {worst}: {spread} of {time} us, rank {rank} "
        "slowest in {share:.0%} of the rounds. The slowest rank sets the time, so one slow GPU or busy CPU spoils it "
        "all. If more --rounds name the same rank again, look at its clocks and its CPU affinity."
    )
    NOISE = (
        "Rounds differ: the middle half of them spans over {noise:.0%} of the median in {cells}, most for {worst}: "
        "{first} to {third} us around {time} us. A ratio there is not to be trusted to more than that. More --rounds "
        "settle the median; other work on the machine is the usual cause."
    )
    TOLERANCE = (
        "Checked within a tolerance, not for equality: {cells}, the widest {ulp} ulp for {worst}. Results are rounded "
        "there, and an error that small would pass. --op min,max is exact in every dtype."
    )
    NOT_CHECKED = "Not checked: {cells}, {worst} among them, so a fast arm may be a wrong one. --check 1 would tell."
    SAME_PATH = (
        "{candidate} and {baseline} run the same path in {where}: {path}. The device does the same for both, so they "
        "can differ there by what the host does, and by noise."
    )
    TWO_LIBRARIES = (
        "A second libnccl is loaded: {others}. torch's arms run that one and the others run {library}, so the arms "
        "differ in more than their streams. Leave out --nccl-library, or point it at torch's."
    )
    UNREGISTERED = (
        "{how} registration is unavailable on this machine: NCCL has given {arms} a null handle, so these times are "
        "those of unregistered memory. Measure with --register none, or look for the reason with "
        "--env NCCL_DEBUG=INFO."
    )
    SAME_OBJECT = (
        "{baseline} is a function, or an object that was there when it was loaded, so its twin is the same, and the "
        "noise floor is without the luck that communicators have. Give a class, or a function that makes one."
    )
    UNREAD = (
        "{variables} in the environment does nothing: the libnccl in use ({library}, {version}) does not know it. It "
        "is misspelt, or takes a newer NCCL (--nccl-library)."
    )
    IMPORTED_EVENTS = (
        "nccl-tests ran with -I, which puts events between operations: what those cost is a part of all its times in "
        "{cells}, also beside other runs. Measure without -I to compare."
    )
    PER_ITERATION = (
        "Events between operations cost up to {cost} us each ({worst}), so single operations look slower than the "
        "same in a batch. Compare arms by the tables of batches, or leave out --per-iteration."
    )


def failures(run: Run) -> Iterator[str]:
    """One line about all wrong results, then one for every hang and crash; one where there is nothing at all."""
    wrong = [line for line in run.lines if isinstance(line, Samples) and line.status is Status.WRONG]
    if wrong:
        arms = ", ".join(dict.fromkeys(line.arm for line in wrong))
        yield f"WRONG: wrong results in {counted(len(wrong), 'cell')} of {arms}; first {wrong[0].case.label}"
    theirs = {user_arm.get("name") for user_arm in run.meta["config"].get("user_arms") or ()}
    for line in run.lines:
        if isinstance(line, Hang | Crash):
            doing = line.case.label if line.case else "set-up" if line.case_index < 0 else "close"
            rank = f"rank {line.rank} on {line.host}"
            where = f"{doing}, arm {line.arm}, {rank}"
            last = "; it took no further part" if line.arm.removesuffix(TWIN_SUFFIX) in theirs else ""
            if isinstance(line, Hang):
                call = f", in {line.call}" if line.call else ""
                yield f"HANG: {where}: in {line.phase} after {round(line.timeout_s, 1):g} s{call}{last}"
            else:
                # Its last words have the rank, and those of a user's communicator the arm.
                message = line.message.strip().removeprefix(rank).removeprefix(": ")
                gap = "" if message.startswith(" ") else ": "
                yield f"CRASH: {where}{gap}{message.removeprefix(f'the arm {line.arm}: ')}{last}"
    if all(isinstance(line, Skipped) for line in run.lines):
        skipped = f": {counted(len(run.lines), 'case')} skipped, and no other begun" if run.lines else ""
        yield f"EMPTY: nothing was measured{skipped}"


def doubts(run: Run) -> Iterator[str]:
    """One text per kind of doubt that applies, about the worst cell it applies to."""
    yield from cell_doubts([("", run)])
    yield from run_doubts(run, {line.arm for line in run.lines if isinstance(line, Samples)}, run.baseline)


def cell_doubts(runs: Sequence[tuple[str, Run]]) -> Iterator[str]:
    """Those about cells, of all ``runs`` together, by name."""
    rows = [(row, name) for name, run in runs for row in measured_rows(run) if row.timing]

    def found(doubt: Doubt, cells: Sequence[tuple[float, Row, str]]) -> Iterator[str]:
        """``cells`` with how bad each is and the run it is of."""
        if cells:
            _, row, name = max(cells, key=lambda cell: cell[0])
            yield doubt.format(
                cells=counted(len(cells), "cell"),
                worst=_label(row, name),
                limit=LARGE_SPREAD,
                noise=LARGE_NOISE,
                first=significant(row.q1_us or 0),
                third=significant(row.q3_us or 0),
                discarded=counted(row.discarded or 0, "time"),
                spread=significant(row.rank_spread_us or 0),
                time=significant(row.time_us or 0),
                rank=row.slowest_rank,
                share=row.slowest_rank_share or 0,
                ulp=row.tolerance_ulp,
                cost=significant(row.per_iteration_cost_us or 0),
            )

    measured = [(row, name, row.time_us) for row, name in rows if row.time_us]
    spreads = [((row.rank_spread_us or 0) / time_us, row, name) for row, name, time_us in measured if _waits(row)]
    noise = [
        ((row.q3_us - row.q1_us) / time_us, row, name) for row, name, time_us in measured if row.q1_us and row.q3_us
    ]
    costs = [(row.per_iteration_cost_us or 0, row, name) for row, name in rows]
    unchecked = [(0, row, name) for row, name in rows if row.wrong is None and row.status == Status.OK]
    yield from found(Doubt.DISCARDED, [(row.discarded, row, name) for row, name in rows if row.discarded])
    yield from found(Doubt.RANK_SPREAD, [cell for cell in spreads if cell[0] > LARGE_SPREAD])
    yield from found(Doubt.NOISE, [cell for cell in noise if cell[0] > LARGE_NOISE])
    yield from found(Doubt.TOLERANCE, [(row.tolerance_ulp, row, name) for row, name in rows if row.tolerance_ulp])
    yield from found(Doubt.NOT_CHECKED, unchecked)
    yield from found(Doubt.PER_ITERATION, [cell for cell in costs if cell[0] > 0])


def run_doubts(run: Run, arms: Collection[str], baseline: str) -> Iterator[str]:
    """Those about the whole run, of which ``arms`` are looked at and compared with ``baseline``."""
    yield from _imported_events(run)
    yield from _two_libraries(run)
    yield from _unread(run)
    yield from _unregistered(run, {*arms, baseline})
    yield from _same_paths(run, arms, baseline)
    yield from _same_object(run, baseline)


def _imported_events(run: Run) -> Iterator[str]:
    cells = [line for line in run.lines if isinstance(line, Samples) and line.per_iteration is not None]
    if cells and run.is_import:
        yield Doubt.IMPORTED_EVENTS.format(cells=counted(len(cells), "cell"))


def _same_paths(run: Run, arms: Collection[str], baseline: str) -> Iterator[str]:
    worker = run.meta.get("worker") or {}
    paths = {(path.get("collective"), path.get("arm")): path for path in worker.get("paths") or ()}
    measured = [line for line in run.lines if isinstance(line, Samples) and line.arm in arms]
    for (collective, arm), path in paths.items():
        of_baseline = paths.get((collective, baseline))
        if of_baseline is None or arm not in arms or arm in (baseline, twin_of(baseline)):
            continue
        timings = dict.fromkeys(line.timing for line in measured if line.case.collective == collective)
        for mode in Mode:
            seen = [timing for timing in timings if TIMINGS[timing].captured == (mode is Mode.GRAPH)]
            same = path.get(mode)
            if seen and same is not None and same == of_baseline.get(mode):
                where = f"{collective} ({', '.join(seen)})"
                yield Doubt.SAME_PATH.format(candidate=arm, baseline=baseline, where=where, path=same)


def _same_object(run: Run, baseline: str) -> Iterator[str]:
    ready = [user_arm.get("arm") for user_arm in _plugins(run) if user_arm.get("ready")]
    twin = twin_of(baseline)
    if baseline in ready and any(isinstance(line, Samples) and line.arm == twin for line in run.lines):
        yield Doubt.SAME_OBJECT.format(baseline=baseline)


def _two_libraries(run: Run) -> Iterator[str]:
    worker = run.meta.get("worker") or {}
    others = worker.get("other_nccl_libraries")
    if others:
        library = (worker.get("transport") or {}).get("path")
        yield Doubt.TWO_LIBRARIES.format(others=", ".join(others), library=library)


def _unread(run: Run) -> Iterator[str]:
    worker = run.meta.get("worker") or {}
    variables = worker.get("unread_variables")
    if variables:
        library = worker.get("transport") or {}
        yield Doubt.UNREAD.format(
            variables=", ".join(variables), library=library.get("path"), version=library.get("version")
        )


def _unregistered(run: Run, arms: Collection[str]) -> Iterator[str]:
    without = [name for name in _arms_with(run, Registration.UNAVAILABLE) if name in arms]
    if without:
        how = str(run.meta["config"].get("register")).capitalize()
        yield Doubt.UNREGISTERED.format(how=how, arms=", ".join(without))


def _arms_with(run: Run, *registrations: Registration) -> list[str]:
    """Those whose registration came to one of these, without the twins, for which it came to the same."""
    found = (run.meta.get("worker") or {}).get("registered") or {}
    return [name for name, came in found.items() if came in list(registrations) and not name.endswith(TWIN_SUFFIX)]


def about(run: Run) -> str:
    """What the times are."""
    if not run.is_import:
        return (
            f"Medians over rounds, each the slowest rank's. ratio = time / {run.baseline}'s time in the same round; "
            "below 1 is faster."
        )
    kind = over_ranks_of(run.meta)
    if kind is None:
        return "Imported: times are averages over ranks, unless nccl-tests was told otherwise (-a)."
    return f"Imported: times are {_OVER_RANKS[kind]}."


def brought(run: Run) -> Iterator[str]:
    """What each of the user's arms is, which have processes of their own, and whose memory is registered."""
    for arm in _plugins(run):
        yield f"{arm.get('arm')}: {arm.get('where')}, order {arm.get('order')}; {arm.get('described')}"
    for arm in run.meta["config"].get("user_arms") or ():
        if arm.get("target") in ARMS:
            over = f" over {arm['transport']}" if arm.get("transport") else ""
            variables = ", ".join(f"{name}={value}" for name, value in (arm.get("variables") or {}).items())
            yield f"{arm.get('name')}: {arm['target']}{over}{f' with {variables}' if variables else ''}"
    for world in ((run.meta.get("worker") or {}).get("process_sets") or ())[1:]:
        arms = [name for name in world.get("arms") or () if not str(name).endswith(TWIN_SUFFIX)]
        yield (
            f"{', '.join(arms)}: in processes of its own, so its pairs are across processes, which take turns on the "
            f"same devices: {world.get('reason')}"
        )
    having = _arms_with(run, Registration.REGISTERED)
    without = _arms_with(run, Registration.UNAVAILABLE, Registration.ABSENT)
    if having or without:
        others = f"; not registered, on the same memory: {', '.join(without)}" if without else ""
        yield f"registered ({run.meta['config'].get('register')}): {', '.join(having) or 'none'}{others}"


def _plugins(run: Run) -> list[Mapping[str, Any]]:
    """Without the twins, which are the same."""
    found = (run.meta.get("worker") or {}).get("user_arms") or []
    return [user_arm for user_arm in found if not str(user_arm.get("arm")).endswith(TWIN_SUFFIX)]


def _forms(collective: str, placements: Sequence[str]) -> list[str]:
    """Those of ``placements`` that it is measured in: what it has, where it has none of them."""
    has = list(COLLECTIVES[collective].placements)
    return [form for form in has if form in placements] or list(map(str, has))


def not_measured(run: Run) -> Iterator[str]:
    """What was asked for and is in no table, with the reason."""
    yield from run.meta["left_out"]
    asked = run.meta["config"]
    for user_arm in _plugins(run):
        cells = [
            f"{name} {placement}"
            for name in asked.get("collectives", ())
            if name in COLLECTIVES
            for placement in _forms(name, asked.get("placements", ()))
        ]
        missing = [cell for cell in cells if cell not in user_arm.get("supports", ())]
        if missing:
            collectives = {cell.partition(" ")[0] for cell in missing}
            other = [
                cell
                for cell in user_arm.get("supports", ())
                if cell.partition(" ")[0] in collectives and cell not in cells
            ]
            hint = f"; it has {', '.join(other)}, see --placement" if other else ""
            yield f"{user_arm.get('arm')}: unsupported by it: {', '.join(missing)}{hint}"
    for line in run.lines:
        if isinstance(line, Skipped):
            yield f"{line.case.label}: skipped, {line.reason}"


def _waits(row: Row) -> bool:
    """Whether ranks wait for each other: a root may be done long before the rest, and a CPU's call waits for nobody."""
    return not COLLECTIVES[row.collective or ""].rooted and TIMINGS[Timing(row.timing or "")].moves_bytes


def _label(row: Row, run: str) -> str:
    arm = f"{row.arm} ({run})" if run else row.arm
    return f"{arm} {row.timing} {row.collective} {row.dtype} {format_size(row.size_bytes or 0)}"
