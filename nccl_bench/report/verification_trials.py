"""The tables of all trials of a verification: how many, and where they failed, by operation, size and stream."""

from collections.abc import Iterator, Sequence

from nccl_bench.analysis.wording import size_with_unit
from nccl_bench.catalog.probes import Place
from nccl_bench.report.layout import Table, column
from nccl_bench.verify.findings import Finding, TrialGroup
from nccl_bench.verify.judgement import Verification

# The header of the column of each stream.
_HEADERS = {
    Place.DEFAULT: ("default", "stream"),
    Place.SIDE: ("side", "stream"),
    Place.NESTED: ("nested", "stream"),
    Place.OUTER: ("side, after", "a nested one"),
}


def trial_tables(verification: Verification) -> Iterator[Table]:
    """Yield a table of the numbers of trials, then a table of the trials of each finding that has failures."""
    findings = [judgement.finding for judgement in verification.judgements if judgement.finding]
    if findings:
        yield _numbers(findings)
    yield from (_failures(finding) for finding in findings if finding.failed and finding.groups)


def _numbers(findings: Sequence[Finding]) -> Table:
    return Table(
        title="Trials of each arm and probe",
        notes=("calls: the calls whose results were checked, on each rank; 0 if the probe checks no results.",),
        columns=(
            column("arm", ("arm",), [finding.arm for finding in findings], left=True),
            column("probe", ("probe",), [finding.probe for finding in findings], left=True),
            column("trials", ("trials",), [str(finding.trials) for finding in findings]),
            column("failed", ("failed",), [str(finding.failed) for finding in findings]),
            column("calls", ("calls",), [str(finding.calls) for finding in findings]),
        ),
        keep=3,
    )


def _failures(finding: Finding) -> Table:
    rows: dict[tuple[str, int | None], dict[Place, TrialGroup]] = {}
    for group in finding.groups:
        within = ", within graph_capture()" if group.in_graph_mode else ""
        rows.setdefault((f"{group.operation or 'several'}{within}", group.size_bytes), {})[group.place] = group
    return Table(
        title=f"{finding.arm}, {finding.probe}: trials that failed",
        notes=(),
        columns=(
            column("operation", ("", "operation"), [operation for operation, _ in rows], left=True),
            column("size", ("", "size"), ["" if size is None else size_with_unit(size) for _, size in rows]),
            *(
                column(place, header, [_cell(of_place.get(place)) for of_place in rows.values()])
                for place, header in _HEADERS.items()
            ),
        ),
        keep=3,
    )


def _cell(group: TrialGroup | None) -> str:
    return "" if group is None else f"{group.failed} of {group.trials}"
