"""A verification in every format."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.extras import has_extra
from nccl_bench.catalog.probes import DETECTOR, PROBES, Place
from nccl_bench.cli.guide import page
from nccl_bench.config.verification import resolve_verification
from nccl_bench.plan.verification import ArmProbe, group_by_launch
from nccl_bench.report import Detail
from nccl_bench.report.escaping import visible_line
from nccl_bench.report.verification import (
    TerminalVerification,
    csv_verification,
    json_verification,
    markdown_verification,
)
from nccl_bench.verify.findings import Finding
from nccl_bench.verify.headline import weak_detections
from nccl_bench.verify.judgement import ProbeStatus, Verification, judge
from tests.support.findings import make_user_verification
from tests.support.snapshots import CheckSnapshot

NARROWEST = TerminalVerification.narrowest
INSTALLED = [name for name, arm in ARMS.items() if arm.extra is None or has_extra(arm.extra)]
Details = Mapping[tuple[str, str], str]
CAUGHT_BY_ORDER: Details = {(DETECTOR, "order"): "late"}
CAUGHT: Details = {**CAUGHT_BY_ORDER, (DETECTOR, "producer"): "late", (DETECTOR, "consumer"): "late"}
WRONG = "side stream, all_reduce 1K, rank 0: 3 of 256 elements are wrong; element 0 is 202 and must be 433"
KILLED = "rank 1 on node0 was killed by SIGABRT:\nterminate called\n  caf\u00e9 \x1b[31m " + "x" * 200


def make_verification(
    failed: Details = CAUGHT,
    *,
    device: str = "cuda",
    arms: str = "all",
    probes: str = "all",
    broken: Iterable[tuple[str, str]] = (),
    raceless: Iterable[tuple[str, str]] = (),
    quiet: Mapping[tuple[str, str], tuple[Place, ...]] = {},
    leaks: Mapping[tuple[str, str], tuple[str, ...]] = {},
    ran: int | None = None,
) -> Verification:
    """Return a verification in which ``failed`` failed, by a race unless it is in ``raceless`` or ``broken``.

    Only the first ``ran`` of its probes ran.
    """
    config = resolve_verification(device, {"arms": arms, "probes": probes})
    cells = [cell for group in group_by_launch(config) for cell in group]
    assert {ArmProbe(arm=arm, probe=probe) for arm, probe in failed if probe != "order"} <= set(cells)
    return judge(
        config,
        4,
        [
            Finding(
                arm=cell.arm,
                probe=cell.probe,
                trials=48,
                failed=36 if (cell.arm, cell.probe) in failed else 0,
                raced=36 if (cell.arm, cell.probe) in failed.keys() - {*broken, *raceless} else 0,
                quiet=quiet.get((cell.arm, cell.probe), ()),
                detail=failed.get((cell.arm, cell.probe)),
                broken=(cell.arm, cell.probe) in broken,
                leaks=leaks.get((cell.arm, cell.probe), ()),
            )
            for cell in cells[:ran]
        ],
    )


def shown(verification: Verification, width: int = 80) -> str:
    return TerminalVerification(width=width, styled=False).render(verification)


def table_of(text: str) -> str:
    """Return the table in ``text``."""
    return next(part for part in text.split("\n\n") if re.search(r"(?m)^arm ", part))


def headings_and_rows(table: str) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns, each of which can take two lines, and the cells of each row."""
    lines = table.splitlines()
    rule = next(number for number, line in enumerate(lines) if line.startswith("---"))
    columns = [match.span() for match in re.finditer("-+", lines[rule])]
    names = ["".join(line[start:end].strip() for line in lines[:rule]) for start, end in columns]
    return [name.replace("-", "") for name in names], [line.split() for line in lines[rule + 1 :]]


def flat(text: str) -> str:
    """Return ``text`` without its line breaks."""
    return " ".join(text.split())


