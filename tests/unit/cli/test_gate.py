"""The gate: which exit code a verdict sets, by the same rules after a run and after a comparison."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.comparison import Basis
from nccl_bench.analysis.judging import OpenReason
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.cli import launched_run, main
from nccl_bench.cli.gate import FailOn, gate
from nccl_bench.errors import ExitCode
from nccl_bench.launch.sweep import Outcome
from nccl_bench.records.schema import Line, Samples, dump
from nccl_bench.records.store import RunStore
from tests.support.synthetic_comparisons import compared_runs, comparison
from tests.support.synthetic_runs import case, hang, meta, samples, wrong

BASE, TWIN, NEW, OTHER = "dedicated-stream", "dedicated-stream:twin", "stream-free", "torch"
Printed = pytest.CaptureFixture[str]


def judged(*verdicts: Verdict | None, **changes: Any) -> Analysis:
    """Return the analysis of a run with these verdicts, all of them above a noise floor."""
    comparisons = [
        comparison(verdict=verdict, noise_floor=0.01, **({"interval": None} if verdict is None else {}))
        for verdict in verdicts
    ]
    return compared_runs(comparisons, basis=Basis.ROUNDS, **changes)


def test_the_worst_verdict_sets_the_exit_code() -> None:
    everything = (*Verdict, None)
    fine = (Verdict.FASTER, Verdict.EQUIVALENT)

    def code(fail_on: Iterable[FailOn], verdicts: Sequence[Verdict | None], incomplete: bool = False) -> ExitCode:
        return gate(list(fail_on), judged(*verdicts, candidate_incomplete=incomplete))

    assert code([], everything) is ExitCode.OK
    assert code(FailOn, fine) is ExitCode.OK
    assert code(FailOn, everything) is ExitCode.SLOWER
    assert code([FailOn.INCONCLUSIVE, FailOn.SLOWER], everything) is ExitCode.SLOWER
    assert code([FailOn.INCONCLUSIVE], everything) is ExitCode.INCONCLUSIVE
    assert code([FailOn.INCONCLUSIVE], fine, incomplete=True) is ExitCode.INCONCLUSIVE
    assert code([FailOn.SLOWER], fine, incomplete=True) is ExitCode.OK
    # A wrong result has its exit code already.
    assert code([FailOn.WRONG], everything, incomplete=True) is ExitCode.OK


def test_a_gate_without_a_possible_verdict_does_not_pass_and_says_why(capsys: Printed) -> None:
    few = comparison(verdict=Verdict.INCONCLUSIVE, interval=None)
    for fail_on in ([FailOn.SLOWER], [FailOn.INCONCLUSIVE], list(FailOn)):
        for analysis, why in ((judged(), "a reason"), (judged(None), "a reason"), (compared_runs([few]), "too few")):
            assert gate(fail_on, analysis) is ExitCode.INCONCLUSIVE
            (line,) = capsys.readouterr().err.splitlines()
            gated = ",".join(each for each in fail_on if each is not FailOn.WRONG)
            assert line.startswith(f"nccl-bench: nothing could be judged, so --fail-on {gated} does not pass: ")
            assert why in line
    assert gate([FailOn.WRONG], judged(candidate_incomplete=True)) is ExitCode.OK
    assert gate([], judged(candidate_incomplete=True)) is ExitCode.OK
    assert capsys.readouterr().err == ""


def test_a_verdict_needs_an_interval_and_a_noise_floor() -> None:
    few = comparison(verdict=Verdict.INCONCLUSIVE, interval=None, noise_floor=0.01)
    without_twin = comparison(verdict=Verdict.INCONCLUSIVE, reason=OpenReason.NO_TWIN)
    enough = comparison(verdict=Verdict.INCONCLUSIVE, noise_floor=0.01)
    assert not compared_runs([]).could_be_judged
    assert not compared_runs([few, without_twin]).could_be_judged
    assert compared_runs([few, enough]).could_be_judged
    # The intervals of several runs on each side contain communicator variance.
    assert compared_runs([without_twin], basis=Basis.RUNS).could_be_judged
    assert not compared_runs([few], basis=Basis.RUNS).could_be_judged


def test_only_the_answers_to_the_question_count() -> None:
    other = comparison(verdict=Verdict.SLOWER, candidate=OTHER, noise_floor=0.01)
    answer = comparison(verdict=Verdict.EQUIVALENT, candidate=NEW, noise_floor=0.01)
    assert gate([FailOn.SLOWER], compared_runs([answer, other], asked_arms=(NEW,))) is ExitCode.OK
    assert gate([FailOn.SLOWER], compared_runs([answer, other], asked_arms=(OTHER,))) is ExitCode.SLOWER
    # Nothing answers the question.
    assert gate([FailOn.SLOWER], compared_runs([other], asked_arms=(NEW,))) is ExitCode.INCONCLUSIVE


def measured(*arms: tuple[str, float], size: int = 1024, rounds: int = 25) -> list[Line]:
    return [
        samples(arm, case=case(size), samples_us=tuple(us * (1 + 0.001 * (number % 3)) for number in range(rounds)))
        for arm, us in arms
    ]


FAST = measured((BASE, 10.0), (TWIN, 10.0), (NEW, 8.0))
SLOW = measured((BASE, 10.0), (TWIN, 10.0), (NEW, 16.0))


@pytest.mark.parametrize(
    ("lines", "fail_on", "code", "says"),
    [
        (FAST, "slower,inconclusive,wrong", 0, None),
        (SLOW, "slower", 7, None),
        (SLOW, "inconclusive", 0, None),
        # The candidate was not measured at all.
        (measured((BASE, 10.0), (TWIN, 10.0)), "slower", 8, f"no arm has a round in common with {BASE}"),
        (measured((BASE, 10.0), (TWIN, 10.0)), "wrong", 0, None),
        # The candidate is missing in one of two cases.
        (
            [*FAST, *measured((BASE, 10.0), (TWIN, 10.0), size=64)],
            "inconclusive",
            8,
            "a candidate is missing in some cases",
        ),
        ([*FAST, *measured((BASE, 10.0), (TWIN, 10.0), size=64)], "slower", 0, None),
        ([*FAST, *measured((NEW, 10.0), size=64)], "inconclusive", 0, None),
        # Twice as slow, and too few rounds for any interval: no data could have failed.
        (measured((BASE, 10.0), (TWIN, 10.0), (NEW, 20.0), rounds=3), "slower", 8, "too few rounds"),
        (measured((BASE, 10.0), (NEW, 20.0)), "slower", 8, "no twin"),
        # A failure weighs more than a verdict, with any --fail-on.
        ([*FAST, wrong(arm=NEW, case=case(64))], "slower", 4, None),
        ([*FAST, wrong(arm=NEW, case=case(64))], None, 4, None),
        ([*SLOW, hang(case=case(64))], "slower", 6, None),
    ],
)
@pytest.mark.parametrize("command", ["run", "compare"])
def test_a_run_and_its_comparison_have_the_same_exit_code(
    command: str,
    lines: list[Line],
    fail_on: str | None,
    code: int,
    says: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Printed,
) -> None:
    def run_sweep(spec: Any, *_arguments: object, **_keywords: object) -> Outcome:
        for line in lines:
            RunStore(path=Path(spec.run_dir)).append(line)
        return Outcome(hangs=(), crashes=(), stopped=None)

    monkeypatch.setattr(launched_run, "run_sweep", run_sweep)
    out = tmp_path / "run"
    if command == "run":
        arguments = ["--device", "cpu", "--nproc", "2", "--launch", "--arms", f"{BASE},{NEW}", "--out", str(out)]
    else:
        out.mkdir()
        (out / "run.json").write_text(json.dumps(meta(arms=[BASE, NEW])))
        (out / "samples.jsonl").write_text("".join(map(dump, lines)))
        arguments = [str(out), "--arms", f"{BASE},{NEW}"]
        # compare names both arms, so it has another reason.
        if not any(isinstance(line, Samples) and line.arm == NEW for line in lines) and fail_on == "slower":
            says = "no round measured both arms"
    monkeypatch.setattr(
        sys, "argv", ["nccl-bench", command, *arguments, *(() if fail_on is None else ("--fail-on", fail_on))]
    )
    with pytest.raises(SystemExit) as end:
        main()
    messages = [line for line in capsys.readouterr().err.splitlines() if "recorded in" not in line]
    assert (int(end.value.code or 0), len(messages)) == (code, 0 if says is None else 1)
    assert (says or "") in "".join(messages)


def test_every_requested_arm_of_a_run_must_be_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    """An arm may be missing, for example torch, which has no send_recv."""

    def run_sweep(spec: Any, *_arguments: object, **_keywords: object) -> Outcome:
        for line in FAST:
            RunStore(path=Path(spec.run_dir)).append(line)
        return Outcome(hangs=(), crashes=(), stopped=None)

    monkeypatch.setattr(launched_run, "run_sweep", run_sweep)
    for arms, code in ((f"{BASE},{NEW}", 0), (f"{BASE},{NEW},{OTHER}", 8)):
        arguments = ["--device", "cpu", "--nproc", "2", "--launch", "--arms", arms, "--out", str(tmp_path / str(code))]
        monkeypatch.setattr(sys, "argv", ["nccl-bench", "run", *arguments, "--fail-on", "inconclusive"])
        with pytest.raises(SystemExit) as end:
            main()
        assert int(end.value.code or 0) == code
        assert ("a candidate is missing in some cases" in capsys.readouterr().err) is (code == 8)


@pytest.mark.parametrize("command", ["run", "compare"])
def test_the_help_says_that_wrong_results_always_count(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    monkeypatch.setattr(sys, "argv", ["nccl-bench", command, "--help"])
    with pytest.raises(SystemExit):
        main()
    assert "A wrong result always does." in " ".join(capsys.readouterr().out.split())
