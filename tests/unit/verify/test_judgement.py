"""What a proof asks, in which launches, and what follows from what was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.probes import DETECTOR, PROBES, Place
from nccl_bench.catalog.routes import Backend, Mode
from nccl_bench.config.verification import VerifyConfig, resolve_verification
from nccl_bench.errors import ExitCode, UsageError
from nccl_bench.plan.verification import ArmProbe, group_by_launch, list_arm_probes
from nccl_bench.verify.findings import MOST_BROKEN, Finding, append_finding, find_given_up_arms, read_findings
from nccl_bench.verify.judgement import Judgement, ProbeStatus, Verification, judge
from nccl_bench.verify.spec import VerificationSpec

OTHERS = tuple(name for name, arm in ARMS.items() if name != DETECTOR and arm.extra is None)
DETECTING = ["producer", "consumer"]
CAUGHT = (ArmProbe(arm=DETECTOR, probe="producer"), ArmProbe(arm=DETECTOR, probe="consumer"))


def resolved(device: str = "cpu", **options: Any) -> VerifyConfig:
    return resolve_verification(device, options)


def findings(config: VerifyConfig, *failed: ArmProbe, broken: Iterable[ArmProbe] = ()) -> list[Finding]:
    """One for every applicable cell."""
    return [
        Finding(
            arm=cell.arm,
            probe=cell.probe,
            trials=4,
            failed=int(cell in failed or cell in broken),
            raced=int(cell in failed),
            quiet=() if cell in failed else tuple(Place),
            detail="planted" if cell in failed or cell in broken else None,
            broken=cell in broken,
        )
        for cells in group_by_launch(config)
        for cell in cells
    ]


def statuses(proof: Verification) -> Mapping[tuple[str, str], ProbeStatus]:
    return {(judgement.arm, judgement.probe): judgement.status for judgement in proof.judgements}


# -- the configuration -----------------------------------------------------------------------------------------------


def test_by_default_it_is_every_arm_that_has_to_pass_and_every_probe() -> None:
    assert resolved() == VerifyConfig(
        device="cpu",
        arms=OTHERS,
        user_arms=(),
        probes=tuple(PROBES),
        routes=(),
        nccl_library=None,
        transport="gloo",
        timeout_s=60.0,
    )


def test_options_choose_and_routes_override() -> None:
    config = resolved(
        "cuda",
        arms="coordinator, torch",
        probes="state,producer",
        routes="eager=communicator",
        nccl_library="/opt/libnccl.so.2",
        timeout_s=3.0,
    )
    assert (config.arms, config.probes) == (("coordinator", "torch"), ("state", "producer"))
    assert (config.device_spec.name, config.nccl_library, config.timeout_s) == ("cuda", "/opt/libnccl.so.2", 3.0)
    assert config.routing["all_reduce"][Mode.EAGER] is Backend.COMMUNICATOR
    assert resolved().routing["all_reduce"][Mode.EAGER] is Backend.TORCH


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"arms": "stream-fre"}, "arms has 'stream-fre': allowed are stream-free"),
        ({"arms": DETECTOR}, f"arms has '{DETECTOR}'"),
        ({"arms": ""}, "arms has ''"),
        ({"probes": "producers"}, "probes has 'producers': allowed are producer, consumer"),
        ({"routes": "eager"}, r"'eager': give \[OPERATION.\]MODE=BACKEND"),
        ({"routes": "eager=torch", "arms": "torch"}, "only coordinator arms have routes"),
        ({"nccl_library": "libnccl.so"}, "the device cpu does not use NCCL"),
        ({"timeout_s": 0.0}, r"timeout_s \(--timeout\) is 0.0"),
        ({"timeout_s": float("nan")}, r"timeout_s \(--timeout\) is nan"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_can(options: Mapping[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        resolved(**options)


# -- cells and launches ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probes", ["state", "consumer,lifetime", "many", "all"])
def test_the_detector_has_the_probes_asked_for_and_those_that_it_has_to_fail(probes: str) -> None:
    config = resolved(arms="torch,stream-free", probes=probes)
    chosen = [name for name in PROBES if name in config.probes]
    cells = list_arm_probes(config)
    of_detector = [cell.probe for cell in cells if cell.arm == DETECTOR]
    assert of_detector == [name for name in PROBES if name in (*DETECTING, *chosen)]
    assert [(cell.arm, cell.probe) for cell in cells if cell.arm != DETECTOR] == [
        (arm, probe) for arm in ("torch", "stream-free") for probe in chosen
    ]
    assert cells[-1].arm == DETECTOR


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_launch_has_what_is_harmless_or_one_probe_that_is_not_and_the_detector_last(device: str) -> None:
    config = resolved(device)
    groups = group_by_launch(config)
    kinds = [{cell.probe for cell in group if PROBES[cell.probe].alone} for group in groups]
    assert kinds == [set(), *({name} for name, probe in PROBES.items() if probe.alone and device == "cuda")]
    for kind, group in zip(kinds, groups, strict=True):
        assert not kind or {cell.probe for cell in group} == kind
        arms = [cell.arm for cell in group]
        assert arms == sorted(arms, key=[*OTHERS, DETECTOR].index)
        assert arms[-1] == DETECTOR
    cells = [cell for group in groups for cell in group]
    assert len(set(cells)) == len(cells)
    missing = config.device_spec.missing_probes
    assert {cell.probe for cell in cells} == set(PROBES) - set(missing)


def test_without_a_dangerous_probe_there_is_one_launch() -> None:
    assert [len(group) for group in group_by_launch(resolved("cuda", arms="torch", probes="producer"))] == [3]


def test_what_is_not_applicable_is_in_no_launch() -> None:
    config = resolved(arms="stream-free,torch", probes="async,capture")
    assert group_by_launch(config) == [(ArmProbe(arm="stream-free", probe="async"), *CAUGHT)]


# -- judgements ------------------------------------------------------------------------------------------------------

CONFIG = resolved(arms="stream-free,torch", probes="producer,consumer,async,many")


def test_where_the_detector_is_caught_a_pass_is_a_pass() -> None:
    proof = judge(CONFIG, 2, findings(CONFIG, *CAUGHT))
    assert (proof.device, proof.world_size, proof.blind, proof.exit_code) == ("cpu", 2, False, ExitCode.OK)
    assert proof.arms == ("stream-free", "torch", DETECTOR)
    assert proof.probes == ("producer", "consumer", "async", "many")
    assert statuses(proof) == {
        **{("stream-free", probe): ProbeStatus.PASS for probe in CONFIG.probes},
        **{("torch", probe): ProbeStatus.PASS for probe in ("producer", "consumer", "many")},
        ("torch", "async"): ProbeStatus.NOT_APPLICABLE,
        **{(DETECTOR, probe): ProbeStatus.CAUGHT for probe in DETECTING},
        (DETECTOR, "async"): ProbeStatus.NOT_APPLICABLE,
        # It need not fail this one.
        (DETECTOR, "many"): ProbeStatus.MISSED,
    }
    reasons = [judgement.reason for judgement in proof.judgements if judgement.status is ProbeStatus.NOT_APPLICABLE]
    assert reasons == [
        "torch.distributed has no all-gather on a stream of the caller's choice",
        "it does not test order, and this arm differs in order alone",
    ]


@pytest.mark.parametrize("broken", [False, True])
def test_a_failed_probe_is_a_failed_proof(broken: bool) -> None:
    cell = ArmProbe(arm="torch", probe="many")
    found = findings(CONFIG, *CAUGHT, *([] if broken else [cell]), broken=[cell] if broken else [])
    proof = judge(CONFIG, 2, found)
    assert [cell for cell, status in statuses(proof).items() if status is ProbeStatus.FAIL] == [("torch", "many")]
    assert proof.exit_code is ExitCode.RACE
    (failed,) = (judgement for judgement in proof.judgements if judgement.status is ProbeStatus.FAIL)
    assert failed.finding is not None
    assert (failed.finding.detail, failed.finding.broken) == ("planted", broken)


@pytest.mark.parametrize("missed", DETECTING)
def test_a_detector_that_passes_where_it_has_to_fail_makes_passes_unproven(missed: str) -> None:
    failing = ArmProbe(arm="torch", probe="many")
    caught = [cell for cell in CAUGHT if cell.probe != missed]
    proof = judge(CONFIG, 2, findings(CONFIG, *caught, failing))
    seen = statuses(proof)
    assert seen[DETECTOR, missed] is ProbeStatus.BLIND
    assert ProbeStatus.PASS not in seen.values()
    assert seen["stream-free", "producer"] is ProbeStatus.UNVERIFIED
    # What was seen to be wrong is wrong, whoever is blind, but a proof it is not.
    assert seen["torch", "many"] is ProbeStatus.FAIL
    assert seen["torch", "async"] is ProbeStatus.NOT_APPLICABLE
    assert proof.blind
    assert proof.exit_code is ExitCode.BLIND_DETECTOR


def test_a_detector_that_broke_has_detected_nothing() -> None:
    proof = judge(CONFIG, 2, findings(CONFIG, CAUGHT[0], broken=[CAUGHT[1]]))
    assert statuses(proof)[DETECTOR, "consumer"] is ProbeStatus.BLIND
    assert proof.exit_code is ExitCode.BLIND_DETECTOR


def test_a_detector_that_broke_where_it_need_not_fail_says_nothing_but_of_a_probe_that_breaks() -> None:
    config = resolved("cuda", arms="stream-free", probes="all")
    cells = [ArmProbe(arm=DETECTOR, probe=probe) for probe in ("many", "capture")]
    proof = judge(config, 2, findings(config, *CAUGHT, broken=cells))
    assert statuses(proof)[DETECTOR, "many"] is ProbeStatus.BROKEN
    # A broken capture is how a capture without order ends.
    assert statuses(proof)[DETECTOR, "capture"] is ProbeStatus.CAUGHT
    assert proof.exit_code is ExitCode.OK


def caught(config: VerifyConfig, **of_producer: Any) -> Verification:
    """With a detector that is caught, but for what is said of it in `producer`."""
    found = findings(config, *CAUGHT)
    return judge(config, 2, [replace(f, **of_producer) if f.arm_probe == CAUGHT[0] else f for f in found])


def test_a_detector_that_is_wrong_whatever_its_order_is_blind() -> None:
    proof = caught(CONFIG, failed=4, raced=0, quiet=tuple(Place))
    assert statuses(proof)[DETECTOR, "producer"] is ProbeStatus.BLIND
    assert proof.exit_code is ExitCode.BLIND_DETECTOR


def test_a_race_that_was_seen_before_the_detector_broke_is_no_detection() -> None:
    assert not caught(CONFIG).blind
    assert caught(CONFIG, broken=True).blind


@pytest.mark.parametrize("place", Place)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_detector_has_to_race_at_every_place_that_holds_anything_back(place: Place, device: str) -> None:
    config = resolved(device, arms="stream-free", probes="producer")
    inline = device == "cpu" and place is Place.DEFAULT
    assert caught(config, quiet=(place,)).blind is not inline


def test_every_status_is_one_that_a_judgement_can_have() -> None:
    good = judge(CONFIG, 2, findings(CONFIG, *CAUGHT))
    bad = judge(CONFIG, 2, findings(CONFIG, ArmProbe(arm="torch", probe="many")))
    broken = judge(CONFIG, 2, findings(CONFIG, *CAUGHT, broken=[ArmProbe(arm=DETECTOR, probe="many")]))
    error = judge(CONFIG, 2, unmade(*findings(CONFIG, *CAUGHT)))
    assert {status for proof in (good, bad, broken, error) for status in statuses(proof).values()} == set(ProbeStatus)


def unmade(*found: Finding) -> list[Finding]:
    """The same if torch could not be made."""
    return [
        replace(finding, trials=1, failed=1, broken=True, unmade=True) if finding.arm == "torch" else finding
        for finding in found
    ]


def test_an_arm_that_cannot_be_made_is_an_error_of_set_up_and_less_than_a_failed_probe() -> None:
    error = judge(CONFIG, 2, unmade(*findings(CONFIG, *CAUGHT)))
    applicable = {status for (arm, _), status in statuses(error).items() if arm == "torch"}
    assert applicable == {ProbeStatus.ERROR, ProbeStatus.NOT_APPLICABLE}
    assert error.exit_code is ExitCode.SETUP
    race = judge(CONFIG, 2, unmade(*findings(CONFIG, *CAUGHT, ArmProbe(arm="stream-free", probe="many"))))
    assert race.exit_code is ExitCode.RACE
    assert judge(CONFIG, 2, unmade(*findings(CONFIG))).exit_code is ExitCode.BLIND_DETECTOR


def test_an_arm_that_breaks_again_and_again_is_not_tried_any_more() -> None:
    broken = [cell for cell in list_arm_probes(CONFIG) if cell.arm == "stream-free"][:MOST_BROKEN]
    found = findings(CONFIG, *CAUGHT, broken=broken)
    (left,) = find_given_up_arms(found).values()
    assert find_given_up_arms(finding for finding in found if finding.arm_probe != broken[0]) == {}
    assert (left.arm, left.trials, left.failed, left.broken) == ("stream-free", 1, 1, True)
    assert left.detail is not None
    assert left.detail.startswith("not tried: ")


def test_an_arm_that_cannot_be_made_is_not_tried_again() -> None:
    first, *_ = unmade(*(finding for finding in findings(CONFIG) if finding.arm == "torch"))
    assert find_given_up_arms([*findings(CONFIG, *CAUGHT), first]) == {"torch": first}


def test_a_cell_that_nobody_reported_on_is_no_pass() -> None:
    with pytest.raises(KeyError):
        judge(CONFIG, 2, findings(CONFIG, *CAUGHT)[1:])


def test_arms_and_probes_of_a_proof_are_those_of_its_judgements() -> None:
    judgements = tuple(
        Judgement(arm=arm, probe=probe, status=ProbeStatus.PASS)
        for arm, probe in [("b", "consumer"), ("b", "producer"), ("a", "state")]
    )
    proof = Verification(device="cpu", world_size=2, judgements=judgements)
    assert proof.arms == ("b", "a")
    assert proof.probes == ("producer", "consumer", "state")


# -- what the launching process and the ranks tell each other --------------------------------------------------------


def test_a_specification_is_read_as_it_was_written(tmp_path: Path) -> None:
    config = resolved("cuda", arms="coordinator", routes="graph=torch", nccl_library="/opt/libnccl.so.2")
    spec = VerificationSpec(config=config, arm_probes=group_by_launch(config)[0], findings="there")
    assert (spec.scratch, spec.first) == (None, 0)
    moved = spec.for_launch("/scratch", 2)
    assert moved == replace(spec, scratch="/scratch", first=2)
    for written in (spec, moved):
        written.write(tmp_path / "spec.json")
        assert VerificationSpec.read(tmp_path / "spec.json") == written


def test_findings_are_read_as_they_were_added_but_for_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "findings"
    assert read_findings(path) == []
    found = findings(CONFIG, *CAUGHT, broken=[ArmProbe(arm="torch", probe="many")])
    for finding in found:
        append_finding(path, finding)
    assert read_findings(path) == found
    path.write_text(path.read_text(encoding="utf-8")[:-2], encoding="utf-8")
    assert read_findings(path) == found[:-1]
    append_finding(path, found[0])
    assert read_findings(path) == [*found[:-1], found[0]]


def test_of_two_findings_about_a_cell_the_last_counts() -> None:
    found = findings(CONFIG, *CAUGHT)
    worse = replace(found[0], failed=1, detail="crashed behind it", broken=True)
    (failed,) = (j for j in judge(CONFIG, 2, [*found, worse]).judgements if j.status is ProbeStatus.FAIL)
    assert failed.finding == worse


def test_a_finding_knows_its_cell() -> None:
    assert [finding.arm_probe for finding in findings(CONFIG)] == [
        cell for group in group_by_launch(CONFIG) for cell in group
    ]
