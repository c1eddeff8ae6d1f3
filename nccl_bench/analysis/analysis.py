"""The analysis of one run, or of a comparison of runs: computed once for the reports and ``--fail-on``."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from nccl_bench.analysis import description
from nccl_bench.analysis.answer import make_headline
from nccl_bench.analysis.bands import Band, bands_of
from nccl_bench.analysis.cell_warnings import cell_warnings, noise_warnings
from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.comparison import Basis, Comparison
from nccl_bench.analysis.comparison_facts import comparison_facts
from nccl_bench.analysis.failures import exit_code_of, failures
from nccl_bench.analysis.gaps import candidate_incomplete, not_measured
from nccl_bench.analysis.headline import Headline
from nccl_bench.analysis.headline_facts import run_facts
from nccl_bench.analysis.hints import hints
from nccl_bench.analysis.joined_launches import join_launches
from nccl_bench.analysis.kernels import kernels_fact
from nccl_bench.analysis.machine import NamedRuns
from nccl_bench.analysis.one_run import basis_of, compare_arms
from nccl_bench.analysis.rows import OtherRatios, Rows, other_ratios_of, rows_of
from nccl_bench.analysis.steadiness import Steadiness, steadiness_of
from nccl_bench.analysis.step_lines import step_facts, step_lines, step_warnings
from nccl_bench.analysis.step_run import step_time
from nccl_bench.analysis.step_time import StepComparison, StepTime
from nccl_bench.analysis.warnings import carry_over_warnings, run_warnings, twin_warnings
from nccl_bench.analysis.wording import unit_of
from nccl_bench.catalog.arms import twin_of
from nccl_bench.config.limits import DEFAULT_THRESHOLD, Limits, recorded_limits
from nccl_bench.errors import ExitCode
from nccl_bench.records.collection import pausing_collection
from nccl_bench.records.run import Run


# No slots: an analysis keeps its headline, which several reports of one command use.
@dataclass(frozen=True, kw_only=True)
class Analysis:
    """The figures, the comparisons and the remarks of one analysis."""

    title: str  # a description of the run, or of the runs or arms that are compared
    notes: tuple[str, ...]  # sentences to read before the tables
    run: Run | None  # all records of the run, with its launches joined; None for the command `compare`
    measured: Run | None = None  # the run as it was measured, with separate launches; None for the command `compare`
    # The content of each run's run.json, with the name of the run's side. The name is empty if there is one run.
    metas: NamedRuns
    # All records of each run, with its launches joined, and the name of the run's side. Summaries are absent.
    runs: tuple[tuple[str, Run], ...] = ()
    # The rows of each run that has records, with the name of the run's side. `compare` has only rows of compared cells.
    rows_of_runs: tuple[tuple[str, Rows], ...] = ()
    rows: Rows  # the summary of the run, one row per record; empty for the command `compare`
    comparisons: tuple[Comparison, ...]  # comparisons with verdicts, for each candidate, case and timing
    bands: tuple[Band, ...] = field(init=False)  # all comparisons, in bands of neighbouring sizes with one verdict each
    # The candidates whose verdicts answer the question; None for every candidate.
    asked_arms: tuple[str, ...] | None = None
    step: StepTime | None = None  # the communication time of a step of a workload; None without a workload
    basis: Basis  # the data from which the verdicts are computed
    reason: str  # the basis in words, or the reason why there are no verdicts
    shared_arm: str | None = None  # the arm to which all times are relative; None if there is none
    difference: str = ""  # the differences that the records of two sides show; empty if all arms are from one run
    cautions: tuple[str, ...] = ()  # differences between the runs that can make a comparison unfair
    command: str = ""  # the command that compares the runs; empty if no command does, as for one run
    failures: tuple[str, ...]  # wrong results, hangs and crashes of every run
    warnings: tuple[str, ...]  # reasons not to trust the figures
    steadiness: Steadiness | None = None  # whether the machine was steady; None if no records of rounds are known
    not_compared: tuple[str, ...] = ()  # cells (case, timing, arm) without a cell to compare with
    not_measured: tuple[str, ...]  # everything that was requested but not measured
    candidate_incomplete: bool  # True if an asked candidate lacks a cell that the baseline has
    exit_code: ExitCode  # the exit code for the worst failure in any of the runs

    def __post_init__(self) -> None:
        """Make the bands once: all reports and ``--fail-on`` then have the same verdicts."""
        object.__setattr__(self, "bands", bands_of(self.comparisons))

    @classmethod
    @pausing_collection()
    def of(cls, run: Run) -> Analysis:
        """Compare the arms of ``run`` with the run's baseline. The thresholds are those recorded in the run."""
        limits = recorded_limits(run.meta["config"], DEFAULT_THRESHOLD, f"the run {run.meta['name']}")
        asked_arms = run.asked_arms
        comparisons, of_twin, other_ratios, step = _compare(run, limits)
        # Put the comparisons that answer the question first, in tables too.
        comparisons = tuple(sorted(comparisons, key=lambda each: each.candidate not in asked_arms))
        basis = basis_of(comparisons)
        rows = rows_of(run, comparisons, other_ratios)
        joined = join_launches(run)
        steadiness = steadiness_of([("", rows)], [("", run)])
        return cls(
            title=description.title(run),
            notes=tuple(description.notes(run)),
            run=joined,
            measured=run,
            metas=(("", run.meta),),
            runs=(("", joined),),
            rows_of_runs=(("", rows),),
            rows=rows,
            comparisons=comparisons,
            asked_arms=asked_arms,
            step=step,
            basis=basis,
            reason="times of the same round" if comparisons else f"no arm has a round in common with {run.baseline}",
            failures=tuple(failures(joined)),
            warnings=(
                *run.warnings,
                *cell_warnings([("", rows)]),
                *noise_warnings(steadiness),
                *run_warnings(run, run.samples.arm.distinct(), run.baseline),
                *carry_over_warnings(run, limits),
                *twin_warnings(of_twin),
                *(step_warnings(step) if step is not None else ()),
            ),
            steadiness=steadiness,
            not_measured=tuple(not_measured(run)),
            candidate_incomplete=candidate_incomplete(run, comparisons, run.baseline, asked_arms),
            exit_code=exit_code_of(run),
        )

    @property
    def answers(self) -> tuple[Comparison, ...]:
        """The comparisons that answer the question."""
        return tuple(each for each in self.comparisons if self.asked_arms is None or each.candidate in self.asked_arms)

    @property
    def answer_bands(self) -> tuple[Band, ...]:
        """The bands that answer the question. The headline and ``--fail-on`` use only these."""
        return tuple(band for band in self.bands if self.asked_arms is None or band.candidate in self.asked_arms)

    @cached_property
    def unit(self) -> str:
        """The work that is timed: a call or a layer. It is the same in all cases, because a run has one scenario."""
        first = next(iter(self.comparisons), None)
        rows = (row for _, rows in self.rows_of_runs for row in rows if row.scenario)
        return unit_of(next(rows, None) if first is None else first.case)

    @cached_property
    def headline(self) -> Headline:
        """The answer in a few lines."""
        steady = self.steadiness.in_short if self.steadiness is not None else ""
        step = () if self.step is None else self.step.of(self.asked_arms)
        is_decided = bool(step) and all(each.is_decided for each in step)
        of_step = [] if self.step is None else step_facts(self.step)
        if self.run is not None:
            facts = run_facts(
                self.run, self.metas, self.rows, self.answer_bands, self.basis, steady, is_decided=is_decided
            )
        else:
            facts = comparison_facts(
                basis=self.basis,
                reason=self.reason,
                cautions=self.cautions,
                bands=self.answer_bands,
                metas=self.metas,
                runs=self.runs,
                rows=self.rows_of_runs,
                command=self.command,
                steady=steady,
                two_speeds=self.steadiness is not None and self.steadiness.has_two_speeds,
                is_decided=is_decided,
            )
        kernels = kernels_fact(self.answers, self.sides)
        return make_headline(
            name="" if self.basis.of_one_run else self.title,
            bands=self.answer_bands,
            sides=self.sides,
            run=self.run,
            metas=self.metas,
            failures=self.failures,
            facts=(*of_step, *([kernels] if kernels else []), *facts),
            difference=self.difference,
            first=() if self.step is None else step_lines(self.step, self.asked_arms, self.sides),
        )

    @property
    def hints(self) -> tuple[str, ...]:
        """Advice on how to decide the inconclusive bands."""
        return tuple(hints(self.answer_bands, self.basis, self.metas[0][1] if self.metas else {}))

    @property
    def sides(self) -> tuple[str, str]:
        """The names of the two sides: baseline and candidate within one run, otherwise before and after."""
        return ("baseline", "candidate") if self.basis.of_one_run else ("before", "after")

    @property
    def judged(self) -> tuple[Band | StepComparison, ...]:
        """The verdicts that ``--fail-on`` checks: those of step times if there are any, otherwise ``answer_bands``."""
        return self.answer_bands if self.step is None else self.step.of(self.asked_arms)

    @property
    def could_be_judged(self) -> bool:
        """True if an answer has an interval that contains communicator variance, or an interval and a noise floor."""
        return any(
            each.interval is not None and (each.noise_floor is not None or self.basis.has_variance)
            for each in self.judged
        )


def _compare(
    run: Run, limits: Limits
) -> tuple[tuple[Comparison, ...], tuple[Comparison, ...], OtherRatios, StepTime | None]:
    """Return the comparisons of arms, the comparisons of the twin, the ratios of all other arms, and the step time.

    The ``ComparableRun`` needs much memory. Only this function has it, so its memory is free afterwards.
    """
    comparable = ComparableRun.of(run, run.meta["name"])
    comparisons = compare_arms(comparable, limits)
    of_twin: tuple[Comparison, ...] = ()
    # Compare the twin only if there are several launches. With one launch, the twin sets the noise floor.
    if basis_of(comparisons).has_variance:
        base = run.recorded_baseline
        of_twin = compare_arms(comparable, limits, baseline=base, candidates=[twin_of(base)])
    step = step_time(run, comparable, limits, run.baseline, [arm for arm in run.arms if arm != run.baseline])
    return comparisons, of_twin, other_ratios_of(run, comparable, comparisons), step
