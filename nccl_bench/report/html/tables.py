"""The tables of a page that need no script: bands, lowered clocks, and the checks of outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from nccl_bench.analysis.bands import Band
from nccl_bench.analysis.checks import ArmChecks, checks_of_arms
from nccl_bench.analysis.machine import NamedRuns, facts
from nccl_bench.analysis.rows import Rows
from nccl_bench.analysis.verdict_words import verdict_text
from nccl_bench.analysis.wording import compared_text, format_ratios, format_share, size_with_unit
from nccl_bench.records.run import Run
from nccl_bench.report.band_table import sizes_text
from nccl_bench.report.html.page import Block, Facts, NamedText, PageTable, Paragraphs
from nccl_bench.report.layout import Table

# A table of another report with more rows than this is folded.
_MOST_ROWS = 30


def bands_table(bands: Sequence[Band], sides: tuple[str, str]) -> PageTable:
    """Return the table of all bands, which the reader can unfold; ``sides`` are the names of the two sides."""
    arms = [compared_text(band.comparisons[0], sides) for band in bands]
    # A baseline that all bands share stands only in the caption, so that the table fits into a window of 1280 pixels.
    baselines = {f" against {band.baseline}" for band in bands}
    shared = baselines.pop() if len(baselines) == 1 else ""
    shared = shared if all(text.endswith(shared) for text in arms) else ""
    return PageTable(
        caption=f"Verdicts of bands{shared}: neighbouring sizes that share a verdict. One size alone: the largest "
        "change of one size that the verdict can hide.",
        header=("arms", "timing", "sizes", "verdict", "ratio", "interval", "noise floor", "one size alone"),
        rows=[(text.removesuffix(shared), *_band(band)) for text, band in zip(arms, bands, strict=True)],
        numeric=(False, False, False, False, True, True, True, True),
        folded=True,
    )


def _band(band: Band) -> tuple[str, ...]:
    return (
        band.timing,
        sizes_text(band),
        verdict_text(band),
        format_ratios(band.ratios),
        f"{band.interval.low:.3f}x to {band.interval.high:.3f}x" if band.interval else "",
        "" if band.noise_floor is None else format_share(band.noise_floor),
        "" if band.hidden_change is None else format_share(band.hidden_change),
    )


def text_tables(tables: Iterable[Table]) -> Iterator[Block]:
    """Yield ``tables`` of the other reports as blocks of a page."""
    for table in tables:
        rows = list(zip(*([cell.strip() for cell in each.cells] for each in table.columns), strict=True))
        yield PageTable(
            caption=" ".join((f"{table.title}.", *table.notes)) if table.notes else table.title,
            header=[each.name for each in table.columns],
            rows=rows,
            numeric=[not each.left for each in table.columns],
            folded=len(rows) > _MOST_ROWS,
        )


def lowered_clocks(rows_of_runs: Sequence[tuple[str, Rows]]) -> Iterator[Block]:
    """Yield a table of lowered clocks with their reasons, or a sentence that no clock was lowered or none is known."""
    for side, rows in rows_of_runs:
        of_side = f" {side}" if side else ""
        # All arms of a case and timing were measured together, and have one reading.
        columns = (rows.column(name) for name in ("size_bytes", "timing", "throttled", "throttled_share"))
        lowered = {
            (size or 0, timing or "", reasons, share)
            for size, timing, reasons, share in zip(*columns, strict=True)
            if reasons
        }
        if lowered:
            yield PageTable(
                caption=f"Lowered clocks of a GPU{of_side}",
                header=("size", "timing", "reason", "share of the time"),
                rows=[
                    (size_with_unit(size), timing, reason, "" if share is None else format_share(share))
                    for size, timing, reason, share in sorted(lowered, key=lambda each: each[:2])
                ],
                numeric=(True, False, False, True),
            )
        elif any(clock is not None for clock in rows.column("sm_clock_mhz")):
            yield Paragraphs(items=[f"No GPU's clocks were lowered{of_side}."])
        elif rows:
            yield Paragraphs(items=[f"The record{of_side} has no clocks of GPUs."])


def checked_results(runs: Iterable[tuple[str, Run]]) -> Iterator[Block]:
    """Yield the checks of the outputs of each arm in each run."""
    for side, run in runs:
        of_side = f" {side}" if side else ""
        checks = checks_of_arms(run)
        if checks:
            yield PageTable(
                caption=f"Checks of the outputs{of_side}, in cells. A cell is a case, an arm and a timing.",
                header=("arm", "right", "wrong", "not checked", "declined", "hangs and crashes", "allowed error"),
                rows=list(map(_checks, checks)),
                numeric=(False, *[True] * 6),
            )


def _checks(checks: ArmChecks) -> tuple[str, ...]:
    counts = (checks.right, checks.wrong, checks.unchecked, checks.declined, checks.ended)
    tolerance = "none" if checks.tolerance_ulp == 0 else f"{checks.tolerance_ulp} ulp"
    return checks.arm, *map(str, counts), "" if checks.tolerance_ulp is None else tolerance


def environment(metas: NamedRuns) -> Iterator[Block]:
    """Yield the recorded facts about the machine and the settings: as a list, or as a table of several runs."""
    known = [(name, {fact: text for fact, text in facts(meta).items() if fact}) for name, meta in metas]
    names = list(dict.fromkeys(fact for _, of_run in known for fact in of_run))
    if len(known) == 1:
        yield Facts(items=[NamedText(name=name, text=known[0][1][name]) for name in names])
    elif known:
        yield PageTable(
            caption="Machine and settings of each run",
            header=("fact", *(name for name, _ in known)),
            rows=[(name, *(of_run.get(name, "") for _, of_run in known)) for name in names],
        )
