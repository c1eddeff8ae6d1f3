"""The sentences below the table of a verification: what failed, what the detector shows, what does not apply."""

from collections.abc import Iterator, Mapping

from nccl_bench.analysis.wording import counted
from nccl_bench.catalog.arms import ENDING_METHODS
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.probes import DETECTOR, PROBES, blind_places
from nccl_bench.report.layout import Remarks
from nccl_bench.verify.findings import Finding
from nccl_bench.verify.headline import pattern_of, weak_detections
from nccl_bench.verify.judgement import Judgement, ProbeStatus, Verification

# The cell of a probe that has not run.
NOT_RUN = "..."
# The cell of a pass if the probe catches the detector too rarely.
WEAK = "weak"


def verification_remarks(verification: Verification) -> Iterator[Remarks]:
    """Yield all remarks; leave out titles without sentences."""
    for title, items, style in (
        ("", _incompleteness(verification), ""),
        ("", verification.history, ""),
        ("", _unselected_probes(verification), ""),
        ("", _detector(verification), "bold red" if verification.blind else ""),
        ("Failed", _failures(verification), "red"),
        ("Could not be made", _unmade_arms(verification), "red"),
        ("Leaks", _leaks(verification), "yellow"),
        ("Warnings", verification.notes, "yellow"),
        ("Declined", _declined(verification), ""),
        ("Not applicable", _reasons(verification), ""),
    ):
        if items:
            yield Remarks(title=title, items=items, style=style)


def _incompleteness(verification: Verification) -> list[str]:
    if verification.complete:
        return []
    return [f"A cell with '{NOT_RUN}' has not run, and verifies nothing."]


def _unselected_probes(verification: Verification) -> list[str]:
    """Name the probes that the user did not select; they run because the detector must fail them."""
    unselected = [probe for probe in verification.probes if probe in verification.unselected]
    return [f"{', '.join(unselected)}: run only with the detector."] if unselected else []


def _detector(verification: Verification) -> list[str]:
    """Return what the detector's results say about the probes."""
    results = [(j.probe, j.status, j.finding) for j in verification.judgements if j.arm == DETECTOR and j.finding]
    if verification.blind:
        blind = {probe: finding for probe, status, finding in results if status is ProbeStatus.BLIND}
        return _blindness(verification, blind)
    if verification.uncaught:
        return [
            f"No pass counts, and a pass is shown as '?', because {', '.join(verification.uncaught)} did not run on "
            f"the detector, {DETECTOR}."
        ]
    caught = ", ".join(
        f"{probe} ({finding.raced or finding.failed} of {counted(finding.trials, 'trial')})"
        for probe, status, finding in results
        if status is ProbeStatus.CAUGHT
    )
    lines = [f"Detector: {DETECTOR}, whose calls have no order, was caught as expected, in {caught}."]
    lines += [
        f"{WEAK}: the arm passed {weak.probe}, but {weak.text}, so such a pass is weak evidence."
        for weak in weak_detections(verification)
    ]
    lines += [
        f"The detector did not finish {probe}: {finding.detail}"
        for probe, status, finding in results
        if status is ProbeStatus.BROKEN
    ]
    return lines


def _blindness(verification: Verification, blind: Mapping[str, Finding]) -> list[str]:
    """Explain why nothing is verified: the detector passed, did not finish, or failed without a race."""
    passed, lines = [], []
    for probe, finding in blind.items():
        if finding.broken:
            lines.append(
                f"BLIND: {DETECTOR} did not finish {probe}, a probe that must detect a race: {finding.detail}\n"
                "If it hung, it may need more time: give a larger --timeout."
            )
        elif finding.failed and not finding.raced:
            lines.append(f"BLIND: {DETECTOR} failed {probe}, but without a race: {finding.detail}")
        else:
            passed.append(f"{probe}: it passed{_quiet_places(probe, finding, verification.device)}")
    if passed:
        lines.append(
            f"BLIND: {DETECTOR}, whose calls have no order, was not caught ({'; '.join(passed)}). These probes detect "
            "no races on this machine at present. Try again when nothing else runs."
        )
    return [*lines, "So nothing above is verified, and a pass is shown as '?'."]


