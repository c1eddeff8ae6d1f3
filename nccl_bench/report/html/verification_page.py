"""The page of a verification: the arms and the probes, every trial, and the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from nccl_bench.analysis.machine import facts
from nccl_bench.catalog.probes import DETECTOR, PROBES
from nccl_bench.records.run import TOOL
from nccl_bench.report.html.answer import headline_blocks
from nccl_bench.report.html.numbers import sortable
from nccl_bench.report.html.page import (
    Block,
    Facts,
    NamedText,
    Numbers,
    Page,
    PageTable,
    Paragraphs,
    Remarks,
    Section,
    render,
)
from nccl_bench.report.verification import notices, table_cells
from nccl_bench.report.verification_remarks import WEAK, verification_remarks
from nccl_bench.verify.headline import verification_headline
from nccl_bench.verify.judgement import Judgement, ProbeStatus, Verification

# The style of a cell in the table of arms by probes.
_STYLES: Mapping[str, str] = {
    ProbeStatus.PASS: "good",
    ProbeStatus.FAIL: "problem",
    ProbeStatus.BLIND: "problem",
    ProbeStatus.ERROR: "problem",
    ProbeStatus.LEAKS: "warning",
    ProbeStatus.MISSED: "warning",
    ProbeStatus.BROKEN: "warning",
    WEAK: "warning",
    "?": "warning",
}
# The style of remarks in a terminal -> that in the page.
_REMARK_STYLES = {"bold red": "problem", "red": "problem", "yellow": "warning"}
# Column of the table of trials -> its meaning.
_TRIALS: Mapping[str, str] = {
    "arm": "the arm",
    "probe": "the probe",
    "status": "the judgement of the arm and the probe",
    "stream": "the stream that was current when the arm was called",
    "operation": "the collective; empty if a trial mixes several",
    "size_bytes": "the message size in bytes; empty if a trial mixes several",
    "in_graph_mode": "true if the calls are inside graph_capture() of a coordinator",
    "trials": "the number of trials, over all ranks",
    "failed": "the number of trials that failed",
    "calls": "the number of calls whose results were checked, on each rank",
}


def verification_html(verification: Verification) -> str:
    """Return the page of ``verification``."""
    return render(verification_page(verification))


def verification_page(verification: Verification) -> Page:
    """Return the page of ``verification`` as data."""
    headline = verification_headline(verification)
    started = verification.facts.get("started") or ""
    sections = (
        Section(identifier="answer", title="Answer", blocks=list(headline_blocks(headline))),
        Section(identifier="probes", title="Arms and probes", blocks=list(_probes(verification))),
        Section(identifier="trials", title="All trials", blocks=list(_trials(verification))),
        Section(identifier="environment", title="Environment", blocks=list(_environment(verification))),
    )
    return Page(
        title=f"{headline.title} - {TOOL}",
        heading=headline.title,
        subtitle=f"A verification of stream order by experiment{f', started {started}' if started else ''}.",
        sections=[section for section in sections if section.blocks],
        data={"numbers": _trial_numbers(verification)},
    )


def _probes(verification: Verification) -> Iterator[Block]:
    if notices(verification):
        yield Paragraphs(items=notices(verification))
    cells = table_cells(verification)
    yield PageTable(
        caption="The judgement of each arm by each probe. The last arm is the detector, which must fail.",
        header=("arm", *verification.probes),
        rows=[(arm, *(cells.get((arm, probe), "") for probe in verification.probes)) for arm in verification.arms],
        styles=_STYLES,
    )
    for remarks in verification_remarks(verification):
        if remarks.title:
            yield Remarks(title=remarks.title, items=remarks.items, style=_REMARK_STYLES.get(remarks.style, "plain"))
        else:
            yield Paragraphs(items=remarks.items)
    yield Remarks(
        title="What the probes try",
        items=[f"{name}: {PROBES[name].summary}" for name in verification.probes],
        folded=True,
    )


def _trials(verification: Verification) -> Iterator[Block]:
    if any(judgement.finding for judgement in verification.judgements):
        yield Paragraphs(
            items=["Trials by stream, operation and size. Those that failed come first, and the detector is last."]
        )
        yield Numbers(name="nccl-bench-verification.csv")


def _trial_numbers(verification: Verification) -> dict[str, object]:
    records = [record for judgement in verification.judgements for record in _records(judgement)]
    # The detector fails on purpose.
    records.sort(key=lambda record: (record["arm"] == DETECTOR, not record["failed"]))
    return sortable({name: [record.get(name) for record in records] for name in _TRIALS}, _TRIALS, _TRIALS)


def _records(judgement: Judgement) -> Iterator[Mapping[str, Any]]:
    """Yield a row for each group of trials; one row for all trials if the record has no groups."""
    finding = judgement.finding
    if finding is None:
        return
    common = {"arm": judgement.arm, "probe": judgement.probe, "status": str(judgement.status)}
    for group in finding.groups:
        # The column is left out if no call is in graph mode.
        yield {**common, **asdict(group), "stream": str(group.place), "in_graph_mode": group.in_graph_mode or None}
    if not finding.groups:
        yield {**common, "trials": finding.trials, "failed": finding.failed}


def _environment(verification: Verification) -> Iterator[Block]:
    ranks = {"world_size": verification.world_size, "nproc": verification.world_size, "nnodes": 1}
    known = facts({"config": {"device": verification.device}, **verification.facts, "launch": ranks})
    known["GPUs in use"] = "" if verification.gpus is None else str(verification.gpus)
    yield Facts(items=[NamedText(name=name, text=text) for name, text in known.items() if name and text])
    if verification.processes:
        columns = {
            "arms": [", ".join(processes.arms) for processes in verification.processes],
            "interpreter": [processes.python or "" for processes in verification.processes],
            "libnccl": [processes.library or "" for processes in verification.processes],
            "variables": [_pairs(processes.variables) for processes in verification.processes],
            "versions": [_pairs(processes.versions) for processes in verification.processes],
        }
        present = {name: texts for name, texts in columns.items() if any(texts)}
        yield PageTable(
            caption="Processes, and the versions of the programs that they ran",
            header=tuple(present),
            rows=list(zip(*present.values(), strict=True)),
        )


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
