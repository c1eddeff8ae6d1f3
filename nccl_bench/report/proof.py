"""A proof as a table of arms by probes, and what to know about it; and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict

from rich.text import Text

from nccl_bench.report.layout import GAP, counted
from nccl_bench.report.text import rendered, wrapped
from nccl_bench.verify.catalog import DETECTOR
from nccl_bench.verify.proof import Judgement, Proof, Status

_CELLS: Mapping[Status, str] = {Status.NOT_APPLICABLE: "-", Status.UNPROVEN: "?"}
_STYLES: Mapping[str, str] = {r"\bpass\b": "green", r"\b(FAIL|BLIND)\b": "bold red", r"\b(missed|\?)": "yellow"}
CPU_NOTICE = "CPU run: it shows how the arms order their calls, and says nothing about GPUs."


def proof_text(proof: Proof, width: int, styled: bool) -> str:
    """The table in ``width`` cells, failures and reasons below it; ``styled`` adds colour and nothing else."""
    return rendered(_lines(proof, width), width, styled)


def proof_json(proof: Proof, about: Mapping[str, object]) -> str:
    """Everything, with ``about``: the command and the machine."""
    mapping = {
        **about,
        "device": proof.device,
        "world_size": proof.world_size,
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


def _lines(proof: Proof, width: int) -> Iterator[Text]:
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
    yield Text()
    yield from _table(proof, width)
    for title, items, style in (
        ("", _detector(proof), "bold red" if proof.blind else ""),
        ("Failed", _failures(proof), "red"),
        ("Warnings", list(proof.notes), "yellow"),
        ("Not applicable", _reasons(proof), ""),
    ):
        if items:
            yield Text()
            if title:
                yield Text(title, "bold")
            for item in items:
                yield from say(item, style, "- " if title else "")


def _table(proof: Proof, width: int) -> Iterator[Text]:
    cells = {(judgement.arm, judgement.probe): judgement for judgement in proof.judgements}
    rows = [
        (arm, [_shown(cells[arm, probe]) if (arm, probe) in cells else "" for probe in proof.probes])
        for arm in proof.arms
    ]
    widths = [max(len(probe), *(len(texts[index]) for _, texts in rows)) for index, probe in enumerate(proof.probes)]
    room = width - sum(widths)
    first = max(map(len, proof.arms))
    if first + len(widths) > room:
        first = max(len(line) for arm in proof.arms for line in _folded(arm))
    labels = {arm: (arm,) if len(arm) <= first else _folded(arm) for arm in proof.arms}
    gap = " " * max(1, min(GAP, (room - first) // len(widths)))

    def line(label: str, texts: Iterable[str]) -> str:
        padded = [text.ljust(size) for text, size in zip(texts, widths, strict=True)]
        return gap.join([label.ljust(first), *padded]).rstrip()

    yield Text(line("arm", proof.probes), "bold")
    yield Text(line("-" * first, ("-" * size for size in widths)), "dim")
    for arm, texts in rows:
        text = Text(line(labels[arm][0], texts))
        for pattern, style in _STYLES.items():
            text.highlight_regex(pattern, style)
        yield text
        yield from (Text(rest) for rest in labels[arm][1:])


def _shown(judgement: Judgement) -> str:
    return _CELLS.get(judgement.status, str(judgement.status))


def _folded(arm: str) -> tuple[str, ...]:
    """A name on two lines, the second from a hyphen on, so that both are as short as can be."""
    splits = [(arm[:at], "  " + arm[at:]) for at, letter in enumerate(arm) if letter == "-"]
    return min([(arm,), *splits], key=lambda lines: max(map(len, lines)))


def _detector(proof: Proof) -> list[str]:
    """What the arm that has to fail says about the probes."""
    of_detector = [judgement for judgement in proof.judgements if judgement.arm == DETECTOR]
    blind = [judgement for judgement in of_detector if judgement.status is Status.BLIND]
    if blind:
        what = "; ".join(
            f"{judgement.probe}: {judgement.finding.detail}"
            if judgement.finding and judgement.finding.broken
            else f"{judgement.probe}: it passed"
            for judgement in blind
        )
        return [
            f"BLIND: {DETECTOR}, which nothing orders, was not caught ({what}). These probes do not see here what they "
            "are for, so nothing above is proven, and what passed is shown as '?'. Try again on a machine that does "
            "nothing else."
        ]
    caught = ", ".join(
        f"{judgement.probe} ({judgement.finding.failed} of {counted(judgement.finding.trials, 'trial')})"
        for judgement in of_detector
        if judgement.status is Status.CAUGHT and judgement.finding
    )
    missed = ", ".join(judgement.probe for judgement in of_detector if judgement.status is Status.MISSED)
    said = [f"Detector: {DETECTOR}, which nothing orders, was caught as it has to be, in {caught}."]
    if missed:
        said.append(f"It was missed in {missed}, so a pass there says less.")
    return said


def _failures(proof: Proof) -> list[str]:
    return [
        f"{judgement.arm}, {judgement.probe}: {_how_often(judgement)}{judgement.finding.detail}"
        for judgement in proof.judgements
        if judgement.status is Status.FAIL and judgement.finding
    ]


def _how_often(judgement: Judgement) -> str:
    finding = judgement.finding
    if finding is None or finding.broken:
        return ""
    return f"{finding.failed} of {counted(finding.trials, 'trial')}; first: "


def _reasons(proof: Proof) -> list[str]:
    """Each reason once, with the cells that it holds for."""
    cells: dict[str, list[Judgement]] = {}
    for judgement in proof.judgements:
        if judgement.reason is not None:
            cells.setdefault(judgement.reason, []).append(judgement)
    return [f"{_which(judgements, proof)}: {reason}" for reason, judgements in cells.items()]


def _which(judgements: list[Judgement], proof: Proof) -> str:
    arms = list(dict.fromkeys(judgement.arm for judgement in judgements))
    probes = list(dict.fromkeys(judgement.probe for judgement in judgements))
    everywhere = {judgement.arm for judgement in proof.judgements if judgement.probe in probes}
    named = ", ".join(probes)
    return named if len(arms) == len(everywhere) else f"{named} of {', '.join(arms)}"