def _quiet_places(probe: str, finding: Finding, device: str) -> str:
    """If trials raced at some places, name the other places where a trial must race."""
    quiet = [place for place in finding.quiet if place not in blind_places(PROBES[probe], DEVICES[device])]
    return f" on the {' and on the '.join(quiet)}" if finding.raced else ""


def _failures(verification: Verification) -> list[str]:
    return [
        f"{judgement.arm}, {judgement.probe}: {_how_often(verification, judgement.finding)}{judgement.finding.detail}"
        for judgement in verification.judgements
        if judgement.status is ProbeStatus.FAIL and judgement.finding
    ]


def _how_often(verification: Verification, finding: Finding) -> str:
    """Return in how many trials a probe failed, and the trials that show a pattern; empty after a hang or a crash."""
    if finding.broken:
        return ""
    pattern = pattern_of(verification, finding)
    shown = f", {pattern.where} ({pattern.evidence})" if pattern and pattern.where else ""
    return f"{finding.failed} of {counted(finding.trials, 'trial')}{shown}; first: "


def _unmade_arms(verification: Verification) -> list[str]:
    """Return one line for each arm that could not be made; the line names the arm once."""
    reasons = {
        judgement.arm: (judgement.finding.detail or "").removeprefix(f"the arm {judgement.arm}: ")
        for judgement in verification.judgements
        if judgement.status is ProbeStatus.ERROR and judgement.finding
    }
    return [f"{arm}: {reason}" for arm, reason in reasons.items()]


def _leaks(verification: Verification) -> list[str]:
    """Return what each arm's object leaves behind, and at last what to do."""
    leaks = [(judgement.arm, leak) for judgement in verification.judgements for leak in _leaks_of(judgement.finding)]
    if not leaks:
        return []
    *names, last = [f"{name}()" for name in ENDING_METHODS]
    return [
        *(f"{arm}, {leak}" for arm, leak in leaks),
        f"No method ends the object of {', '.join(dict.fromkeys(arm for arm, _ in leaks))}, so the arm dropped it: its "
        f"class has no {', '.join(names)} or {last}. Add one of these methods, and release there what the object uses. "
        "A leak of such an object is no race, and does not change the exit code.",
    ]


def _leaks_of(finding: Finding | None) -> tuple[str, ...]:
    return finding.leaks if finding else ()


def _declined(verification: Verification) -> list[str]:
    """Return one line for each arm that declined messages. Several probes try the same messages."""
    declined: dict[str, dict[str, None]] = {}
    for judgement in verification.judgements:
        if judgement.finding and judgement.finding.declined:
            declined.setdefault(judgement.arm, {}).update(dict.fromkeys(judgement.finding.declined))
    return [f"{arm} was not tried with {'; '.join(exchanges)}" for arm, exchanges in declined.items()]


def _reasons(verification: Verification) -> list[str]:
    """Return the reasons why probes do not apply, each reason once, with its probes and arms."""
    by_reason: dict[str, list[Judgement]] = {}
    for judgement in verification.judgements:
        if judgement.reason is not None:
            by_reason.setdefault(judgement.reason, []).append(judgement)
    return [f"{_name_cells(judgements, verification)}: {reason}" for reason, judgements in by_reason.items()]


def _name_cells(judgements: list[Judgement], verification: Verification) -> str:
    arms = list(dict.fromkeys(judgement.arm for judgement in judgements))
    probes = list(dict.fromkeys(judgement.probe for judgement in judgements))
    arms_with_probes = {judgement.arm for judgement in verification.judgements if judgement.probe in probes}
    named = ", ".join(probes)
    return named if len(arms) == len(arms_with_probes) else f"{named} of {', '.join(arms)}"
