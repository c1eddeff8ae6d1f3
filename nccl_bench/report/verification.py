"""A verification as a table of arms by probes with its failures and reasons below, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

from rich.text import Text

from nccl_bench.analysis.wording import counted
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.probes import DETECTOR, PROBES, blind_places
from nccl_bench.report.layout import GAP
from nccl_bench.report.text import rendered, wrapped
from nccl_bench.verify.findings import Finding
from nccl_bench.verify.judgement import Judgement, ProbeStatus, Verification

_CELLS: Mapping[ProbeStatus, str] = {ProbeStatus.NOT_APPLICABLE: "-", ProbeStatus.UNVERIFIED: "?"}
_STYLES: Mapping[str, str] = {
    r"\bpass\b": "green",
    r"\b(FAIL|BLIND|error)\b": "bold red",
    r"\b(missed|broken|\?)": "yellow",
}
# The longest arm name, folded, beside the longest probe name.
NARROWEST = 26
SHARED_NOTICE = (
    "The ranks share {gpus}: NCCL treats each rank as a host of its own, and they communicate over the network."
)
CPU_NOTICE = "CPU run: it shows how the arms order their calls, and says nothing about GPUs."


def verification_text(verification: Verification, width: int, styled: bool) -> str:
    """Return the table with its explanations, no line longer than ``width``; ``styled`` adds colour and nothing else.

    ``width`` must be at least ``NARROWEST``.
    """
    return rendered(_lines(verification, width), width, styled)


def verification_json(verification: Verification, about: Mapping[str, object]) -> str:
    """Return the whole verification as JSON, after ``about``: the command and the machine."""
    mapping = {
        **about,
        "device": verification.device,
        "world_size": verification.world_size,
        "gpus": verification.gpus,
        "blind": verification.blind,
        "exit_code": int(verification.exit_code),
        "notes": list(verification.notes),
        "cells": [_to_mapping(judgement) for judgement in verification.judgements],
    }
    return json.dumps(mapping, indent=2) + "\n"


def _to_mapping(judgement: Judgement) -> dict[str, object]:
    finding = asdict(judgement.finding) if judgement.finding else {}
    mapping = {"arm": judgement.arm, "probe": judgement.probe, "status": judgement.status, "reason": judgement.reason}
    return {key: value for key, value in {**mapping, **finding}.items() if value is not None}


def _lines(verification: Verification, width: int) -> Iterator[Text]:
    def wrap(text: str, style: str = "", bullet: str = "") -> Iterator[Text]:
        return (Text(line, style) for line in wrapped(text, width, bullet))

    yield from wrap(
        f"Stream order, {counted(len(verification.arms), 'arm')} by {counted(len(verification.probes), 'probe')} on "
        f"{counted(verification.world_size, 'rank')} ({verification.device})",
        "bold",
    )
    if verification.device == "cpu":
        yield from wrap(CPU_NOTICE, "dim")
    if verification.gpus is not None and verification.gpus < verification.world_size:
        yield from wrap(SHARED_NOTICE.format(gpus=counted(verification.gpus, "GPU")), "dim")
    yield Text()
    yield from _table(verification, width)
    for title, items, style in (
        ("", _unselected_probes(verification), ""),
        ("", _detector(verification), "bold red" if verification.blind else ""),
        ("Failed", _failures(verification), "red"),
        ("Could not be made", _unmade_arms(verification), "red"),
        ("Warnings", list(verification.notes), "yellow"),
        ("Not applicable", _reasons(verification), ""),
    ):
        if items:
            yield Text()
            if title:
                yield Text(title, "bold")
            for item in items:
                yield from wrap(item, style, "- " if title else "")


def _table(verification: Verification, width: int) -> Iterator[Text]:
    """Yield the table, in several parts one below the other if its columns do not fit."""
    cells = {(judgement.arm, judgement.probe): judgement.status for judgement in verification.judgements}
    columns = {
        probe: [_cell(cells[arm, probe]) if (arm, probe) in cells else "" for arm in verification.arms]
        for probe in verification.probes
    }
    widths = {probe: max(map(len, (probe, *texts))) for probe, texts in columns.items()}
    room = width - sum(widths.values())
    first = max(map(len, verification.arms))
    if first + len(widths) > room:
        first = max(len(line) for arm in verification.arms for line in _fold(arm))
    labels = [(arm,) if len(arm) <= first else _fold(arm) for arm in verification.arms]
    gap = " " * max(1, min(GAP, (room - first) // len(widths)))

    def line(label: str, texts: Iterable[str], sizes: Iterable[int]) -> str:
        padded = [text.ljust(size) for text, size in zip(texts, sizes, strict=True)]
        return gap.join([label.ljust(first), *padded]).rstrip()

    for number, probes in enumerate(_split_columns(widths, width - first, len(gap))):
        if number:
            yield Text()
        sizes = [widths[probe] for probe in probes]
        yield Text(line("arm", probes, sizes), "bold")
        yield Text(line("-" * first, ("-" * size for size in sizes), sizes), "dim")
        for row, (label, *rest) in enumerate(labels):
            text = Text(line(label, (columns[probe][row] for probe in probes), sizes))
            for pattern, style in _STYLES.items():
                text.highlight_regex(pattern, style)
            yield text
            yield from map(Text, rest)


def _split_columns(widths: Mapping[str, int], room: int, gap: int) -> Sequence[Sequence[str]]:
    """Return the columns in order, as many in each part as fit into ``room`` with a gap before each."""
    parts: list[list[str]] = []
    left = 0
    for name, width in widths.items():
        left -= gap + width
        if left < 0:
            parts.append([])
            left = room - gap - width
        parts[-1].append(name)
    return parts


def _cell(status: ProbeStatus) -> str:
    return _CELLS.get(status, str(status))


def _fold(arm: str) -> tuple[str, ...]:
    """Return a name on the two lines that are narrowest, the second from a hyphen on; on one if it has no hyphen."""
    splits = [(arm[:at], "  " + arm[at:]) for at, letter in enumerate(arm) if letter == "-"]
    return min([(arm,), *splits], key=lambda lines: max(map(len, lines)))


def _unselected_probes(verification: Verification) -> list[str]:
    """Name the probes that are only there because the detector must fail them."""
    selected = {judgement.probe for judgement in verification.judgements if judgement.arm != DETECTOR}
    unselected = [probe for probe in verification.probes if probe not in selected]
    return [f"{', '.join(unselected)}: for the detector alone."] if unselected else []


def _detector(verification: Verification) -> list[str]:
    """Return what the detector's results say about the probes."""
    results = [(j.probe, j.status, j.finding) for j in verification.judgements if j.arm == DETECTOR and j.finding]
    if verification.blind:
        blind = {probe: finding for probe, status, finding in results if status is ProbeStatus.BLIND}
        return _blindness(verification, blind)
    caught = ", ".join(
        f"{probe} ({finding.raced or finding.failed} of {counted(finding.trials, 'trial')})"
        for probe, status, finding in results
        if status is ProbeStatus.CAUGHT
    )
    lines = [f"Detector: {DETECTOR}, which nothing orders, was caught as expected, in {caught}."]
    missed = ", ".join(probe for probe, status, _ in results if status is ProbeStatus.MISSED)
    if missed:
        lines.append(f"It was missed in {missed}, so a pass there says less.")
    lines += [
        f"It did not finish {probe}, so a pass there says less: {finding.detail}"
        for probe, status, finding in results
        if status is ProbeStatus.BROKEN
    ]
    return lines


