"""JSON for other programs; a value that was not measured has no key."""

from collections.abc import Mapping
from dataclasses import asdict

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.wording import compared_text
from nccl_bench.records.schema import SCHEMA
from nccl_bench.report.formats import json_text


def json_report(analysis: Analysis) -> str:
    """Return ``run.json`` and the summary of a run, or everything about a comparison of runs."""
    return json_text(_content(analysis))


def comparison_record(comparison: Comparison, sides: tuple[str, str]) -> Mapping[str, object]:
    """Return ``comparison`` as plain data without absent values; ``sides`` are the names of its two sides."""
    interval = comparison.interval
    record = {
        "compared": compared_text(comparison, sides),
        f"{sides[0]}_arm": comparison.baseline,
        f"{sides[1]}_arm": comparison.candidate,
        **asdict(comparison.case),
        f"{sides[0]}_placement": comparison.placements[0],
        f"{sides[1]}_placement": comparison.placements[1],
        "timing": comparison.timing,
        f"{sides[0]}_us": comparison.baseline_us,
        f"{sides[1]}_us": comparison.candidate_us,
        "ratio": comparison.ratio,
        "ratio_low": interval.low if interval else None,
        "ratio_high": interval.high if interval else None,
        "threshold": comparison.threshold,
        "verdict": comparison.verdict,
        "noise_floor": comparison.noise_floor,
        "launches": comparison.launches if comparison.launches > 1 else None,
        "communicator_variance": comparison.communicator_variance,
        "below_floor": None if comparison.verdict is None else comparison.below_floor,
        "processes_differ": comparison.processes_differ or None,
        "pairs_needed": comparison.pairs_needed,
    }
    return {key: value for key, value in record.items() if value is not None}


def _content(analysis: Analysis) -> Mapping[str, object]:
    headline = asdict(analysis.headline)
    if analysis.run is not None:
        summary = [row.present() for row in analysis.rows]
        return {"schema": SCHEMA, "headline": headline, "run": analysis.run.meta, "summary": summary}
    return {
        "title": analysis.title,
        "headline": headline,
        "basis": analysis.basis,
        "reason": analysis.reason,
        "shared_arm": analysis.shared_arm,
        "notes": analysis.notes,
        "cells": [comparison_record(each, analysis.sides) for each in analysis.comparisons],
        "failures": analysis.failures,
        "warnings": analysis.warnings,
        "hints": analysis.hints,
        "not_compared": analysis.not_compared,
        "not_measured": analysis.not_measured,
    }
