"""The analysis of one run, or of a comparison of runs: all that reports and the gate need, computed once."""

from __future__ import annotations

from dataclasses import dataclass

from nccl_bench.analysis import description
from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.comparison import Basis, Comparison
from nccl_bench.analysis.failures import exit_code_of, failures
from nccl_bench.analysis.gaps import candidate_incomplete, not_measured
from nccl_bench.analysis.hints import hints
from nccl_bench.analysis.one_run import compare_arms
from nccl_bench.analysis.summary import Row, rows_of
from nccl_bench.analysis.warnings import cell_warnings, run_warnings
from nccl_bench.config.limits import DEFAULT_THRESHOLD, recorded_limits
from nccl_bench.errors import ExitCode
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """The figures, the comparisons, and all remarks about them."""

    title: str  # the run, or what is compared with what
    notes: tuple[str, ...]  # sentences to read before the tables
    run: Run | None  # the records, whose tables a report shows; None for a comparison of runs
    rows: tuple[Row, ...]  # the summary of the run, one row per record; empty for a comparison of runs
    comparisons: tuple[Comparison, ...]  # one per candidate, case and timing, with its verdict
    basis: Basis  # the data that the verdicts rest on
    reason: str  # the basis in words, or why there are no verdicts
    shared_arm: str | None = None  # the arm that the times of two sides are relative to
    failures: tuple[str, ...]  # wrong results, hangs and crashes of every run
    warnings: tuple[str, ...]  # reasons not to trust the figures
    not_compared: tuple[str, ...] = ()  # cells without a counterpart
    not_measured: tuple[str, ...]  # what was requested and is in no table
    candidate_incomplete: bool  # True if a candidate has no comparison where the baseline was measured
    exit_code: ExitCode  # the code for what went wrong in any of the runs

    @classmethod
    def of(cls, run: Run) -> Analysis:
        """Analyse ``run``: its arms against its baseline, by the thresholds that it was measured for."""
        name = run.meta["name"]
        limits = recorded_limits(run.meta["config"], DEFAULT_THRESHOLD, f"the run {name}")
        comparisons = compare_arms(ComparableRun.of(run, name), limits)
        rows = rows_of(run, comparisons)
        measured = {line.arm for line in run.lines if isinstance(line, Samples)}
        return cls(
            title=description.title(run),
            notes=tuple(description.notes(run)),
            run=run,
            rows=rows,
            comparisons=comparisons,
            basis=Basis.ROUNDS,
            reason="pairs of the same round" if comparisons else f"no arm has a round in common with {run.baseline}",
            failures=tuple(failures(run)),
            warnings=(*run.warnings, *cell_warnings([("", rows)]), *run_warnings(run, measured, run.baseline)),
            not_measured=tuple(not_measured(run)),
            candidate_incomplete=candidate_incomplete(
                run, comparisons, run.baseline, [arm for arm in run.arms if arm != run.baseline]
            ),
            exit_code=exit_code_of(run.lines),
        )

    @property
    def hints(self) -> tuple[str, ...]:
        """Ways to decide the comparisons that are inconclusive."""
        return tuple(hints(self.comparisons, self.basis))

    @property
    def sides(self) -> tuple[str, str]:
        """The names of what is compared: baseline and candidate of one run, or the side before and the side after."""
        return ("baseline", "candidate") if self.basis is Basis.ROUNDS else ("before", "after")

    @property
    def could_be_judged(self) -> bool:
        """True if a verdict was possible: it needs an interval, and a noise floor unless several runs show it."""
        return any(
            each.interval is not None and (each.noise_floor is not None or self.basis is Basis.RUNS)
            for each in self.comparisons
        )
