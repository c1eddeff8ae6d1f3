"""Every fault that a run must survive or end well with, how to inject it, and a table of what it costs."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from nccl_bench.records.run import Run
from tests.support.fault_runs import FaultRun, Injection
from tests.support.launched_processes import AGENT, LAUNCHER, STORE
from tests.support.small_disk import fill, small_disk

DISK_BYTES = 16 * 1024**2
# The time limit of a set-up. Ranks that are forked from the agent need less than a second.
SETUP_TIMEOUT_S = 4.0

SIGTERM = "command gets SIGTERM"
LAUNCH_FAULTS = "faults of a launch"
FULL_DISK = "disk full"
DIES_FIRST = "rank 1 killed in the first set-up"
NEVER_JOINS = "rank 1 never joins the first launch"
ENDINGS = (SIGTERM, "command gets SIGHUP", "command killed", FULL_DISK, "run directory removed")
# The runs of a whole table. That of SIGTERM begins with a death in the first set-up.
RUNS = (LAUNCH_FAULTS, *ENDINGS, NEVER_JOINS)


def faults_of_a_launch(run: FaultRun) -> dict[str, Callable[[], None]]:
    """Return the faults that end a launch, after which the command starts the next launch."""
    return {
        "rank 0 killed": lambda: run.kill("rank 0"),
        "rank 1 killed": lambda: run.kill("rank 1"),
        "torch's launcher killed": lambda: run.kill(LAUNCHER),
        "agent killed": lambda: run.kill(AGENT),
        "store killed, then rank 1": lambda: run.kill(STORE, "rank 1"),
        "rank 1 stopped": lambda: run.kill("rank 1", number=signal.SIGSTOP),
        "rank 1 killed in a relaunch's set-up": lambda: run.signal_in_next_set_up(signal.SIGKILL),
        "rank 1 never joins a relaunch": lambda: run.signal_in_next_set_up(signal.SIGSTOP),
        "allocation fails": (run.directory / "allocate").touch,
        "rank 1 calls with another count": (run.directory / "count").touch,
    }


def faults_of_the_command(run: FaultRun) -> dict[str, Callable[[], None]]:
    """Return the faults that end the command."""
    return {
        "command gets SIGINT": lambda: run.kill("command", number=signal.SIGINT),
        SIGTERM: lambda: run.kill("command", number=signal.SIGTERM),
        "command gets SIGHUP": lambda: run.kill("command", number=signal.SIGHUP),
        "command killed": lambda: run.kill("command"),
        FULL_DISK: lambda: fill(run.directory),
        "run directory removed": lambda: shutil.rmtree(run.out),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A run with faults, after its end."""

    injections: tuple[Injection, ...]  # the faults in the order of time, and what each cost
    printed: str  # what the command wrote to standard output
    errors: str  # what the command wrote to standard error
    recorded: Run | None  # the record; None if there is none
    files: tuple[str, ...]  # the names of the files of the record


def inject(run_of: str, directory: Path, times: int = 1) -> Result:
    """Do one of ``RUNS`` in the new directory ``directory``.

    ``faults of a launch`` injects each of them ``times`` times into one run, which SIGINT ends.
    """
    with _place(run_of, directory) as place:
        acts = ("allocate", "count")
        faults: list[dict[str, object]] = [
            {"rank": 1, "arm": "torch", "act": act, "order": str(place / "run" / act)} for act in acts
        ]
        if run_of == NEVER_JOINS:
            faults = [{"rank": 1, "act": "stay away"}]
        variables = {"PLANTED_SETUP_TIMEOUT_S": f"{SETUP_TIMEOUT_S:g}"}
        with FaultRun(place / "run", faults=faults, **variables) as run:
            injections = tuple(_inject(run_of, run, times))
        outputs = [(run.sandbox.cwd / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
        there = run.out.exists()
        return Result(
            injections=injections,
            printed=outputs[0],
            errors=outputs[1],
            recorded=Run.load(run.out) if there else None,
            files=tuple(sorted(path.name for path in run.out.iterdir())) if there else (),
        )


@contextmanager
def _place(run_of: str, directory: Path) -> Iterator[Path]:
    directory.mkdir()
    if run_of != FULL_DISK:
        yield directory
        return
    with small_disk(directory / "disk", DISK_BYTES) as disk:
        yield disk


def _inject(run_of: str, run: FaultRun, times: int) -> Iterator[Injection]:
    if run_of == NEVER_JOINS:
        yield run.end(run_of, run.wait_for_deadline)
        return
    if run_of == SIGTERM:
        yield run.survive(DIES_FIRST, lambda: run.signal_in_next_set_up(signal.SIGKILL))
    for _ in range(times if run_of == LAUNCH_FAULTS else 0):
        for fault, act in faults_of_a_launch(run).items():
            run.wait_for_cases()
            yield run.survive(fault, act)
    run.wait_for_cases()
    ending = "command gets SIGINT" if run_of == LAUNCH_FAULTS else run_of
    yield run.end(ending, faults_of_the_command(run)[ending])


def table(injections: Iterable[Injection]) -> str:
    """Return a table with one row for each fault."""
    by_fault: dict[str, list[Injection]] = {}
    for injection in injections:
        by_fault.setdefault(injection.fault, []).append(injection)
    lines = [
        f"{'fault':37} {'times':>5} {'cases':>5} {'seconds':>15} {'processes':>9} {'files':>5}  what the user reads",
        f"{'':37} {'':>5} {'lost':>5} {'median':>7} {'max':>7} {'left':>9} {'left':>5}",
    ]
    for fault, of_fault in by_fault.items():
        seconds = [each.seconds for each in of_fault]
        lost, processes, files = (
            max(getattr(each, name) for each in of_fault) for name in ("lost", "processes_left", "scratch_left")
        )
        message = " ".join(of_fault[-1].message.split())
        lines.append(
            f"{fault:37} {len(of_fault):5} {lost:5} {median(seconds):7.2f} {max(seconds):7.2f} {processes:9} {files:5}"
            f"  {message[:150]}"
        )
    return "\n".join(lines)
