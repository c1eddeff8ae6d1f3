"""The document that ``--format json`` prints: its types. The JSON Schema is made from these types.

A field with a default is absent if it has no value. A reader must ignore fields that it does not know, because later
versions can add fields. ``REPORT_VERSION`` rises only if a field is removed, renamed, or gets another meaning.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, json

from nccl_bench.analysis.comparison import Basis, OpenReason
from nccl_bench.analysis.headline import Headline
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.summary import Row
from nccl_bench.audit.findings.audit import Outcome, Suppressed
from nccl_bench.audit.findings.record import FoundRace, RankFindings
from nccl_bench.audit.findings.remedies import Remedy
from nccl_bench.audit.findings.suppressions import Suppression
from nccl_bench.catalog.collectives import Placement, RedOp
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.json_schema import independent_of_msgspec
from nccl_bench.report.step_document import StepRecord
from nccl_bench.verify.findings import Processes, TrialGroup

REPORT_VERSION: Literal[1] = 1

_Verdict = Annotated[Verdict | None, Meta(description="the verdict about the candidate; absent without an interval")]
_Low = Annotated[float | None, Meta(description="the lower end of the ratio's interval; absent if rounds are too few")]
_High = Annotated[float | None, Meta(description="the upper end of the ratio's interval")]
_Threshold = Annotated[float, Meta(description="the smallest difference that matters, as a share")]
_Reason = Annotated[OpenReason | None, Meta(description="the reason for the verdict inconclusive")]
_Floor = Annotated[float | None, Meta(description="the noise floor, as a share: 0.25 is a factor of 1.25")]
_Needed = Annotated[int | None, Meta(description="rounds that an interval needs; present only if there are too few")]
_Texts = Annotated[list[str], Meta(description="sentences")]


class _Compared(Struct, omit_defaults=True, kw_only=True):
    """The fields that a band and a single size share: two arms in a kind of case and a timing."""

    compared: Annotated[str, Meta(description="what is compared, in words")]
    baseline_arm: Annotated[str, Meta(description="the arm that the candidate is compared with; the arm before")]
    candidate_arm: Annotated[str, Meta(description="the arm that is judged; the arm after")]
    timing: Timing
    scenario: str
    hidden: Annotated[int | None, Meta(description="elements of a token; only in the scenario chain")] = None
    layers: Annotated[int | None, Meta(description="number of layers; only in the scenario chain")] = None
    delay_us: Annotated[int | None, Meta(description="requested delay of the late rank; only in skew")] = None
    streams: Annotated[int | None, Meta(description="streams of two communicators; only in the scenario contended")] = (
        None
    )
    collective: str
    dtype: str
    redop: RedOp | None = None
    placement: Annotated[Placement, Meta(description="the placement of the case")]
    root: int | None = None
    ratio: Annotated[float, Meta(description="candidate / baseline; below 1 the candidate is faster")]
    ratio_low: _Low = None
    ratio_high: _High = None
    threshold: _Threshold
    verdict: _Verdict = None
    reason: _Reason = None
    noise_floor: _Floor = None
    pairs_needed: _Needed = None


class BandRecord(_Compared, omit_defaults=True, kw_only=True):
    """Neighbouring sizes that share a verdict."""

    size_bytes: Annotated[list[int], Meta(description="the sizes, the smallest first", min_length=1)]
    least_ratio: Annotated[float, Meta(description="the smallest ratio of a size")]
    most_ratio: Annotated[float, Meta(description="the largest ratio of a size")]
    least_saved_us: Annotated[float, Meta(description="the least time saved at a size, us a call; negative: it costs")]
    most_saved_us: Annotated[float, Meta(description="the most time saved at a size, microseconds a call")]
    hidden_change: Annotated[
        float | None,
        Meta(
            description="the largest change of one size alone that the verdict can hide, as a share of the ratio of "
            "the other sizes; absent if the verdict is open, or if it hides no size that contradicts it"
        ),
    ] = None


class CellRecord(_Compared, omit_defaults=True, kw_only=True):
    """The comparison of two arms at a single size, in a timing."""

    size_bytes: Annotated[int, Meta(description="the message size, as nccl-tests counts it")]
    count: Annotated[int, Meta(description="elements of one block")]
    baseline_placement: Annotated[Placement, Meta(description="the placement in which the baseline was called")]
    candidate_placement: Annotated[Placement, Meta(description="the placement in which the candidate was called")]
    baseline_kernels: Annotated[str | None, Meta(description="kernels of the baseline; only with --tuning")] = None
    candidate_kernels: Annotated[str | None, Meta(description="kernels of the candidate")] = None
    baseline_us: Annotated[float, Meta(description="median time of the baseline, microseconds a call")]
    candidate_us: Annotated[float, Meta(description="median time of the candidate, microseconds a call")]
    launches: Annotated[int | None, Meta(description="launches with a ratio; absent for one launch")] = None
    communicator_variance: Annotated[
        float | None, Meta(description="standard deviation of the ratio from launch to launch, as a share")
    ] = None
    below_floor: Annotated[
        bool, Meta(description="the verdict is inconclusive because of the noise floor or a missing twin")
    ] = False
    processes_differ: Annotated[
        bool, Meta(description="the verdict is inconclusive because the arms ran in different processes")
    ] = False


class RunRecord(Struct, kw_only=True):
    """The record of a run that the report is about."""

    side: Annotated[str, Meta(description="before or after, numbered if a side has several runs; empty for one run")]
    meta: Annotated[dict[str, Any], Meta(description="the content of run.json, which has a schema number of its own")]


class _Report(Struct, omit_defaults=True, kw_only=True, tag_field="kind"):
    report_version: Annotated[Literal[1], Meta(description="the version of this format, not of the record")]
    headline: Annotated[Headline, Meta(description="the answer in a few lines, as all reports show it")]
    exit_code: Annotated[int, Meta(description="the exit code for the worst failure; verdicts do not count")]


class _Comparisons(_Report, omit_defaults=True, kw_only=True):
    title: str
    sides: Annotated[
        tuple[str, str], Meta(description="what baseline and candidate are: baseline, candidate or before, after")
    ]
    basis: Annotated[Basis, Meta(description="the data from which verdicts are computed")]
    basis_reason: Annotated[str, Meta(description="the basis in words, or why there are no verdicts")]
    shared_arm: Annotated[str | None, Meta(description="the arm to which all times are relative")] = None
    notes: _Texts
    step: Annotated[
        StepRecord | None, Meta(description="the communication time of a step; absent without a workload")
    ] = None
    bands: list[BandRecord]
    cells: list[CellRecord]
    failures: _Texts
    warnings: _Texts
    hints: _Texts
    not_compared: _Texts
    not_measured: _Texts
    runs: list[RunRecord]


class RunReport(_Comparisons, omit_defaults=True, kw_only=True, tag="run"):
    """The report of a run: of ``run``, ``report`` and a recorded import."""

    summary: Annotated[list[Row], Meta(description="the rows of summary.csv")]


class ComparisonReport(_Comparisons, omit_defaults=True, kw_only=True, tag="comparison"):
    """The report of ``compare``."""


class VerificationCell(Struct, omit_defaults=True, kw_only=True):
    """The judgement of one probe about one arm."""

    arm: str
    probe: str
    status: str
    reason: Annotated[str | None, Meta(description="why the probe does not apply")] = None
    trials: int | None = None
    failed: int | None = None
    raced: int | None = None
    calls: Annotated[int | None, Meta(description="calls whose results were checked, on each rank")] = None
    detail: Annotated[str | None, Meta(description="the error of the first failed trial")] = None
    quiet: Annotated[list[str], Meta(description="the streams on which no trial raced")] = []
    broken: Annotated[bool, Meta(description="an exception, a crash or a hang ended the probe")] = False
    unmade: Annotated[bool, Meta(description="the arm could not be made")] = False
    declined: Annotated[list[str], Meta(description="what the arm declined, each with the reason")] = []
    leaks: Annotated[list[str], Meta(description="what the arm left behind")] = []
    watched_calls: Annotated[int, Meta(description="calls of all ranks whose order was decided by construction")] = 0
    unforked_calls: Annotated[int, Meta(description="calls that nothing orders after the write of their input")] = 0
    unjoined_calls: Annotated[int, Meta(description="calls after which nothing orders a copy of their output")] = 0
    groups: Annotated[list[TrialGroup], Meta(description="the trials by stream, operation and size")] = []


class VerificationReport(_Report, omit_defaults=True, kw_only=True, tag="verification"):
    """The report of ``verify``. It is also the file verification.json of a record."""

    tool: str
    version: Annotated[str, Meta(description="the version of nccl-bench")]
    started: str
    resumed: Annotated[list[str], Meta(description="when the verification was resumed")]
    finished: Annotated[str | None, Meta(description="when it ended; null if it still runs or was killed")] = None
    status: Annotated[str, Meta(description="complete, interrupted, failed or running")]
    command: list[str]
    config: Annotated[dict[str, Any], Meta(description="the options")]
    environment: dict[str, Any]
    device: str
    world_size: int
    gpus: int | None = None
    planned: Annotated[int, Meta(description="probes that were planned, counted for each arm")]
    ran: Annotated[int, Meta(description="probes that ran, counted for each arm")]
    blind: Annotated[bool, Meta(description="the detector was not caught, so nothing is verified")]
    process_sets: Annotated[list[Processes], Meta(description="the processes of the arms, with their versions")]
    notes: _Texts
    cells: list[VerificationCell]


class RaceRecord(Struct, kw_only=True):
    """A race that an audit reports."""

    race: FoundRace
    remedy: Annotated[Remedy, Meta(description="the call that would order the accesses, and where it belongs")]


class AuditReport(Struct, kw_only=True, tag_field="kind", tag="audit"):
    """The report of ``audit``."""

    report_version: Annotated[Literal[1], Meta(description="the version of this format")] = REPORT_VERSION
    outcome: Outcome
    exit_code: Annotated[int, Meta(description="the exit code of the command")]
    headline: Annotated[str, Meta(description="the answer in one sentence")]
    program: Annotated[str, Meta(description="the program and its arguments")]
    world_size: Annotated[int, Meta(description="the number of ranks that were watched")]
    races: Annotated[list[RaceRecord], Meta(description="the races that no suppression accepts, the worst first")]
    suppressed: Annotated[list[Suppressed], Meta(description="the races that a suppression accepts")]
    unused: Annotated[
        list[Suppression],
        Meta(description="the suppressions that suppressed no race; of several that match, the first counts"),
    ]
    hang: Annotated[str, Meta(description="the message about a hang; empty without one")]
    failure: Annotated[str, Meta(description="how the program failed; empty if it ended well")]
    ranks: Annotated[list[RankFindings], Meta(description="the findings of each rank")]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of all reports."""
    schema = json.schema(RunReport | ComparisonReport | VerificationReport | AuditReport)
    return independent_of_msgspec(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"nccl-bench report, version {REPORT_VERSION}",
            **schema,
        }
    )
