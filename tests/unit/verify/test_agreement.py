"""The report says which to believe if experiment and construction differ about an arm."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nccl_bench.config.verification import resolve_verification
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.verify.agreement import describe_difference, describe_lacks
from nccl_bench.verify.findings import Finding
from nccl_bench.verify.headline import verification_headline
from nccl_bench.verify.judgement import Verification, judge
from tests.support.findings import CAUGHT, make_findings

CONFIG = resolve_verification("cpu", {"arms": "stream-free", "probes": "order,producer,consumer,many"})


def verification(*failed: str, unforked: int = 0, unjoined: int = 0) -> Verification:
    """Return a verification of an arm that failed some probes; by construction, some of its 264 calls lack order."""

    def constructed(finding: Finding) -> Finding:
        if (finding.arm, finding.probe) != ("stream-free", "order"):
            return finding
        return replace(finding, watched_calls=264, unforked_calls=unforked, unjoined_calls=unjoined)

    planted = [ArmProbe(arm="stream-free", probe=probe) for probe in failed]
    return judge(CONFIG, 2, map(constructed, make_findings(CONFIG, *CAUGHT, *planted)))


@pytest.mark.parametrize(
    ("failed", "unforked", "unjoined", "difference"),
    [
        ((), 0, 0, ""),
        (("order", "consumer"), 0, 264, ""),
        (("order", "producer", "consumer"), 264, 264, ""),
        (("order", "many"), 0, 2, "Believe order, although consumer passed: an experiment shows a race only if "),
        (("order",), 2, 2, "Believe order, although producer and consumer passed: "),
        (("order", "consumer"), 264, 264, "Believe order, although producer passed: "),
        (("producer",), 0, 0, "Believe producer, although order saw no such race: results were wrong, and "),
        (("many",), 0, 0, "Believe many, although order saw no such race: "),
        (("order", "producer", "consumer"), 0, 264, "Believe producer, although order saw no such race: "),
    ],
)
def test_the_report_says_which_of_both_to_believe(
    failed: tuple[str, ...], unforked: int, unjoined: int, difference: str
) -> None:
    judged = verification(*failed, unforked=unforked, unjoined=unjoined)
    text = describe_difference(judged, "stream-free")
    assert text.startswith(difference)
    assert bool(text) == bool(difference)
    assert not text or text in verification_headline(judged).problems[0]


def test_a_result_that_is_wrong_in_every_order_says_nothing_about_order() -> None:
    raceless = judge(
        CONFIG,
        2,
        [
            replace(finding, raced=0) if finding.arm_probe == ArmProbe(arm="stream-free", probe="producer") else finding
            for finding in make_findings(CONFIG, *CAUGHT, ArmProbe(arm="stream-free", probe="producer"))
        ],
    )
    assert describe_difference(raceless, "stream-free") == ""


def test_the_missing_half_is_named_with_the_number_of_its_calls() -> None:
    judged = verification("order", unforked=3, unjoined=2)
    (finding,) = (each.finding for each in judged.judgements if (each.arm, each.probe) == ("stream-free", "order"))
    assert finding is not None
    lacks = "no fork in 3 of 264 calls, no join in 2 of 264 calls"
    assert describe_lacks(finding) == lacks
    # Every trial failed, but not every call.
    assert f"order in 4 of 4 trials: {lacks}" in verification_headline(judged).problems[0]
    every = verification_headline(verification("order", unforked=264)).problems[0]
    assert "order in 4 of 4 trials: every call lacks the fork" in every
