"""A proof as a table of arms by probes, and what to know about it; and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

from rich.text import Text

from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.probes import DETECTOR, PROBES, blind_places
from nccl_bench.report.layout import GAP, counted
from nccl_bench.report.text import rendered, wrapped
from nccl_bench.verify.findings import Finding
from nccl_bench.verify.judgement import Judgement, ProbeStatus, Verification

_CELLS: Mapping[ProbeStatus, str] = {ProbeStatus.NOT_APPLICABLE: "-", ProbeStatus.UNVERIFIED: "?"}
_STYLES: Mapping[str, str] = {
    r"\bpass\b": "green",
    r"\b(FAIL|BLIND|error)\b": "bold red",
    r"\b(missed|broken|\?)": "yellow",
}
# The longest name of an arm, folded, and that of a probe.
NARROWEST = 26
SHARED_NOTICE = "The ranks share {gpus}: NCCL takes each for a host of its own, and they talk over the network."
CPU_NOTICE = "CPU run: it shows how the arms order their calls, and says nothing about GPUs."


def verification_text(proof: Verification, width: int, styled: bool) -> str:
    """The table in ``width`` cells, failures and reasons below it; ``styled`` adds colour and nothing else.

    No line is longer than ``width``, which has to be at least ``NARROWEST``.
    """
    return rendered(_lines(proof, width), width, styled)


def verification_json(proof: Verification, about: Mapping[str, object]) -> str:
    """Everything, with ``about``: the command and the machine."""
    mapping = {
        **about,
        "device": proof.device,
        "world_size": proof.world_size,
        "gpus": proof.gpus,
        "blind": proof.blind,
        "exit_code": int(proof.exit_code),
        "notes": list(proof.notes),
        "cells": [_cell(judgement) for judgement in proof.judgements],
    }
    return json.dumps(mapping, indent=2) + "\n"


def _cell(judgement: Judgement) -> dict[str, object]:
    finding = asdict(judgement.finding) if judgement.finding else {}
    mapping = {"arm": judgement.arm, "probe": judgement.probe, "status": judgement.status, "reason": judgement.reason}
    return {key: value for key, value in {**mapping, **finding}.items() if value is not None}


def _lines(proof: Verification, width: int) -> Iterator[Text]:
    def say(text: str, style: str = "", bullet: str = "") -> Iterator[Text]:
        return (Text(line, style) for line in wrapped(text, width, bullet))

    probes = proof.probes
    yield from say(
        f"Stream order, {counted(len(proof.arms), 'arm')} by {counted(len(probes), 'probe')} on "
        f"{counted(proof.world_size, 'rank')} ({proof.device})",
        "bold",
    )
    if proof.device == "cpu":
        yield from say(CPU_NOTICE, "dim")
    if proof.gpus is not None and proof.gpus < proof.world_size:
        yield from say(SHARED_NOTICE.format(gpus=counted(proof.gpus, "GPU")), "dim")
    yield Text()
    yield from _table(proof, width)
    for title, items, style in (
        ("", _for_detector_alone(proof), ""),
        ("", _detector(proof), "bold red" if proof.blind else ""),
        ("Failed", _failures(proof), "red"),
        ("Could not be made", _unmade(proof), "red"),
        ("Warnings", list(proof.notes), "yellow"),
        ("Not applicable", _reasons(proof), ""),
    ):
        if items:
            yield Text()
            if title:
                yield Text(title, "bold")
            for item in items:
                yield from say(item, style, "- " if title else "")


def _table(proof: Verification, width: int) -> Iterator[Text]:
    """The table, as several one below the other where its columns do not fit."""
    cells = {(judgement.arm, judgement.probe): judgement for judgement in proof.judgements}
    columns = {
        probe: [_shown(cells[arm, probe]) if (arm, probe) in cells else "" for arm in proof.arms]
        for probe in proof.probes
    }
    widths = {probe: max(map(len, (probe, *texts))) for probe, texts in columns.items()}
    room = width - sum(widths.values())
    first = max(map(len, proof.arms))
    if first + len(widths) > room:
        first = max(len(line) for arm in proof.arms for line in _folded(arm))
    labels = [(arm,) if len(arm) <= first else _folded(arm) for arm in proof.arms]
    gap = " " * max(1, min(GAP, (room - first) // len(widths)))

    def line(label: str, texts: Iterable[str], sizes: Iterable[int]) -> str:
        padded = [text.ljust(size) for text, size in zip(texts, sizes, strict=True)]
        return gap.join([label.ljust(first), *padded]).rstrip()

    for number, probes in enumerate(_split(widths, width - first, len(gap))):
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


def _split(widths: Mapping[str, int], room: int, gap: int) -> Sequence[Sequence[str]]:
    """The columns in order, as many in each part as ``room`` has place for, each behind a gap."""
    parts: list[list[str]] = []
    left = 0
    for name, width in widths.items():
        left -= gap + width
        if left < 0:
            parts.append([])
            left = room - gap - width
        parts[-1].append(name)
    return parts


def _shown(judgement: Judgement) -> str:
    return _CELLS.get(judgement.status, str(judgement.status))


def _folded(arm: str) -> tuple[str, ...]:
    """A name on two lines, the second from a hyphen on, so that both are as short as can be."""
    splits = [(arm[:at], "  " + arm[at:]) for at, letter in enumerate(arm) if letter == "-"]
    return min([(arm,), *splits], key=lambda lines: max(map(len, lines)))


def _for_detector_alone(proof: Verification) -> list[str]:
    """The probes that nobody asked for: a proof has them because the detector has to fail them."""
    asked = {judgement.probe for judgement in proof.judgements if judgement.arm != DETECTOR}
    others = [probe for probe in proof.probes if probe not in asked]
    return [f"{', '.join(others)}: for the detector alone."] if others else []


def _detector(proof: Verification) -> list[str]:
    """What the arm that has to fail says about the probes."""
    found = [(j.probe, j.status, j.finding) for j in proof.judgements if j.arm == DETECTOR and j.finding]
    if proof.blind:
        return _blindness(proof, {probe: finding for probe, status, finding in found if status is ProbeStatus.BLIND})
    caught = ", ".join(
        f"{probe} ({finding.raced or finding.failed} of {counted(finding.trials, 'trial')})"
        for probe, status, finding in found
        if status is ProbeStatus.CAUGHT
    )
    said = [f"Detector: {DETECTOR}, which nothing orders, was caught as it has to be, in {caught}."]
    missed = ", ".join(probe for probe, status, _ in found if status is ProbeStatus.MISSED)
    if missed:
        said.append(f"It was missed in {missed}, so a pass there says less.")
    said += [
        f"It did not come to the end of {probe}, so a pass there says less: {finding.detail}"
        for probe, status, finding in found
        if status is ProbeStatus.BROKEN
    ]
    return said


def _blindness(proof: Verification, blind: Mapping[str, Finding]) -> list[str]:
    """Why nothing is proven: the detector passed, or what it did not pass was not the sight of a race."""
    passed, otherwise = [], []
    for probe, finding in blind.items():
        if finding.broken:
            otherwise.append(
                f"BLIND: {DETECTOR} did not come to the end of {probe}, in which it has to be caught: "
                f"{finding.detail}\nIf it hung, it may need more time: give a larger --timeout."
            )
        elif finding.failed and not finding.raced:
            otherwise.append(f"BLIND: {DETECTOR} failed {probe}, but by no race: {finding.detail}")
        else:
            passed.append(f"{probe}: it passed{_where(probe, finding, proof.device)}")
    if passed:
        otherwise.append(
            f"BLIND: {DETECTOR}, which nothing orders, was not caught ({'; '.join(passed)}). The probes do not see "
            "there what they are for. Try again on a machine that does nothing else."
        )
    return [*otherwise, "So nothing above is proven, and what passed is shown as '?'."]


def _where(probe: str, finding: Finding, device: str) -> str:
    """The places at which a race that was seen at others has to be seen, too, and was not."""
    quiet = [place for place in finding.quiet if place not in blind_places(PROBES[probe], DEVICES[device])]
    return f" on the {' and on the '.join(quiet)}" if finding.raced else ""


def _failures(proof: Verification) -> list[str]:
    return [
        f"{judgement.arm}, {judgement.probe}: {_how_often(judgement)}{judgement.finding.detail}"
        for judgement in proof.judgements
        if judgement.status is ProbeStatus.FAIL and judgement.finding
    ]


def _unmade(proof: Verification) -> list[str]:
    """Each arm once, without its name a second time."""
    why = {
        judgement.arm: (judgement.finding.detail or "").removeprefix(f"the arm {judgement.arm}: ")
        for judgement in proof.judgements
        if judgement.status is ProbeStatus.ERROR and judgement.finding
    }
    return [f"{arm}: {detail}" for arm, detail in why.items()]


def _how_often(judgement: Judgement) -> str:
    finding = judgement.finding
    if finding is None or finding.broken:
        return ""
    return f"{finding.failed} of {counted(finding.trials, 'trial')}; first: "


def _reasons(proof: Verification) -> list[str]:
    """Each reason once, with the cells that it holds for."""
    cells: dict[str, list[Judgement]] = {}
    for judgement in proof.judgements:
        if judgement.reason is not None:
            cells.setdefault(judgement.reason, []).append(judgement)
    return [f"{_which(judgements, proof)}: {reason}" for reason, judgements in cells.items()]


def _which(judgements: list[Judgement], proof: Verification) -> str:
    arms = list(dict.fromkeys(judgement.arm for judgement in judgements))
    probes = list(dict.fromkeys(judgement.probe for judgement in judgements))
    everywhere = {judgement.arm for judgement in proof.judgements if judgement.probe in probes}
    named = ", ".join(probes)
    return named if len(arms) == len(everywhere) else f"{named} of {', '.join(arms)}"
