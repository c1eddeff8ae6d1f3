"""The headline of a verification: which arms keep stream order, how sure that is, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nccl_bench.analysis.headline import Fact, Headline, HeadlineLine, Label
from nccl_bench.analysis.headline_facts import device_text
from nccl_bench.analysis.machine import settings_text, tool_text
from nccl_bench.analysis.wording import counted
from nccl_bench.catalog.devices import DEVICES, DeviceSpec
from nccl_bench.catalog.probes import DETECTOR, PROBES, blind_places
from nccl_bench.verify.agreement import describe_difference, describe_lacks
from nccl_bench.verify.findings import Finding
from nccl_bench.verify.judgement import Judgement, ProbeStatus, Verification
from nccl_bench.verify.patterns import Pattern, find_arm_cause, find_pattern

# A probe that catches the detector in a smaller share of its trials is weak evidence.
WEAK_DETECTION = 0.9
_PASSED = (ProbeStatus.PASS, ProbeStatus.LEAKS)
# More arms than this are counted and not named.
_MOST_NAMED = 4
# Name of a package without its version of CUDA -> the name of the program in it.
_PROGRAMS = {"nvidia-nccl": "NCCL"}


def verification_headline(verification: Verification) -> Headline:
    """Return the headline of ``verification``. Its facts have the same names as the facts of a run."""
    command = shlex.join(verification.facts.get("command") or ())
    facts = (
        Fact(name="Results", text=_results(verification)),
        Fact(name="Order", text=_order(verification)),
        Fact(name="Machine", text=_machine(verification)),
        Fact(name="Command", text=command, command=command),
        _next(verification),
    )
    return Headline(
        title=_title(verification),
        problems=tuple(_problems(verification)),
        lines=tuple(_lines(verification)),
        facts=tuple(fact for fact in facts if fact.text),
    )


def describe_failure(verification: Verification, judgement: Judgement) -> str:
    """Return in how many trials an arm failed a probe, where, and why; a hang or a crash as it was recorded."""
    finding = judgement.finding
    assert finding is not None
    if finding.broken:
        return f"{judgement.probe}: {finding.detail}"
    number = f"{judgement.probe} in {finding.failed} of {counted(finding.trials, 'trial')}"
    lacks = describe_lacks(finding)
    pattern = pattern_of(verification, finding)
    if pattern is None:
        return f"{number}: {lacks}" if lacks else number
    cause = f", so {pattern.cause}" if pattern.cause and pattern.where else pattern.cause
    return f"{number}: {pattern.where}{cause}" if pattern.where or cause else number


def evidence(findings: Sequence[Finding]) -> str:
    """Return how much evidence there is for passes: calls checked or watched, or the trials of an older record."""
    calls = sum(finding.calls for finding in findings)
    watched = sum(finding.watched_calls for finding in findings)
    parts = [
        f"{calls:,} calls checked on each rank" if calls else "",
        f"{watched:,} calls of all ranks watched" if watched else "",
    ]
    if any(parts):
        return ", ".join(filter(None, parts))
    return counted(sum(finding.trials for finding in findings), "trial")


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """The number of trials in which a probe caught the detector. More of them make a pass of the probe surer."""

    probe: str  # the probe's name
    failed: int  # the number of trials that the detector failed; 0 if it did not finish the probe
    trials: int  # the number of trials in which the probe can detect a race

    @property
    def share(self) -> float:
        """The share of trials that the detector failed."""
        return self.failed / self.trials

    @property
    def text(self) -> str:
        """The number of trials that the detector failed, in words."""
        if not self.failed:
            return "the detector did not fail it"
        return f"the detector failed only {self.failed} of {counted(self.trials, 'trial')}"


def weak_detections(verification: Verification) -> list[Detection]:
    """Return the probes that caught the detector too rarely. Trials where the device hides every race do not count."""
    if verification.blind:
        return []
    findings = [each.finding for each in verification.judgements if each.arm == DETECTOR and each.finding]
    detections = (_detection(finding, DEVICES[verification.device]) for finding in findings)
    return [each for each in detections if each.share < WEAK_DETECTION]


def _detection(finding: Finding, device: DeviceSpec) -> Detection:
    blind = blind_places(PROBES[finding.probe], device)
    groups = [group for group in finding.groups if group.place not in blind]
    failed, trials = (
        (sum(g.failed for g in groups), sum(g.trials for g in groups)) if groups else (finding.failed, finding.trials)
    )
    return Detection(probe=finding.probe, failed=0 if finding.broken else failed, trials=trials)


def pattern_of(verification: Verification, finding: Finding) -> Pattern | None:
    """Return the pattern of the failures of ``finding``. The detector's finding shows where the probe sees races."""
    of_detector = (each.finding for each in verification.judgements if each.arm == DETECTOR)
    detector = next((each for each in of_detector if each and each.probe == finding.probe), None)
    return find_pattern(finding, detector)