def _blindness(verification: Verification, blind: Mapping[str, Finding]) -> list[str]:
    """Explain why nothing is verified: the detector passed, broke, or failed without a race."""
    passed, lines = [], []
    for probe, finding in blind.items():
        if finding.broken:
            lines.append(
                f"BLIND: {DETECTOR} did not finish {probe}, which must catch it: {finding.detail}\n"
                "If it hung, it may need more time: give a larger --timeout."
            )
        elif finding.failed and not finding.raced:
            lines.append(f"BLIND: {DETECTOR} failed {probe}, but not by a race: {finding.detail}")
        else:
            passed.append(f"{probe}: it passed{_quiet_places(probe, finding, verification.device)}")
    if passed:
        lines.append(
            f"BLIND: {DETECTOR}, which nothing orders, was not caught ({'; '.join(passed)}). These probes detect no "
            "races on this machine at present. Try again when nothing else runs on it."
        )
    return [*lines, "So nothing above is verified, and a pass is shown as '?'."]


def _quiet_places(probe: str, finding: Finding, device: str) -> str:
    """Name the places where no trial raced although a race must show there, if trials at other places raced."""
    quiet = [place for place in finding.quiet if place not in blind_places(PROBES[probe], DEVICES[device])]
    return f" on the {' and on the '.join(quiet)}" if finding.raced else ""


def _failures(verification: Verification) -> list[str]:
    return [
        f"{judgement.arm}, {judgement.probe}: {_how_often(judgement.finding)}{judgement.finding.detail}"
        for judgement in verification.judgements
        if judgement.status is ProbeStatus.FAIL and judgement.finding
    ]


def _how_often(finding: Finding) -> str:
    return "" if finding.broken else f"{finding.failed} of {counted(finding.trials, 'trial')}; first: "


def _unmade_arms(verification: Verification) -> list[str]:
    """Return one line for each arm that could not be made, with its name only once."""
    reasons = {
        judgement.arm: (judgement.finding.detail or "").removeprefix(f"the arm {judgement.arm}: ")
        for judgement in verification.judgements
        if judgement.status is ProbeStatus.ERROR and judgement.finding
    }
    return [f"{arm}: {reason}" for arm, reason in reasons.items()]


def _reasons(verification: Verification) -> list[str]:
    """Return each reason why probes do not apply once, with the probes and arms that it holds for."""
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
