"""The report of an audit."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator

from nccl_bench.audit.findings.audit import Audit, Suppressed, join_ranks
from nccl_bench.audit.findings.record import Sample
from nccl_bench.audit.findings.suppressions import Suppression
from nccl_bench.audit.order.races import AccessMode, Missing, RaceKind
from nccl_bench.cli.guide import page
from nccl_bench.report import Detail
from nccl_bench.report.audit import TerminalAudit, json_audit, markdown_audit
from nccl_bench.report.html.audit_page import audit_html
from tests.support.audit_findings import access, collective, line, race, rank_findings
from tests.support.snapshots import CheckSnapshot

_PLANTED = "\x1b[31m <script>alert(1)</script> **bold** ::error::"


def _audit() -> Audit:
    handed_out = access("allocation", mode=AccessMode.HAND_OUT)
    races = (
        race(count=12, ranks=(0, 1, 2, 5)),
        race(collective(), handed_out, Missing.RECORD_STREAM, RaceKind.MEMORY, freed=line(number=91, source="del x")),
        race(collective(in_graph=True, replayed=line("engine/run.py", 7)), access(lines=()), Missing.JOIN),
    )
    accepted = Suppression(number=3, patterns=("aten::copy_", "stats.py"), reason="the counter is only shown")
    audit = join_ranks("serve.py --model tiny", 6, [rank_findings(rank, *races) for rank in range(6)])
    return replace(
        audit,
        suppressed=(Suppressed(race=race(), by=accepted),),
        unused=(replace(accepted, number=4, patterns=("old.py",)),),
        failure="The program ended with exit code 1 on rank 0: ValueError: bad",
    )


@pytest.mark.parametrize("width", [80, 160])
def test_a_terminal_shows_both_lines_and_the_remedy(snapshot: CheckSnapshot, width: int) -> None:
    snapshot(f"audit-{width}", TerminalAudit(width=width, styled=False).render(_audit()))


def test_quiet_stops_behind_the_races_and_full_adds_what_the_sources_see() -> None:
    quiet, full = (
        TerminalAudit(width=80, styled=False, detail=detail).render(_audit()) for detail in (Detail.QUIET, Detail.FULL)
    )
    assert "Race 3" in quiet
    assert "Watched" not in quiet
    assert "- torch operators sees: every operator\n- torch operators misses: Kernels" in full


def test_markdown_shows_both_lines_and_the_remedy(snapshot: CheckSnapshot) -> None:
    snapshot("audit-markdown", markdown_audit(_audit()))


def test_json_has_the_races_with_their_remedies() -> None:
    data = json.loads(json_audit(_audit()))
    assert (data["kind"], data["outcome"], data["exit_code"]) == ("audit", "races", 5)
    assert data["races"][0]["race"]["second"]["lines"][0]["path"] == "engine/comm.py"
    Draft202012Validator(json.loads(page("report-schema"))).validate(data)
    assert data["races"][0]["remedy"]["code"] == "stream.wait_stream(torch.cuda.current_stream())"


def test_without_a_collective_no_report_reads_as_a_pass() -> None:
    audit = join_ranks("serve.py", 1, [rank_findings(0, collectives=0)])
    for text in (TerminalAudit(width=80, styled=False).render(audit), markdown_audit(audit)):
        assert "NOT AUDITED: no collective was seen" in text
        assert "No race" not in text


def test_no_race_says_in_one_line_how_much_was_watched() -> None:
    text = TerminalAudit(width=160, styled=False).render(join_ranks("serve.py", 1, [rank_findings(0)]))
    assert text.splitlines()[1] == (
        "No race in 1000 operations, 12 of them collectives, on 1 rank. That covers what this run did, and nothing "
        "else."
    )


def test_a_sample_says_which_steps_it_covers_and_what_it_misses() -> None:
    sample = Sample(every=10, steps=200, watched=20, watched_step_s=0.06, paused_step_s=0.02)
    findings = rank_findings(0)
    findings = replace(findings, amount=replace(findings.amount, sample=sample))
    audit = join_ranks("train.py", 1, [findings])
    for text in (TerminalAudit(width=1000, styled=False).render(audit), markdown_audit(audit), audit_html(audit)):
        assert "in 20 of 200 steps. That covers the steps that were watched" in text
        assert "One of every 10 steps was watched" in text
        assert "races in the other steps" in text
        assert "A watched step took 3 times as long as another one" in text


def test_texts_of_the_program_have_no_effect() -> None:
    planted = line(_PLANTED, 1, _PLANTED, _PLANTED)
    audit = join_ranks(
        _PLANTED, 1, [rank_findings(0, race(access(_PLANTED, lines=(planted,)), freed=planted))], failure=_PLANTED
    )
    text = TerminalAudit(width=80, styled=True).render(audit)
    assert "\x1b[31m <script>" not in text
    assert r"\x1b[31m <script>" in text
    # Between backticks, Markdown shows the source of a line as it is.
    assert not re.search(r"(?<!\\)(<script>|\*\*bold)", re.sub(r"`[^`]*`", "", markdown_audit(audit)))
    assert "\x1b" not in json_audit(audit)
    text = audit_html(audit)
    assert "<script>alert" not in text
    assert "\x1b" not in text


def test_the_page_has_both_lines_the_remedy_and_the_suppressions() -> None:
    html = audit_html(_audit())
    for text in (
        "engine/comm.py:20 in reduce",
        "<code>comm.all_reduce(x)</code>",
        'data-copy="stream.wait_stream(torch.cuda.current_stream())"',
        "suppressed no race: remove it",
        "Kernels without an operator.",
    ):
        assert text in html
