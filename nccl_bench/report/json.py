"""JSON for other programs; a value that was not measured has no key. The module ``document`` has the types."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.bands import Band
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.wording import compared_text
from nccl_bench.catalog.cases import CASE_SETTINGS
from nccl_bench.report.document import REPORT_VERSION, BandRecord, CellRecord, ComparisonReport, RunRecord, RunReport
from nccl_bench.report.formats import encoded_json
from nccl_bench.report.step_document import step_record


def json_report(analysis: Analysis) -> str:
    """Return everything about a run, or about a comparison of runs."""
    fields: dict[str, Any] = {
        "report_version": REPORT_VERSION,
        "headline": analysis.headline,
        "exit_code": int(analysis.exit_code),
        "title": analysis.title,
        "sides": analysis.sides,
        "basis": analysis.basis,
        "basis_reason": analysis.reason,
        "shared_arm": analysis.shared_arm,
        "notes": list(analysis.notes),
        "step": None if analysis.step is None else step_record(analysis.step),
        "bands": [_band(band, analysis.sides) for band in analysis.bands],
        "cells": [_cell(each, analysis.sides) for each in analysis.comparisons],
        "failures": list(analysis.failures),
        "warnings": list(analysis.warnings),
        "hints": list(analysis.hints),
        "not_compared": list(analysis.not_compared),
        "not_measured": list(analysis.not_measured),
        "runs": [RunRecord(side=side, meta=dict(meta)) for side, meta in analysis.metas],
    }
    if analysis.run is not None:
        return encoded_json(RunReport(**fields, summary=list(analysis.rows)))
    return encoded_json(ComparisonReport(**fields))


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


def _cell(comparison: Comparison, sides: tuple[str, str]) -> CellRecord:
    case = comparison.case
    return CellRecord(
        **_compared(comparison, comparison, sides),
        size_bytes=case.size_bytes,
        count=case.count,
        baseline_placement=comparison.placements[0],
        candidate_placement=comparison.placements[1],
        baseline_kernels=comparison.kernels[0].text if comparison.kernels else None,
        candidate_kernels=comparison.kernels[1].text if comparison.kernels else None,
        baseline_us=comparison.baseline_us,
        candidate_us=comparison.candidate_us,
        launches=comparison.launches if comparison.launches > 1 else None,
        communicator_variance=comparison.communicator_variance,
        below_floor=comparison.below_floor,
        processes_differ=comparison.processes_differ,
    )


def _band(band: Band, sides: tuple[str, str]) -> BandRecord:
    (least_ratio, most_ratio), (least_saved_us, most_saved_us) = band.ratios, band.saved_us
    return BandRecord(
        **_compared(band, band.comparisons[0], sides),
        size_bytes=[each.case.size_bytes for each in band.comparisons],
        least_ratio=least_ratio,
        most_ratio=most_ratio,
        least_saved_us=least_saved_us,
        most_saved_us=most_saved_us,
        hidden_change=band.hidden_change,
    )


def _compared(of: Comparison | Band, first: Comparison, sides: tuple[str, str]) -> dict[str, Any]:
    """Return the fields that a band and a size share; ``first`` is the comparison of the first size."""
    case, interval = first.case, of.interval
    return {
        "compared": compared_text(first, sides),
        "baseline_arm": of.baseline,
        "candidate_arm": of.candidate,
        "timing": of.timing,
        "scenario": case.scenario,
        **{name: getattr(case, name) for name in CASE_SETTINGS},
        "collective": case.collective,
        "dtype": case.dtype,
        "redop": case.redop,
        "placement": case.placement,
        "root": case.root,
        "ratio": of.ratio,
        "ratio_low": interval.low if interval else None,
        "ratio_high": interval.high if interval else None,
        "threshold": of.threshold,
        "verdict": of.verdict,
        "reason": of.reason,
        "noise_floor": of.noise_floor,
        "pairs_needed": of.pairs_needed,
    }
