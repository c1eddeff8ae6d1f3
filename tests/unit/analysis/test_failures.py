"""Failures of a run: one line each, and the exit code of the worst."""

from __future__ import annotations

import pytest

from nccl_bench.analysis.failures import exit_code_of, failures
from nccl_bench.catalog.arms import twin_of
from nccl_bench.errors import ExitCode
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Line, Skipped
from tests.support.synthetic_runs import case, crash, declined, hang, meta, run, samples, wrong


def failures_of(*lines: Line, **config: object) -> list[str]:
    return list(failures(run(lines, **config)))


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([], ExitCode.SETUP),
        ([Skipped(case=case(), reason="large")], ExitCode.SETUP),
        ([samples(), samples("torch", samples_us=(), discarded=9)], ExitCode.SETUP),
        ([samples("torch", samples_us=(), discarded=9), wrong()], ExitCode.WRONG_RESULT),
        ([declined()], ExitCode.SETUP),
        ([declined(), samples("torch")], ExitCode.OK),
        ([samples("torch", samples_us=(), discarded=9), hang()], ExitCode.HANG),
        ([wrong()], ExitCode.WRONG_RESULT),
        ([samples()], ExitCode.OK),
        ([samples(), Skipped(case=case(), reason="large")], ExitCode.OK),
        ([crash(), samples()], ExitCode.SETUP),
        ([crash(), hang()], ExitCode.HANG),
        ([crash(), hang(), wrong()], ExitCode.WRONG_RESULT),
    ],
)
def test_the_worst_failure_decides_the_exit_code(lines: list[Line], code: ExitCode) -> None:
    assert exit_code_of(run(lines)) is code


def test_a_hang_names_the_set_up_the_close_and_the_call_of_the_user() -> None:
    (setup,) = failures_of(hang(case=None, case_index=-1))
    assert setup.startswith("HANG: set-up, arm torch")
    (close,) = failures_of(hang(case=None, case_index=9, phase="close", call="close (mine.py:4)"))
    assert close == "HANG: after all cases, arm torch, rank 3 on node7: in close after 120 s, in close (mine.py:4)"


def test_a_crash_names_its_rank_and_its_arm_once() -> None:
    place = "rank 1 on node7"
    for message, rest in (
        (f"{place}: the arm mine: Comm.all_reduce raised ValueError: no (a.py:3)", ": Comm.all_reduce raised ValueErr"),
        (f"{place} was killed by SIGKILL", " was killed by SIGKILL"),
        ("ncclSystemError", ": ncclSystemError"),
    ):
        line = crash(message=message, rank=1, host="node7", arm="mine", case_index=-1, case=None)
        (text,) = failures_of(line, samples())
        assert text.startswith(f"CRASH: set-up, arm mine, {place}{rest}")


def test_an_arm_that_wrote_after_its_calls_is_named_even_if_its_own_results_were_right() -> None:
    text, late = failures_of(samples(), wrong(arm="mine", late=8), wrong(arm="torch"))
    assert text.startswith("WRONG: wrong results in 2 cells of mine, torch; the first is all_reduce")
    assert late.startswith("LATE: mine wrote into tensors after the caller's stream had passed the calls, in 1 cell; ")
    assert late.endswith("Make this stream wait for the collective")


def test_a_user_arm_that_failed_is_reported_as_not_measured_any_further() -> None:
    config = meta()["config"] | {"user_arms": [{"name": "mine", "target": "a.py:A"}]}
    for line in (crash(arm="mine"), crash(arm=twin_of("mine")), hang(arm="mine"), crash(arm="torch"), hang()):
        (text,) = failures(Run(meta=meta() | {"config": config}, lines=(line, samples())))
        assert text.endswith("; the arm is no longer measured") is line.arm.startswith("mine")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "EMPTY: nothing was measured"),
        (
            [Skipped(case=case(), reason="large"), Skipped(case=case(8), reason="large")],
            "EMPTY: nothing was measured: 2 cases skipped, and no other case began",
        ),
        ([declined()], "EMPTY: nothing was measured: 1 cell declined, and no other case began"),
    ],
)
def test_a_run_without_figures_is_reported_as_empty(lines: list[Line], says: str) -> None:
    assert failures_of(*lines) == [says]
    assert failures_of(*lines, samples()) == []
    assert "EMPTY" not in "".join(failures_of(*lines, crash()))