FAILING: Details = {**CAUGHT, ("torch", "many"): KILLED, ("stream-free", "producer"): WRONG}
EVERYTHING = (
    make_verification(),
    make_verification(device="cpu"),
    make_verification(FAILING, broken=[("torch", "many")]),
    make_verification({key: detail for key, detail in FAILING.items() if key != (DETECTOR, "consumer")}),
    make_verification({**CAUGHT, (DETECTOR, "consumer"): KILLED}, broken=[(DETECTOR, "consumer")]),
    make_verification(FAILING, broken=[("torch", "many")], ran=20),
)


@pytest.mark.parametrize("width", [80, 160])
def test_a_verification_with_failures_reads_as_its_snapshot(
    width: int, tmp_path: Path, snapshot: CheckSnapshot
) -> None:
    text = shown(make_user_verification(tmp_path).verification, width)
    snapshot(f"verify-{width}", text)


def test_quiet_is_the_headline_alone_and_full_has_all_trials(tmp_path: Path, snapshot: CheckSnapshot) -> None:
    verification = make_user_verification(tmp_path).verification
    quiet, usual, full = (
        TerminalVerification(width=80, styled=False, detail=detail).render(verification) for detail in Detail
    )
    assert usual.startswith(f"{quiet}\n")
    assert "large-unjoined" in quiet
    assert "\narm " not in quiet
    assert full.startswith(usual)
    snapshot("verify-full-80", full.removeprefix(usual))


def test_markdown_reads_as_its_snapshot(tmp_path: Path, snapshot: CheckSnapshot) -> None:
    text = markdown_verification(make_user_verification(tmp_path).verification)
    snapshot("verify-markdown", text)


def test_an_incomplete_verification_reads_as_its_snapshot(tmp_path: Path, snapshot: CheckSnapshot) -> None:
    text = shown(make_user_verification(tmp_path, ran=7).verification)
    snapshot("verify-incomplete-80", text)


@pytest.mark.parametrize("of", EVERYTHING, ids=["good", "cpu", "failing", "blind", "broken", "incomplete"])
@pytest.mark.parametrize("width", [NARROWEST, 40, 60, 61, 79, 80, 100, 160])
def test_every_line_fits_and_is_plain_ascii(of: Verification, width: int) -> None:
    text = shown(of, width)
    assert text.isascii()
    assert all(character.isprintable() or character == "\n" for character in text)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_has_every_arm_and_every_probe_with_its_status(width: int) -> None:
    # A name that is too long continues on the next line.
    table = re.sub(r"(?m)^(\S+)(.*)\n  (-\S+)$", r"\1\3\2", table_of(shown(EVERYTHING[2], width)))
    header, rows = headings_and_rows(table)
    assert header == ["arm", *PROBES]
    assert [row[0] for row in rows] == INSTALLED
    letters = {
        ProbeStatus.PASS: "pass",
        ProbeStatus.FAIL: "FAIL",
        ProbeStatus.CAUGHT: "caught",
        ProbeStatus.MISSED: "missed",
    }
    weak = {detection.probe for detection in weak_detections(EVERYTHING[2])}
    assert weak
    for row in rows:
        judgements = [judgement for judgement in EVERYTHING[2].judgements if judgement.arm == row[0]]
        assert row[1:] == [
            "weak" if each.status is ProbeStatus.PASS and each.probe in weak else letters.get(each.status, "-")
            for each in judgements
        ]


@pytest.mark.parametrize("width", [NARROWEST, 60, 79])
def test_a_table_that_does_not_fit_continues_below_with_every_cell(width: int) -> None:
    whole: dict[tuple[str, str], str] = {}
    parts: dict[tuple[str, str], str] = {}
    for cells, text in ((whole, shown(EVERYTHING[2], 160)), (parts, shown(EVERYTHING[2], width))):
        for table in [part for part in text.split("\n\n") if re.search(r"(?m)^arm ", part)]:
            header, rows = headings_and_rows(re.sub(r"(?m)^(\S+)(.*)\n  (-\S+)$", r"\1\3\2", table))
            for arm, *statuses in rows:
                cells |= {(arm, probe): status for probe, status in zip(header[1:], statuses, strict=True)}
    assert len(parts) == len(INSTALLED) * len(PROBES)
    assert parts == whole


