"""The compact table of an answer: a line for each band of sizes."""

from __future__ import annotations

from collections.abc import Sequence

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.bands import Band
from nccl_bench.analysis.pair_lines import differences_of
from nccl_bench.analysis.shared_arm import own_times_text
from nccl_bench.analysis.verdict_words import verdict_text
from nccl_bench.analysis.wording import (
    case_name,
    change_range,
    compared_text,
    format_share,
    from_to,
    opposite_text,
    saved_text,
    size_with_unit,
)
from nccl_bench.report.layout import Column, Table, column
from nccl_bench.report.verdicts import interval_text


def band_table(analysis: Analysis) -> Table | None:
    """Return the bands that answer the question; ``None`` without comparisons.

    The arms and the case have columns only if they are not the same in all lines.
    """
    bands = analysis.answer_bands
    if not bands:
        return None
    arms = [compared_text(band.comparisons[0], analysis.sides) for band in bands]
    cases = [case_name(band.comparisons[0].case, {*band.comparisons[0].placements}) for band in bands]
    known: list[tuple[str, list[str]]] = [
        *([("arms", arms)] if len({*arms}) > 1 else []),
        *([("case", cases)] if len({*cases}) > 1 else []),
        ("timing", [str(band.timing) for band in bands]),
        ("size", list(map(sizes_text, bands))),
        ("verdict", list(map(verdict_text, bands))),
        ("change", [change_range(band.ratios) for band in bands]),
        (f"a {analysis.unit}", list(map(_times, bands))),
        ("interval over sizes", list(map(interval_text, bands))),
        ("noise floor", ["" if band.noise_floor is None else format_share(band.noise_floor) for band in bands]),
    ]
    columns = [_column(name, texts) for name, texts in known if any(texts)]
    same = [texts[0] for texts in (arms, cases) if len({*texts}) == 1]
    return Table(title=", ".join(same) or "Verdicts", notes=(), columns=tuple(columns), keep=len(columns))


def _column(name: str, texts: Sequence[str]) -> Column:
    return column(name, (name,), texts, left=True)


def sizes_text(band: Band) -> str:
    """Return the sizes of ``band`` with their units: 8 B to 2 MiB."""
    return from_to(*(size_with_unit(band.comparisons[index].case.size_bytes) for index in (0, -1)))


def _times(band: Band) -> str:
    if band.has_shared_arm:
        return own_times_text(band.comparisons)
    return opposite_text(differences_of([band]), band.timing) or saved_text(band.saved_us, band.timing)
