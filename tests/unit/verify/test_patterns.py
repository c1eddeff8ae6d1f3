"""The pattern of a failure: each pattern is found in planted trials, and none in failures that fall by chance."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import pytest

from nccl_bench.catalog.probes import DETECTOR, Place
from nccl_bench.config.verification import resolve_verification
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.verify.findings import Finding, TrialGroup
from nccl_bench.verify.judgement import judge
from nccl_bench.verify.patterns import Pattern, find_arm_cause, find_pattern
from tests.support.findings import CAUGHT, make_findings

SMALL, LARGE = 1024, 16 * 1024**2
OPERATIONS = ("all_reduce", "all_gather", "all_gather with sizes", "reduce_scatter", "reduce_scatter with sizes")
Wrong = Callable[[TrialGroup], bool]


def make_finding(
    wrong: Wrong, *, probe: str = "consumer", arm: str = "mine", modes: Sequence[bool] = (False,), raced: bool = True
) -> Finding:
    """Return a finding whose trials fail where ``wrong`` is true."""
    groups = [
        TrialGroup(place=place, operation=operation, size_bytes=size, in_graph_mode=mode, trials=1, failed=0, calls=2)
        for place, mode, operation, size in product(Place, modes, OPERATIONS, (SMALL, LARGE))
    ]
    planted = tuple(replace(group, failed=int(wrong(group))) for group in groups)
    failed = sum(group.failed for group in planted)
    return Finding(
        arm=arm,
        probe=probe,
        trials=len(planted),
        failed=failed,
        raced=failed if raced else 0,
        detail="planted",
        groups=planted,
    )


def found(wrong: Wrong, *, modes: Sequence[bool] = (False,), probe: str = "consumer", raced: bool = True) -> Pattern:
    detector = make_finding(lambda _group: True, arm=DETECTOR, probe=probe)
    pattern = find_pattern(make_finding(wrong, modes=modes, probe=probe, raced=raced), detector)
    assert pattern is not None
    return pattern


@pytest.mark.parametrize(
    ("wrong", "where", "evidence", "cause"),
    [
        (lambda _group: True, "", "all 40 trials failed", "every call lacks the join"),
        (
            lambda group: group.size_bytes == LARGE,
            "right at 1 KiB, wrong at 16 MiB",
            "20 of 20 trials failed there, none of 20 elsewhere",
            "only large messages lack the join",
        ),
        (
            lambda group: group.size_bytes == SMALL,
            "right at 16 MiB, wrong at 1 KiB",
            "20 of 20 trials failed there, none of 20 elsewhere",
            "only small messages lack the join",
        ),
        (
            lambda group: group.place is not Place.DEFAULT,
            "right on the default stream, wrong on every other stream",
            "30 of 30 trials failed there, none of 10 elsewhere",
            "the join is with the default stream only",
        ),
        (
            lambda group: group.place is Place.DEFAULT,
            "right on every other stream, wrong on the default stream",
            "10 of 10 trials failed there, none of 30 elsewhere",
            "calls on the default stream lack the join",
        ),
        (
            lambda group: group.operation == "all_gather",
            "right with every other operation, wrong with all_gather",
            "8 of 8 trials failed there, none of 32 elsewhere",
            "only all_gather lacks the join",
        ),
        (
            lambda group: group.operation == "all_gather" and group.size_bytes == LARGE,
            "right in all other trials, wrong with all_gather at 16 MiB",
            "4 of 4 trials failed there, none of 36 elsewhere",
            "only these calls lack the join",
        ),
    ],
    ids=["everywhere", "large", "small", "not-default", "default", "all_gather", "large all_gather"],
)
def test_a_pattern_that_the_trials_show_is_named_with_its_evidence_and_its_cause(
    wrong: Wrong, where: str, evidence: str, cause: str
) -> None:
    assert found(wrong) == Pattern(where=where, evidence=evidence, cause=cause)


def test_calls_within_graph_capture_can_be_a_pattern() -> None:
    pattern = found(lambda group: group.in_graph_mode, modes=(False, True), probe="producer")
    assert pattern.where == "right outside of graph_capture(), wrong within graph_capture()"
    assert pattern.cause == "only calls within graph_capture() lack the fork"


def test_results_that_are_wrong_in_every_order_have_a_place_and_no_cause() -> None:
    pattern = found(lambda group: "sizes" in str(group.operation), raced=False)
    assert (pattern.where, pattern.cause) == (
        "right with every other operation, wrong with all_gather with sizes and reduce_scatter with sizes",
        "",
    )


def test_what_the_probe_cannot_see_is_no_pattern() -> None:
    # The detector fails at 16 MiB only, so the arm's passes at 1 KiB show nothing.
    detector = make_finding(lambda group: group.size_bytes == LARGE, arm=DETECTOR)
    pattern = find_pattern(make_finding(lambda group: group.size_bytes == LARGE), detector)
    assert pattern == Pattern(
        where="", evidence="all 20 trials in which the detector fails too failed", cause="every call lacks the join"
    )


@pytest.mark.parametrize("trial", range(3))
def test_a_failure_of_few_trials_is_no_pattern(trial: int) -> None:
    few = set(random.Random(trial).sample(range(40), trial + 1))
    numbers = iter(range(40))
    assert find_pattern(make_finding(lambda _group: next(numbers) in few), None) is None


def test_failures_that_fall_by_chance_show_a_pattern_in_fewer_than_one_case_in_two_hundred() -> None:
    chance, claimed = random.Random(15), 0
    for number in range(500):
        share = (0.05, 0.2, 0.5, 0.9, 0.97)[number % 5]
        finding = make_finding(lambda _group, share=share: chance.random() < share)  # type: ignore[misc]
        pattern = find_pattern(finding, None)
        claimed += pattern is not None and bool(pattern.where)
    assert claimed < 500 / 200


def test_a_finding_of_an_older_record_shows_a_pattern_only_if_every_trial_failed() -> None:
    older = replace(make_finding(lambda _group: True), groups=())
    assert find_pattern(older, None) == Pattern(
        where="", evidence="all 40 trials failed", cause="every call lacks the join"
    )
    assert find_pattern(replace(older, failed=20, raced=20), None) is None


@pytest.mark.parametrize(
    ("failed", "cause"),
    [
        (("many",), "only some calls in a long series are wrong, for example every tenth"),
        (("capture",), "only captured calls are wrong"),
        (("many", "consumer"), ""),
        (("allocator",), ""),
        ((), ""),
    ],
)
def test_a_probe_that_fails_alone_has_a_meaning(failed: tuple[str, ...], cause: str) -> None:
    config = resolve_verification("cuda", {"arms": "torch"})
    planted = [ArmProbe(arm="torch", probe=probe) for probe in failed]
    verification = judge(config, 2, make_findings(config, *CAUGHT, *planted))
    assert find_arm_cause(verification, "torch").startswith(cause)
    assert bool(find_arm_cause(verification, "torch")) == bool(cause)
    unverified = judge(config, 2, make_findings(config, *planted))
    assert find_arm_cause(unverified, "torch") == ""