def test_nothing_narrower_has_room_for_the_table() -> None:
    assert max(map(len, shown(EVERYTHING[0], NARROWEST - 1).splitlines())) == NARROWEST


def test_a_wide_table_folds_no_name() -> None:
    assert "\n  -unordered" in shown(EVERYTHING[0], 80)
    assert re.search(rf"(?m)^{DETECTOR} +caught +caught +caught +missed", shown(EVERYTHING[0], 160))


def test_what_failed_is_reported_with_all_that_was_said_about_it() -> None:
    text = flat(shown(EVERYTHING[2]))
    assert f"- stream-free, producer: 36 of 48 trials; first: {WRONG}" in text
    # What broke was not tried so and so often.
    assert r"- torch, many: rank 1 on node0 was killed by SIGABRT: terminate called caf\xe9 \x1b[31m x" in text
    assert "Failed" not in shown(EVERYTHING[0])


def test_an_arm_that_could_not_be_made_is_reported_once_and_failed_nothing() -> None:
    made_up = make_verification()
    judgements = [
        replace(
            judgement,
            status=ProbeStatus.ERROR,
            finding=replace(judgement.finding, detail="the arm torch: no (a.py:3)", unmade=True),
        )
        if judgement.arm == "torch" and judgement.finding
        else judgement
        for judgement in made_up.judgements
    ]
    text = shown(replace(made_up, judgements=tuple(judgements)), 160)
    assert re.search(r"(?m)^torch +error +error ", text)
    assert text.count("no (a.py:3)") == 1
    assert "Could not be made\n- torch: no (a.py:3)" in text
    assert "Failed" not in text


def test_with_a_blind_detector_a_pass_is_a_question_mark_and_the_reason_is_given() -> None:
    missed = make_verification(
        {**CAUGHT_BY_ORDER, (DETECTOR, "producer"): "late", ("torch", "state"): WRONG}, device="cpu"
    )
    table, text = table_of(shown(missed, 160)), flat(shown(missed))
    assert "pass" not in table
    assert re.search(r"(?m)^stream-free +\? +\? +\? +- +- +\? +\? +\? +\?$", table)
    assert re.search(r"(?m)^torch +\? +\? +\? +- +- +FAIL +- +\? +\?$", table)
    assert re.search(rf"(?m)^{DETECTOR} +caught +caught +BLIND ", table)
    assert "BLIND: dedicated-stream-unordered, whose calls have no order, was not caught (consumer: it passed)." in text
    assert "Try again when nothing else runs." in text
    assert "nothing above is verified, and a pass is shown as '?'" in text
    assert "as expected" not in text
    assert "BLIND" not in shown(make_verification())


def test_a_detector_that_broke_is_blind_and_its_end_is_reported() -> None:
    broken = make_verification(
        {**CAUGHT, (DETECTOR, "consumer"): "rank 0 hung in consumer"}, broken=[(DETECTOR, "consumer")]
    )
    text = flat(shown(broken))
    assert (
        f"BLIND: {DETECTOR} did not finish consumer, a probe that must detect a race: rank 0 hung in consumer "
        "If it hung, it may need more time: give a larger --timeout. So nothing above is verified"
    ) in text
    assert "Try again" not in text


def test_a_detector_that_is_wrong_without_a_race_is_blind_for_that_reason() -> None:
    text = flat(shown(make_verification(raceless=[(DETECTOR, "producer")])))
    assert f"BLIND: {DETECTOR} failed producer, but without a race: late So nothing above is verified" in text
    assert "Try again" not in text
    assert "--timeout" not in text


def test_a_detector_that_raced_at_some_places_only_is_blind_at_the_others() -> None:
    # On the CPU, the default stream runs inline, so no race can show there.
    passed = {(DETECTOR, "producer"): (Place.DEFAULT, Place.SIDE, Place.NESTED)}
    text = flat(shown(make_verification(device="cpu", quiet=passed)))
    assert "was not caught (producer: it passed on the side stream and on the nested stream)." in text
    assert "BLIND" not in shown(make_verification(device="cpu", quiet={(DETECTOR, "producer"): (Place.DEFAULT,)}))


