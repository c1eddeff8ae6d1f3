"""Failures of a run: its exit code, and a line of text for each failure."""

from collections.abc import Collection, Iterable, Iterator, Mapping

from nccl_bench.analysis.joined_launches import join_launches
from nccl_bench.analysis.wording import counted
from nccl_bench.catalog.arms import TWIN_SUFFIX
from nccl_bench.catalog.scenarios import hang_word, has_deadlocks
from nccl_bench.errors import ExitCode
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash, Hang, Skipped, Status

# Tables and messages mark a cell with this text if all batches of the cell were discarded.
DISCARDED = "DISCARDED"
# The exit codes of failures, the worst first.
_WORST_FIRST = (ExitCode.WRONG_RESULT, ExitCode.HANG, ExitCode.SETUP)
# The exit code for each status of a cell and for each kind of record.
_CODES: dict[str, ExitCode] = {
    Status.WRONG: ExitCode.WRONG_RESULT,
    Hang.kind: ExitCode.HANG,
    Crash.kind: ExitCode.SETUP,
}
# The statuses of cells that were not measured, although nothing failed.
_NO_FAILURES = (Skipped.kind, Status.DECLINED)


def exit_code_of(run: Run) -> ExitCode:
    """Return the exit code for ``run``: wrong results are worse than a hang, and a hang is worse than a crash.

    The exit code without failures: ``OK`` if cells were measured and all of them have times, otherwise ``SETUP``. A
    declined cell was not measured.
    """
    samples = run.samples
    measured = ~samples.status.equals(Status.DECLINED)
    codes = {_CODES.get(of_line) for of_line in (*samples.status.distinct(), *(line.kind for line in run.others))}
    if not measured.any() or not samples.is_timed[measured].all():
        codes.add(ExitCode.SETUP)
    return worst(code for code in codes if code is not None)


def exit_code_of_statuses(statuses: Collection[str]) -> ExitCode:
    """Return the exit code of a summary, by the rule of ``exit_code_of``, from the statuses of rows without a time."""
    # If a row has the status ok but no time, all its batches were discarded.
    return worst((_CODES | {Status.OK: ExitCode.SETUP})[status] for status in statuses if status not in _NO_FAILURES)


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the worst of the exit codes; ``OK`` if there is none."""
    codes = set(codes)
    return next((code for code in _WORST_FIRST if code in codes), ExitCode.OK)


def failures(run: Run) -> Iterator[str]:
    """Yield one line for all wrong results, a line for each hang and crash, and a line if nothing was measured."""
    run = join_launches(run)
    wrong = run.samples.take(run.samples.status.equals(Status.WRONG)).lines()
    if wrong:
        arms = ", ".join(dict.fromkeys(line.arm for line in wrong))
        yield f"WRONG: wrong results in {counted(len(wrong), 'cell')} of {arms}; the first is {wrong[0].case.label}"
    late = [line for line in wrong if line.late]
    if late:
        arms = ", ".join(dict.fromkeys(line.arm for line in late))
        yield (
            f"LATE: {arms} wrote into tensors after the caller's stream had passed the calls, in "
            f"{counted(len(late), 'cell')}; the first is {late[0].case.label}. Make this stream wait for the collective"
        )
    user_arms = {user_arm.get("name") for user_arm in run.meta["config"].get("user_arms") or ()}
    for line in run.others:
        if isinstance(line, Hang | Crash):
            activity = line.case.label if line.case else "set-up" if line.case_index < 0 else "after all cases"
            rank = f"rank {line.rank} on {line.host}"
            launch = f"launch {line.launch}" if run.launches > 1 else ""
            where = ", ".join(filter(None, (launch, activity, line.arm and f"arm {line.arm}", rank)))
            # Records before schema 4 lack `excludes_arm`. There, a failure excluded the arm if it was a user arm.
            excluded = line.excludes_arm or line.arm.removesuffix(TWIN_SUFFIX) in user_arms
            how = "in another try"
            if isinstance(line, Hang) and has_deadlocks(line.case):
                excluded, how = line.excludes_arm, "in the other arms"
            tried_again = f"; the case was measured {how}" if (line.case, line.launch) in run.ended else ""
            consequence = "; the arm is no longer measured" if excluded else tried_again
            if isinstance(line, Hang):
                call = f", in {line.call}" if line.call else ""
                state = f"{line.state.description}, " if line.state else ""
                ras = "; samples.jsonl has the answer of NCCL's RAS" if line.ras else ""
                what = f"{state}in {line.phase} after {round(line.timeout_s, 1):g} s{call}{ras}"
                yield f"{hang_word(line.case.scenario if line.case else None)}: {where}: {what}{consequence}"
            else:
                # Remove the rank and the arm from the start of the message: `where` already names both.
                message = line.message.strip().removeprefix(rank).removeprefix(": ")
                gap = "" if message.startswith(" ") else ": "
                yield f"CRASH: {where}{gap}{message.removeprefix(f'the arm {line.arm}: ')}{consequence}"
    declined = int(run.samples.status.equals(Status.DECLINED).sum())
    if run.skipped + declined == len(run.lines):
        parts = [f"{counted(run.skipped, 'case')} skipped"] * bool(run.skipped)
        parts += [f"{counted(declined, 'cell')} declined"] * bool(declined)
        what = f": {', '.join(parts)}, and no other case began" if parts else ""
        yield f"EMPTY: nothing was measured{what}"


def summary_failures(left_out: Mapping[str, int]) -> Iterator[str]:
    """Yield a line for each status that is a failure; ``left_out`` counts the rows without a time by status."""
    for status, rows in left_out.items():
        if status not in _NO_FAILURES:
            mark = DISCARDED if status == Status.OK else status.upper()
            yield f"{mark}: {counted(rows, 'row')} of the summary without a time"
