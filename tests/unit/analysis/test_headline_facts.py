"""The facts below a headline: the results, the order, the machine, the commands and the notes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.headline import Headline
from nccl_bench.analysis.headline_facts import command_facts
from nccl_bench.records.schema import Line, Status
from tests.support.before_and_after import RUN, USER_ARMS, before_and_after, measured
from tests.support.synthetic_runs import case, crash, run, samples, wrong


def facts(headline: Headline) -> dict[str, str]:
    return {fact.name: fact.text for fact in headline.facts}


def headline_of(lines: Iterable[Line]) -> Headline:
    return Analysis.of(run(lines, **RUN)).headline


def test_the_command_that_verifies_has_the_trees_and_options_of_the_run() -> None:
    made_up = run(before_and_after(), **RUN, nccl_library="/lib/nccl.so", variables={"NCCL_ALGO": "Ring"})
    assert facts(Analysis.of(made_up).headline)["Order"] == (
        "stream order is not tested here: env NCCL_ALGO=Ring nccl-bench verify --before-tree before --after-tree after "
        "--arm engine.pynccl:PyNccl --nccl-library /lib/nccl.so --nproc 4"
    )
    user_arms = [{"name": "mine", "target": "my file.py:C", "order": "bare", "variables": {"A": "1"}}]
    made_up = run([measured("torch", 10.0)], baseline="torch", arms=["torch", "mine"], user_arms=user_arms)
    assert facts(Analysis.of(made_up).headline)["Order"].endswith(
        "nccl-bench verify --arm 'mine=my file.py:C,order=bare,A=1' --arms torch --nproc 4"
    )


def test_the_command_that_verifies_is_one_that_verify_accepts() -> None:
    # `verify` needs two ranks, and refuses routes if no arm has any.
    made_up = run([measured("torch", 10.0)], baseline="torch", arms=["torch"], routes=["eager=torch"])
    made_up = replace(made_up, meta={**made_up.meta, "launch": {"world_size": 1, "nproc": 1}})
    assert facts(Analysis.of(made_up).headline)["Order"].endswith("nccl-bench verify --arms torch --nproc 2")
    routed = run(
        [measured("coordinator", 10.0)],
        baseline="coordinator",
        arms=["coordinator"],
        routes=["eager=torch"],
    )
    assert facts(Analysis.of(routed).headline)["Order"].endswith(
        "nccl-bench verify --arms coordinator --routes eager=torch --nproc 4"
    )


def test_the_machine_has_versions_and_every_nccl_variable_that_was_set() -> None:
    environment = {
        "gpus": [{"name": "NVIDIA H200", "driver": "580.1"}] * 4,
        "variables": {"NCCL_NVLS_ENABLE": "0", "HOME": "/root"},
    }
    worker = {"torch": "2.11.0+cu130", "transport": {"name": "nccl", "version": "2.28.9"}}
    made_up = run(before_and_after(), **RUN)
    made_up = replace(made_up, meta={**made_up.meta, "environment": environment, "worker": worker})
    headline = Analysis.of(made_up).headline
    assert facts(headline)["Machine"] == (
        "4x H200, torch 2.11.0, NCCL 2.28.9 by ctypes, driver 580.1, NCCL_NVLS_ENABLE=0, nccl-bench 0.1.0, "
        "2026-10-01 02:00"
    )
    assert headline.title.endswith(", 4x H200")


def test_an_import_without_a_start_says_so_in_whole_words() -> None:
    made_up = run(before_and_after(), **RUN)
    made_up = replace(made_up, meta={**made_up.meta, "started": "start not recorded"})
    assert facts(Analysis.of(made_up).headline)["Machine"].endswith(", start not recorded")


def test_next_is_the_command_of_the_run_with_what_settles_most() -> None:
    lines = [measured(arm, 10.0) for arm in ("before", "after")]
    made_up = run(lines, **RUN)
    command = ["nccl-bench", "run", "--out", "there", "--before-tree", "a b", "--launches=2", "--width", "120"]
    made_up = replace(made_up, meta={**made_up.meta, "command": command})
    (fact,) = (fact for fact in Analysis.of(made_up).headline.facts if fact.name == "Next")
    assert fact.command == "nccl-bench run --before-tree 'a b' --launches 5 --out there-launches-5"
    assert fact.text == f"Measure in 5 launches, each with new communicators (about 25 min): {fact.command}"
    assert facts(Analysis.of(run(before_and_after(), **RUN)).headline)["Next"] == "nothing is open"


def test_next_measures_more_rounds_if_most_open_cells_have_wide_intervals() -> None:
    lines = [measured(arm, time_us) for arm, time_us in (("before", 10.0), ("before:twin", 10.0), ("after", 10.0))]
    uneven = tuple(10.0 * (1 + 0.05 * (number % 5 - 2)) for number in range(25))
    lines[2] = samples("after", case=case(8), samples_us=uneven)
    made_up = run(lines, **RUN, max_rounds=60, max_seconds=30.0)
    made_up = replace(made_up, meta={**made_up.meta, "command": ["nccl-bench", "run", "--max-rounds", "60"]})
    assert facts(Analysis.of(made_up).headline)["Next"] == (
        "The intervals are wide. Measure more rounds (at most about 20 min): "
        "nccl-bench run --max-rounds 240 --max-seconds 120"
    )


def test_after_a_wrong_result_next_is_its_cause_and_no_size_is_called_every_size() -> None:
    lines = [measured(arm, time_us) for arm, time_us in (("before", 10.0), ("after", 8.0), ("before:twin", 10.0))]
    headline = headline_of(
        [*lines, measured("before", 10.0, 16), measured("before:twin", 10.0, 16), wrong(arm="after")]
    )
    assert facts(headline)["Next"] == ("look for the cause of the wrong results of after, with the command at Order")
    assert headline.lines[0].sizes == "8 B"


def test_an_arm_that_was_never_compared_is_named() -> None:
    analysis = Analysis.of(run([measured("before", 10.0), measured("before:twin", 10.0)], **RUN))
    assert analysis.headline.problems == ("after is not compared with before in any case: not measured",)
    failed = [measured("before", 10.0), samples("after", status=Status.DECLINED), crash(arm="after")]
    assert "after is not compared with before in any case: crash, declined" in headline_of(failed).problems


def test_the_results_say_what_was_wrong_and_what_was_not_checked() -> None:
    def results(*lines: Line) -> str:
        return next(fact.text for fact in headline_of(lines).facts if fact.name == "Results")

    right, unchecked = measured("before", 10.0), measured("after", 9.0, 16, wrong=None, tolerance_ulp=None)
    assert results(right) == "right in 1 cell, on every rank"
    assert results(right, wrong(arm="after")) == "WRONG in 1 cell of after, right in 1 cell, on every rank"
    assert results(right, unchecked) == "right in 1 cell, on every rank, not checked in 1 cell"
    assert results() == "none"
    declined = measured("after", 9.0, status=Status.DECLINED, wrong=None, reason="too large")
    assert results(right, declined) == "right in 1 cell, on every rank, declined in 1 cell"
    late = measured("after", 9.0, status=Status.WRONG, wrong=3)
    assert results(late) == "WRONG in 1 cell of after"


def test_the_notes_name_the_interpreter_of_an_arm_once() -> None:
    user_arms = [{**arm, "python": "/envs/a/bin/python"} for arm in USER_ARMS]

    def notes(*apart: str) -> str:
        sets = [{"arms": ["stream-free"]}, {"arms": list(apart), "reason": "REASON"}] if apart else []
        measured_run = run(before_and_after(), **{**RUN, "user_arms": user_arms})
        worker = {**(measured_run.meta.get("worker") or {}), "process_sets": sets}
        return " ".join(Analysis.of(replace(measured_run, meta={**measured_run.meta, "worker": worker})).notes)

    assert "before, after: /envs/a/bin/python runs the processes." in notes()
    assert "before: /envs/a/bin/python runs the processes." in notes("after")
    assert "runs the processes" not in notes("before", "after")


def test_the_output_of_another_tool_has_no_command_in_the_headline() -> None:
    facts = command_facts([("before", {"command": []}), ("after", {"command": ["nccl-bench", "run"]})])
    assert [fact.text for fact in facts] == ["after: nccl-bench run"]