def test_a_detector_that_broke_in_a_probe_that_need_not_catch_it_is_reported() -> None:
    text = flat(
        shown(make_verification({**CAUGHT, (DETECTOR, "many"): "rank 1 was killed"}, broken=[(DETECTOR, "many")]))
    )
    assert "The detector did not finish many: rank 1 was killed" in text
    assert "WEAK many: the detector did not fail it, so a pass of many is weak evidence" in text
    assert "BLIND" not in text


def test_unselected_probes_are_reported_as_for_the_detector_alone() -> None:
    assert "\nproducer, consumer: run only with the detector.\n" in shown(make_verification(probes="state"))
    assert "run only with the detector" not in shown(make_verification(probes="producer,consumer"))


def test_probes_that_the_detector_passed_are_reported_as_missed() -> None:
    text = flat(shown(make_verification()))
    assert "was caught as expected, in order (36 of 48 trials), producer (36 of 48 trials), " in text
    for probe in ("allocator", "capture", "many"):
        assert (
            f"weak: the arm passed {probe}, but the detector did not fail it, so such a pass is weak evidence" in text
        )
    assert "missed" not in shown(make_verification(probes="producer"))


def test_a_reason_is_reported_once_with_its_probes_and_arms() -> None:
    assert shown(make_verification(device="cpu"), 160).partition("Not applicable\n")[2].splitlines() == [
        "- allocator: the CPU's queues keep their tensors in memory",
        "- capture: the CPU has no CUDA graphs",
        "- async of torch, torch-async: torch.distributed has no all-gather on a stream of the caller's choice",
        f"- state, async, lifetime of {DETECTOR}: the probe does not test order, and an arm without order is probed "
        "for order only",
    ]
    assert "Not applicable" not in shown(make_verification(probes="producer"))


def test_ranks_that_share_a_gpu_are_not_counted_as_gpus() -> None:
    one_gpu = {"environment": {"gpus": [{"name": "NVIDIA H200"}]}}
    verification = replace(make_verification(), gpus=1, facts=one_gpu)
    assert "4 ranks on 1x H200" in shown(verification).splitlines()[0]


def test_a_cpu_verification_says_that_it_shows_nothing_about_gpus() -> None:
    assert DEVICES["cpu"].order_notice in shown(make_verification(device="cpu"))
    assert DEVICES["cpu"].order_notice not in shown(make_verification())


@pytest.mark.parametrize("of", EVERYTHING, ids=["good", "cpu", "failing", "blind", "broken", "incomplete"])
def test_a_terminal_gets_colour_and_the_same_text(of: Verification, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    styled = TerminalVerification(width=80, styled=True).render(of)
    assert "\x1b[" in styled
    assert re.sub(r"\x1b\[[\d;]*m", "", styled) == shown(of)


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
    assert cells["torch", "many"] == {
        "arm": "torch",
        "probe": "many",
        "status": "FAIL",
        "trials": 48,
        "failed": 36,
        "detail": KILLED,
        "raced": 0,
        "quiet": [],
        "declined": [],
        "leaks": [],
        "groups": [],
        "calls": 0,
        "watched_calls": 0,
        "unforked_calls": 0,
        "unjoined_calls": 0,
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
        "quiet": [],
        "declined": [],
        "leaks": [],
        "groups": [],
        "calls": 0,
        "watched_calls": 0,
        "unforked_calls": 0,
        "unjoined_calls": 0,
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
    assert re.search(r"(?m)^torch +.* leaks$", shown(of, 160))
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


def test_a_detector_that_was_caught_in_time_makes_a_pass_count_in_an_incomplete_verification() -> None:
    cells = [cell for group in group_by_launch(resolve_verification("cuda", {})) for cell in group]
    partial = make_verification(ran=len(cells) - 1)
    text = flat(shown(partial))
    assert f"INCOMPLETE: {len(cells) - 1} of {len(cells)} probes ran" in text
    assert "was caught as expected" in text
    assert "?" not in text