def _tested(verification: Verification) -> list[str]:
    return [arm for arm in verification.arms if arm != DETECTOR]


def _of_arm(verification: Verification, arm: str) -> list[Judgement]:
    return [each for each in verification.judgements if each.arm == arm]


def _with_status(verification: Verification, *statuses: ProbeStatus) -> list[str]:
    """Return the arms with any of ``statuses``, without the detector."""
    arms = dict.fromkeys(each.arm for each in verification.judgements if each.status in statuses)
    return [arm for arm in arms if arm != DETECTOR]


def _title(verification: Verification) -> str:
    arms, probes = counted(len(_tested(verification)), "arm"), counted(len(verification.probes), "probe")
    return f"Stream order of {arms}, {probes}, {device_text(_meta(verification))}"


def _meta(verification: Verification) -> dict[str, Any]:
    """Return the facts about the machine in the form of a run's ``run.json``."""
    return {
        "config": {"device": verification.device},
        # All ranks of a verification are on one node.
        "launch": {"world_size": verification.world_size, "nproc": verification.world_size},
        "environment": verification.facts.get("environment") or {},
    }


def _problems(verification: Verification) -> Iterator[str]:
    if verification.blind:
        blind = [each.probe for each in verification.judgements if each.status is ProbeStatus.BLIND]
        yield f"BLIND: {', '.join(blind)} did not catch the detector, which races on purpose. Nothing is verified."
    if not verification.complete:
        yield f"INCOMPLETE: {verification.ran} of {counted(verification.planned, 'probe')} ran, counted for each arm"
    for arm in _with_status(verification, ProbeStatus.FAIL):
        failures = [each for each in _of_arm(verification, arm) if each.status is ProbeStatus.FAIL]
        texts = [describe_failure(verification, each).splitlines()[0] for each in failures]
        cause = find_arm_cause(verification, arm)
        sentences = ["; ".join(texts), f"{cause[:1].upper()}{cause[1:]}", describe_difference(verification, arm)]
        yield f"FAIL {arm}, {'. '.join(filter(None, sentences))}"
    for arm in _with_status(verification, ProbeStatus.ERROR):
        yield f"ERROR {arm}: it could not be made"


def _lines(verification: Verification) -> Iterator[HeadlineLine]:
    """Yield the arms that passed, those that leak, and the probes whose passes are weak."""
    wrong = _with_status(verification, ProbeStatus.FAIL, ProbeStatus.ERROR)
    passed = [arm for arm in _with_status(verification, *_PASSED) if arm not in wrong]
    if passed:
        findings = [each.finding for arm in passed for each in _of_arm(verification, arm) if each.status in _PASSED]
        probes = dict.fromkeys(finding.probe for finding in findings if finding)
        names = ", ".join(passed) if len(passed) <= _MOST_NAMED else f"{_all(passed, _tested(verification))} arms"
        text = f"{names}: {', '.join(probes)}; {evidence([finding for finding in findings if finding])}"
        yield HeadlineLine(label=Label.PASS, timing=None, text=text)
    leaking = _with_status(verification, ProbeStatus.LEAKS)
    if leaking:
        text = f"{', '.join(leaking)}: the object leaves something behind, and no method ends it"
        yield HeadlineLine(label=Label.LEAK, timing=None, text=text)
    for weak in weak_detections(verification):
        text = f"{weak.probe}: {weak.text}, so a pass of {weak.probe} is weak evidence"
        yield HeadlineLine(label=Label.WEAK, timing=None, text=text)


