"""A rank under watch: it runs the program, and writes the findings while the program runs and at its end."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from nccl_bench.audit.findings.describing import Describer
from nccl_bench.audit.findings.record import Amount, ProgramEnd, RankFindings
from nccl_bench.audit.program import CALLER, Program, end_as_interpreter
from nccl_bench.audit.sampling import Sampler, sampling
from nccl_bench.audit.watching import Watch, watch

# The interval in seconds at which new races are written, so that a kill of the program does not lose them.
WRITE_EVERY_S = 1.0
# Without new races, the findings are written once in this number of intervals.
_INTERVALS_WITHOUT_RACES = 10


class WatchedRank:
    """The watch over the program of one rank, and its findings."""

    def __init__(self, rank: int, findings: Path, directory: Path, every: int, on_look: Callable[[int], None]) -> None:
        """Write into the directory ``findings``. A thread calls ``on_look`` with the number of actions.

        Files below ``directory`` are named relative to it. One of ``every`` steps of the program is watched.
        """
        self._rank = rank
        self._findings = findings
        self._every = every
        self._on_look = on_look
        self._describer = Describer(rank, directory, CALLER)
        self._lock = threading.Lock()
        self._started = time.perf_counter()
        self._end: ProgramEnd | None = None
        self._program_s: float | None = None
        self._watch: Watch | None = None
        self._sampler: Sampler | None = None

    def run(self, program: Program) -> RankFindings:
        """Run ``program`` to its end and return the findings."""
        ended = threading.Event()
        thread = threading.Thread(target=self._look_until, args=(ended,), name="nccl-bench findings", daemon=True)
        thread.start()
        with watch() as self._watch, ExitStack() as stack:
            if self._every > 1:
                self._sampler = stack.enter_context(sampling(self._watch, self._every))
            end = program.run()
            end_as_interpreter()
        self._program_s, self._end = time.perf_counter() - self._started, end
        ended.set()
        thread.join()
        return self.write()

    def write(self) -> RankFindings:
        """Write the findings so far, and return them."""
        with self._lock:
            findings = self._read()
            findings.write(self._findings)
        return findings

    def _look_until(self, ended: threading.Event) -> None:
        written = -1
        interval = 0
        while not ended.wait(WRITE_EVERY_S):
            seen = self._watch
            if seen is None:
                continue
            self._on_look(seen.tally.actions)
            if seen.tally.races != written or interval % _INTERVALS_WITHOUT_RACES == 0:
                written = seen.tally.races
                self.write()
            interval += 1

    def _read(self) -> RankFindings:
        seen = self._watch
        if seen is None:
            return RankFindings(rank=self._rank)
        races = self._describer.describe(seen.races)
        tally = seen.tally
        return RankFindings(
            rank=self._rank,
            races=races,
            sources=seen.sources,
            amount=Amount(
                actions=tally.actions,
                works=tally.works,
                collectives=dict(tally.collectives),
                program_s=self._program_s or time.perf_counter() - self._started,
                judging_s=tally.judging_s,
                slowdown=seen.cost,
                remembered=seen.remembered,
                peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                sample=self._sampler.sample if self._sampler is not None else None,
            ),
            end=self._end,
        )
