"""The sentences below the table of a verification: what failed, what the detector shows, what does not apply."""

from __future__ import annotations

import re
from dataclasses import replace

from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.probes import DETECTOR, Place
from nccl_bench.config.verification import resolve_verification
from nccl_bench.plan.verification import group_by_launch
from nccl_bench.verify.judgement import ProbeStatus
from tests.support.made_verifications import (
    CAUGHT,
    CAUGHT_BY_ORDER,
    EVERYTHING,
    WRONG,
    flat,
    make_verification,
    shown,
    table_of,
)


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
    assert re.search(r"(?m)^stream-free +\? +\? +\? +- +\? +\? +\? +\? +-$", table)
    assert re.search(r"(?m)^torch +\? +\? +\? +- +FAIL +- +\? +\? +-$", table)
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


def test_a_detector_that_was_caught_in_time_makes_a_pass_count_in_an_incomplete_verification() -> None:
    cells = [cell for group in group_by_launch(resolve_verification("cuda", {})) for cell in group]
    partial = make_verification(ran=len(cells) - 1)
    text = flat(shown(partial))
    assert f"INCOMPLETE: {len(cells) - 1} of {len(cells)} probes ran" in text
    assert "was caught as expected" in text
    assert "?" not in text
