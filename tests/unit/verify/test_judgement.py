"""The status of every arm probe, and the exit code, that follow from the findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from nccl_bench.catalog.probes import DETECTOR, Place
from nccl_bench.config.verification import VerifyConfig, resolve_verification
from nccl_bench.errors import ExitCode
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.verify.findings import Finding
from nccl_bench.verify.judgement import Judgement, ProbeStatus, Verification, judge
from tests.support.findings import CAUGHT, make_findings

DETECTING = ["producer", "consumer"]
CONFIG = resolve_verification("cpu", {"arms": "stream-free,torch", "probes": "producer,consumer,async,many"})


def statuses(verification: Verification) -> Mapping[tuple[str, str], ProbeStatus]:
    return {(judgement.arm, judgement.probe): judgement.status for judgement in verification.judgements}


def test_with_a_caught_detector_a_pass_is_a_pass() -> None:
    verification = judge(CONFIG, 2, make_findings(CONFIG, *CAUGHT))
    assert (verification.device, verification.world_size, verification.blind, verification.exit_code) == (
        "cpu",
        2,
        False,
        ExitCode.OK,
    )
    assert verification.arms == ("stream-free", "torch", DETECTOR)
    assert verification.probes == ("producer", "consumer", "async", "many")
    assert statuses(verification) == {
        **{("stream-free", probe): ProbeStatus.PASS for probe in CONFIG.probes},
        **{("torch", probe): ProbeStatus.PASS for probe in ("producer", "consumer", "many")},
        ("torch", "async"): ProbeStatus.NOT_APPLICABLE,
        **{(DETECTOR, probe): ProbeStatus.CAUGHT for probe in DETECTING},
        (DETECTOR, "async"): ProbeStatus.NOT_APPLICABLE,
        # The detector need not fail this probe.
        (DETECTOR, "many"): ProbeStatus.MISSED,
    }
    reasons = [
        judgement.reason for judgement in verification.judgements if judgement.status is ProbeStatus.NOT_APPLICABLE
    ]
    assert reasons == [
        "torch.distributed has no all-gather on a stream of the caller's choice",
        "the probe does not test order, and an arm without order is probed for order only",
    ]


@pytest.mark.parametrize("broken", [False, True])
def test_a_failed_probe_sets_the_exit_code_of_a_race(broken: bool) -> None:
    arm_probe = ArmProbe(arm="torch", probe="many")
    findings = make_findings(CONFIG, *CAUGHT, *([] if broken else [arm_probe]), broken=[arm_probe] if broken else [])
    verification = judge(CONFIG, 2, findings)
    assert [key for key, status in statuses(verification).items() if status is ProbeStatus.FAIL] == [("torch", "many")]
    assert verification.exit_code is ExitCode.RACE
    (failed,) = (judgement for judgement in verification.judgements if judgement.status is ProbeStatus.FAIL)
    assert failed.finding is not None
    assert (failed.finding.detail, failed.finding.broken) == ("planted", broken)


@pytest.mark.parametrize("missed", DETECTING)
def test_a_detector_that_passes_a_probe_that_must_catch_it_makes_passes_unverified(missed: str) -> None:
    failing = ArmProbe(arm="torch", probe="many")
    caught = [each for each in CAUGHT if each.probe != missed]
    verification = judge(CONFIG, 2, make_findings(CONFIG, *caught, failing))
    by_arm_probe = statuses(verification)
    assert by_arm_probe[DETECTOR, missed] is ProbeStatus.BLIND
    assert ProbeStatus.PASS not in by_arm_probe.values()
    assert by_arm_probe["stream-free", "producer"] is ProbeStatus.UNVERIFIED
    # A failed probe stays failed.
    assert by_arm_probe["torch", "many"] is ProbeStatus.FAIL
    assert by_arm_probe["torch", "async"] is ProbeStatus.NOT_APPLICABLE
    assert verification.blind
    assert verification.exit_code is ExitCode.BLIND_DETECTOR


def test_a_detector_that_broke_is_blind() -> None:
    verification = judge(CONFIG, 2, make_findings(CONFIG, CAUGHT[0], broken=[CAUGHT[1]]))
    assert statuses(verification)[DETECTOR, "consumer"] is ProbeStatus.BLIND
    assert verification.exit_code is ExitCode.BLIND_DETECTOR


def test_a_break_of_the_detector_counts_as_caught_only_in_a_probe_that_ends_processes() -> None:
    config = resolve_verification("cuda", {"arms": "stream-free", "probes": "all"})
    broken = [ArmProbe(arm=DETECTOR, probe=probe) for probe in ("many", "capture")]
    verification = judge(config, 2, make_findings(config, *CAUGHT, broken=broken))
    assert statuses(verification)[DETECTOR, "many"] is ProbeStatus.BROKEN
    # A capture without order ends in a break.
    assert statuses(verification)[DETECTOR, "capture"] is ProbeStatus.CAUGHT
    assert verification.exit_code is ExitCode.OK


def judge_with_producer(config: VerifyConfig, **of_producer: Any) -> Verification:
    """Judge a caught detector whose finding in `producer` has the fields ``of_producer``."""
    findings = make_findings(config, *CAUGHT)
    return judge(config, 2, [replace(f, **of_producer) if f.arm_probe == CAUGHT[0] else f for f in findings])


def test_a_detector_that_fails_without_a_race_is_blind() -> None:
    verification = judge_with_producer(CONFIG, failed=4, raced=0, quiet=tuple(Place))
    assert statuses(verification)[DETECTOR, "producer"] is ProbeStatus.BLIND
    assert verification.exit_code is ExitCode.BLIND_DETECTOR


def test_a_detector_that_raced_before_it_broke_is_blind() -> None:
    assert not judge_with_producer(CONFIG).blind
    assert judge_with_producer(CONFIG, broken=True).blind


@pytest.mark.parametrize("place", Place)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_detector_must_race_at_every_place_except_an_inline_stream(place: Place, device: str) -> None:
    config = resolve_verification(device, {"arms": "stream-free", "probes": "producer"})
    inline = device == "cpu" and place is Place.DEFAULT
    assert judge_with_producer(config, quiet=(place,)).blind is not inline


def test_every_status_can_occur() -> None:
    good = judge(CONFIG, 2, make_findings(CONFIG, *CAUGHT))
    bad = judge(CONFIG, 2, make_findings(CONFIG, ArmProbe(arm="torch", probe="many")))
    broken = judge(CONFIG, 2, make_findings(CONFIG, *CAUGHT, broken=[ArmProbe(arm=DETECTOR, probe="many")]))
    error = judge(CONFIG, 2, without_torch(*make_findings(CONFIG, *CAUGHT)))
    leaking = judge(CONFIG, 2, with_leak(make_findings(CONFIG, *CAUGHT)))
    incomplete = judge(CONFIG, 2, [])
    verifications = (good, bad, broken, error, leaking, incomplete)
    assert {status for verification in verifications for status in statuses(verification).values()} == set(ProbeStatus)


def with_leak(findings: list[Finding]) -> list[Finding]:
    """Return the findings as if the arm torch had left something behind in the probe many."""
    leaking = ArmProbe(arm="torch", probe="many")
    return [replace(f, leaks=("threads stay",)) if f.arm_probe == leaking else f for f in findings]


def test_a_leak_of_a_dropped_object_changes_no_exit_code_and_hides_no_failure() -> None:
    verification = judge(CONFIG, 2, with_leak(make_findings(CONFIG, *CAUGHT)))
    assert [key for key, status in statuses(verification).items() if status is ProbeStatus.LEAKS] == [("torch", "many")]
    assert verification.exit_code is ExitCode.OK
    failed = judge(CONFIG, 2, with_leak(make_findings(CONFIG, *CAUGHT, ArmProbe(arm="torch", probe="many"))))
    assert statuses(failed)["torch", "many"] is ProbeStatus.FAIL
    assert failed.exit_code is ExitCode.RACE
    blind = judge(CONFIG, 2, with_leak(make_findings(CONFIG)))
    assert statuses(blind)["torch", "many"] is ProbeStatus.LEAKS


def without_torch(*findings: Finding) -> list[Finding]:
    """Return the findings as if the arm torch could not be made."""
    return [
        replace(finding, trials=1, failed=1, broken=True, unmade=True) if finding.arm == "torch" else finding
        for finding in findings
    ]


def test_an_arm_that_cannot_be_made_is_a_set_up_error_unless_a_probe_failed() -> None:
    error = judge(CONFIG, 2, without_torch(*make_findings(CONFIG, *CAUGHT)))
    applicable = {status for (arm, _), status in statuses(error).items() if arm == "torch"}
    assert applicable == {ProbeStatus.ERROR, ProbeStatus.NOT_APPLICABLE}
    assert error.exit_code is ExitCode.SETUP
    race = judge(CONFIG, 2, without_torch(*make_findings(CONFIG, *CAUGHT, ArmProbe(arm="stream-free", probe="many"))))
    assert race.exit_code is ExitCode.RACE
    assert judge(CONFIG, 2, without_torch(*make_findings(CONFIG))).exit_code is ExitCode.BLIND_DETECTOR


def test_an_arm_probe_without_a_finding_did_not_run_and_the_verification_is_incomplete() -> None:
    findings = make_findings(CONFIG, *CAUGHT)
    complete, partial = judge(CONFIG, 2, findings), judge(CONFIG, 2, findings[1:])
    assert (complete.planned, complete.ran, complete.complete) == (len(findings), len(findings), True)
    assert (partial.planned, partial.ran, partial.complete) == (len(findings), len(findings) - 1, False)
    first = findings[0].arm_probe
    assert statuses(partial) == {**statuses(complete), (first.arm, first.probe): ProbeStatus.NOT_RUN}
    # Even a failed probe does not change the exit code.
    failed = judge(CONFIG, 2, make_findings(CONFIG, *CAUGHT, ArmProbe(arm="torch", probe="many"))[1:])
    assert {partial.exit_code, failed.exit_code, judge(CONFIG, 2, []).exit_code} == {ExitCode.INTERRUPTED}


def test_no_pass_counts_before_the_detector_was_caught_in_every_probe_that_must_catch_it() -> None:
    findings = make_findings(CONFIG, *CAUGHT, ArmProbe(arm="torch", probe="many"))
    for missing in CAUGHT[:2]:
        partial = judge(CONFIG, 2, [finding for finding in findings if finding.arm_probe != missing])
        assert (partial.uncaught, partial.blind) == ((missing.probe,), False)
        assert ProbeStatus.PASS not in statuses(partial).values()
        assert statuses(partial)["torch", "many"] is ProbeStatus.FAIL
    partial = judge(CONFIG, 2, [f for f in findings if f.arm_probe != ArmProbe(arm=DETECTOR, probe="many")])
    assert partial.uncaught == ()
    assert statuses(partial)["stream-free", "many"] is ProbeStatus.PASS


def test_a_verification_has_the_arms_and_probes_of_its_judgements() -> None:
    judgements = tuple(
        Judgement(arm=arm, probe=probe, status=ProbeStatus.PASS)
        for arm, probe in [("b", "consumer"), ("b", "producer"), ("a", "state")]
    )
    verification = Verification(device="cpu", world_size=2, judgements=judgements)
    assert verification.arms == ("b", "a")
    assert verification.probes == ("producer", "consumer", "state")


def test_of_two_findings_about_an_arm_probe_the_later_one_counts() -> None:
    findings = make_findings(CONFIG, *CAUGHT)
    worse = replace(findings[0], failed=1, detail="crashed after it", broken=True)
    (failed,) = (j for j in judge(CONFIG, 2, [*findings, worse]).judgements if j.status is ProbeStatus.FAIL)
    assert failed.finding == worse