def _all(some: Sequence[str], every: Sequence[str]) -> str:
    return f"all {len(every)}" if len(some) == len(every) else f"{len(some)} of {len(every)}"


def _results(verification: Verification) -> str:
    tested, failing = _tested(verification), _with_status(verification, ProbeStatus.FAIL)
    unmade = _with_status(verification, ProbeStatus.ERROR)
    parts = [f"{counted(len(failing), 'arm')} failed" if failing else ""]
    parts.append(f"{counted(len(unmade), 'arm')} could not be made" if unmade else "")
    passed = [arm for arm in _with_status(verification, *_PASSED) if arm not in (*failing, *unmade)]
    parts.append(f"{_all(passed, tested)} arms passed" if passed else "no arm passed")
    findings = [each.finding for each in verification.judgements if each.arm != DETECTOR and each.finding]
    return f"{', '.join(filter(None, parts))}; {evidence(findings)}"


def _order(verification: Verification) -> str:
    """Return which probes looked at order, and which did not run."""
    applying = [
        probe
        for probe in PROBES
        if any(
            each.status is not ProbeStatus.NOT_APPLICABLE
            for each in verification.judgements
            if each.probe == probe and each.arm != DETECTOR
        )
    ]
    constructed = [probe for probe in applying if PROBES[probe].by_construction]
    experiments = [probe for probe in applying if probe not in constructed]
    absent = [probe for probe in PROBES if probe not in applying and probe not in verification.unselected]
    parts = [
        f"by construction: {', '.join(constructed)}" if constructed else "",
        f"by experiment: {', '.join(experiments)}" if experiments else "",
        f"not selected: {', '.join(verification.unselected)}" if verification.unselected else "",
        f"not applicable: {', '.join(absent)}" if absent else "",
    ]
    return "; ".join(filter(None, parts))


def _machine(verification: Verification) -> str:
    """Return the device, the versions of the first processes, the settings, and other versions in other processes."""
    meta = _meta(verification)
    environment = meta["environment"]
    drivers = dict.fromkeys(str(gpu["driver"]) for gpu in environment.get("gpus") or () if gpu.get("driver"))
    packages = environment.get("packages") or {}
    of_packages = {_PROGRAMS.get(name.partition("-cu")[0], name): version for name, version in packages.items()}
    first = verification.processes[0].versions if verification.processes else of_packages
    parts = [
        device_text(meta),
        *(f"{name} {str(first[name]).partition('+')[0]}" for name in ("torch", "NCCL") if name in first),
        f"driver {', '.join(drivers)}" if drivers else "",
        settings_text(meta),
        tool_text([("", meta)]),
    ]
    texts = [", ".join(filter(None, parts))]
    for processes in verification.processes[1:]:
        differing = [f"{name} {version}" for name, version in processes.versions.items() if version != first.get(name)]
        texts += [f"{', '.join(processes.arms)}: {', '.join(differing)}"] if differing else []
    return "; ".join(texts)


def _next(verification: Verification) -> Fact:
    """Return what to do next; without a text if nothing is left to do."""
    text, command = "", ""
    if not verification.complete:
        command = verification.resume_command
        text = f"run the other probes: {command}" if command else ""
    elif verification.blind:
        text = _advice_for_blind(verification)
    elif failing := _with_status(verification, ProbeStatus.FAIL):
        failed = {each.probe for each in verification.judgements if each.status is ProbeStatus.FAIL}
        probes = ",".join(probe for probe in PROBES if probe in failed)
        text = f"mend {', '.join(failing)}, then verify again with --probes {probes}"
    elif verification.unselected:
        text = "verify again without --probes, which runs every probe"
    return Fact(name="Next", text=text, command=command)


def _advice_for_blind(verification: Verification) -> str:
    findings = [each.finding for each in verification.judgements if each.status is ProbeStatus.BLIND and each.finding]
    if any(finding.broken for finding in findings):
        return "see below how the detector ended; if it hung, give a larger --timeout"
    if any(finding.failed > finding.raced for finding in findings):
        return "see below why the detector failed without a race"
    return "verify again when nothing else runs on this machine"
