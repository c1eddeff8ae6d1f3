"""A verification as JSON, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator, ValidationError

from nccl_bench.catalog.probes import DETECTOR, PROBES
from nccl_bench.cli.guide import page
from nccl_bench.report.escaping import visible_line
from nccl_bench.report.verification import (
    csv_verification,
    json_verification,
    markdown_verification,
)
from nccl_bench.verify.judgement import ProbeStatus, Verification
from tests.support.made_verifications import (
    CAUGHT,
    EVERYTHING,
    FAILING,
    INSTALLED,
    KILLED,
    WRONG,
    flat,
    make_verification,
    shown,
)


def test_the_json_fits_the_schema() -> None:
    of = make_verification({("torch", "many"): KILLED, (DETECTOR, "producer"): "late"}, broken=[("torch", "many")])
    facts = {
        "tool": "nccl-bench",
        "version": "1",
        "started": "then",
        "resumed": [],
        "finished": None,
        "status": "running",
        "command": ["nccl-bench", "verify"],
        "config": {},
        "environment": {},
    }
    schema = Draft202012Validator(json.loads(page("report-schema")))
    document = json.loads(json_verification(replace(of, facts=facts)))
    schema.validate(document)
    described = schema.schema["$defs"]
    assert set(document) == set(described["VerificationReport"]["properties"])
    assert set().union(*document["cells"]) <= set(described["VerificationCell"]["properties"])
    with pytest.raises(ValidationError):
        schema.validate(json.loads(json_verification(replace(of, facts={}))))


def test_the_json_has_every_cell_after_the_command_and_the_machine() -> None:
    of = make_verification({("torch", "many"): KILLED, (DETECTOR, "producer"): "late"}, broken=[("torch", "many")])
    document = json.loads(json_verification(replace(of, facts={"tool": "nccl-bench", "version": "1"})))
    assert list(document) == [
        "kind",
        "report_version",
        "tool",
        "version",
        "device",
        "world_size",
        "gpus",
        "planned",
        "ran",
        "blind",
        "exit_code",
        "process_sets",
        "headline",
        "notes",
        "cells",
    ]
    assert (document["device"], document["world_size"], document["blind"], document["exit_code"]) == (
        "cuda",
        4,
        True,
        9,
    )
    cells = {(cell["arm"], cell["probe"]): cell for cell in document["cells"]}
    assert len(cells) == len(document["cells"]) == len(INSTALLED) * len(PROBES)
    empty: dict[str, object] = {name: [] for name in ("quiet", "declined", "leaks", "groups")}
    empty |= dict.fromkeys(("calls", "watched_calls", "unforked_calls", "unjoined_calls"), 0)
    assert cells["torch", "many"] == {
        "arm": "torch",
        "probe": "many",
        "status": "FAIL",
        "trials": 48,
        "failed": 36,
        "detail": KILLED,
        "raced": 0,
        **empty,
        "broken": True,
        "unmade": False,
    }
    assert cells["stream-free", "state"] == {
        "arm": "stream-free",
        "probe": "state",
        "status": "unverified",
        "trials": 48,
        "failed": 0,
        "raced": 0,
        **empty,
        "broken": False,
        "unmade": False,
    }
    assert cells["torch", "async"] == {
        "arm": "torch",
        "probe": "async",
        "status": "not applicable",
        "reason": "torch.distributed has no all-gather on a stream of the caller's choice",
    }
    assert {cell["status"] for cell in document["cells"]} == {
        *("FAIL", "unverified", "not applicable", "caught", "BLIND", "missed")
    }


def test_a_leak_is_reported_in_every_format_with_what_to_do_and_not_as_a_failure() -> None:
    leaks = ("threads, rank 0: 3 for each communicator", "open files, rank 1: 1 for each communicator")
    of = make_verification(arms="torch,stream-free", leaks={("torch", "lifetime"): leaks})
    text = flat(shown(of))
    assert re.search(r"(?m)^torch +.* leaks +weak$", shown(of, 160))
    advice = (
        "- No method ends the object of torch, so the arm dropped it: its class has no close(), destroy() or "
        "shutdown(). Add one of these methods, and release there what the object uses. A leak of such an object is no "
        "race, and does not change the exit code."
    )
    assert f"Leaks - torch, {leaks[0]} - torch, {leaks[1]} {advice}" in text
    assert "Failed" not in text
    assert "**Leaks**\n\n- torch, threads, rank 0" in markdown_verification(of)
    assert advice in markdown_verification(of)
    rows = {(row["arm"], row["probe"]): row for row in csv.DictReader(io.StringIO(csv_verification(of)))}
    assert (rows["torch", "lifetime"]["status"], rows["torch", "lifetime"]["leaks"]) == ("leaks", "; ".join(leaks))
    document = json.loads(json_verification(of))
    (cell,) = (cell for cell in document["cells"] if (cell["arm"], cell["probe"]) == ("torch", "lifetime"))
    assert (cell["status"], cell["leaks"], document["exit_code"]) == ("leaks", [*leaks], 0)
    assert "Leaks" not in shown(EVERYTHING[2])


@pytest.mark.parametrize("of", EVERYTHING, ids=["good", "cpu", "failing", "blind", "broken", "incomplete"])
def test_markdown_has_every_cell_and_one_line_for_each_failure(of: Verification) -> None:
    lines = markdown_verification(of).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == len(of.arms) + 2
    assert {row.count("|") for row in rows} == {len(of.probes) + 2}
    failures = [judgement for judgement in of.judgements if judgement.status is ProbeStatus.FAIL]
    assert all(sum(line.startswith(f"- {each.arm}, {each.probe}: ") for line in lines) == 1 for each in failures)
    assert lines.count("**Failed**") == bool(failures)


def test_csv_has_a_row_for_each_arm_and_probe() -> None:
    of = make_verification(FAILING, broken=[("torch", "many")])
    rows = {(row["arm"], row["probe"]): row for row in csv.DictReader(io.StringIO(csv_verification(of)))}
    assert list(rows) == [(judgement.arm, judgement.probe) for judgement in of.judgements]
    assert [row["status"] for row in rows.values()] == [judgement.status for judgement in of.judgements]
    assert list(rows["torch", "many"]) == [
        "arm",
        "probe",
        "status",
        "trials",
        "failed",
        "raced",
        "calls",
        "reason",
        "detail",
        "leaks",
    ]
    killed = visible_line(KILLED)
    assert list(rows["torch", "many"].values()) == ["torch", "many", "FAIL", "48", "36", "0", "0", "", killed, ""]
    assert list(rows["stream-free", "state"].values())[2:] == ["pass", "48", "0", "0", "0", "", "", ""]
    reason = "torch.distributed has no all-gather on a stream of the caller's choice"
    assert list(rows["torch", "async"].values())[2:] == ["not applicable", "", "", "", "", reason, "", ""]


def test_an_incomplete_verification_says_how_much_ran_and_what_that_verifies() -> None:
    failed = {("stream-free", "producer"): WRONG}
    partial = make_verification({**CAUGHT, **failed}, device="cpu", arms="torch,stream-free", probes="producer", ran=2)
    rows = list(csv.DictReader(io.StringIO(csv_verification(partial))))
    assert [row["status"] for row in rows] == ["unverified", "FAIL", "not run", "not run"]
    assert "INCOMPLETE: 2 of 4 probes ran" in markdown_verification(partial)
    document = json.loads(json_verification(partial))
    assert (document["ran"], document["planned"], document["exit_code"]) == (2, 4, 130)
