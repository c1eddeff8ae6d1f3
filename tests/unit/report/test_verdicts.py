"""Comparisons as a table: which sizes changed, by how much, how sure; and what would decide the rest."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from nccl_bench.analysis.between import between
from nccl_bench.analysis.sources import Source
from nccl_bench.analysis.statistics import Interval, Verdict
from nccl_bench.catalog.timings import Timing
from nccl_bench.cli.compare import compare
from nccl_bench.report.comparison import Comparative, comparative_json, comparative_text, listed, unmatched
from nccl_bench.report.verdicts import Told, figures, heading, hints, of_sides, tables
from tests.support.synthetic_runs import case

FASTER, SLOWER, EQUIVALENT, INCONCLUSIVE = Verdict


def told(size: int = 8, verdict: Verdict | None = EQUIVALENT, ratio: float = 1.0, **changes: Any) -> Told:
    fields: dict[str, Any] = {
        "who": "stream-free against dedicated-stream",
        "arms": ("dedicated-stream", "stream-free"),
        "case": case(size),
        "timing": Timing.GATED,
        "ratio": ratio,
        "threshold": 0.02,
        "interval": Interval(low=ratio / 1.01, high=ratio * 1.01, error=0.05),
        "verdict": verdict,
    }
    return Told(**{**fields, **changes})


def shown(cells: Sequence[Told], width: int = 80, **changes: Any) -> str:
    fields: dict[str, Any] = {"title": "b against a", "ground": "rounds", "reason": "rounds", "more": "More runs"}
    return comparative_text(Comparative(told=tuple(cells), **{**fields, **changes}), width, styled=False)


def rows(cells: Sequence[Told]) -> list[list[str]]:
    """Of all tables: the cells of each line."""
    return [
        [cell.strip() for cell in line]
        for table in tables(cells)
        for line in zip(*(column.cells for column in table.columns), strict=True)
    ]


def flat(texts: Sequence[str] | str) -> str:
    return " ".join((texts if isinstance(texts, str) else " ".join(texts)).split())


def test_a_table_reads_as_it_should() -> None:
    cells = [
        told(8, FASTER, 0.61, floor=0.004),
        told(16, FASTER, 0.63, floor=0.011),
        told(32, EQUIVALENT, 0.99, floor=0.002),
        told(64, INCONCLUSIVE, 1.05, floor=0.05, below_floor=True),
        told(1024, SLOWER, 1.25, floor=0.002, timing=Timing.EAGER),
    ]
    assert (
        shown(cells)
        == """\
b against a
Ratios below 1 are faster; a difference of 2.0 % matters. The 4 decided verdicts
hold together with 95 % confidence, as far as rounds tell.

stream-free against dedicated-stream: all_reduce bfloat16 sum in-place

                                                               noise
timing     size  verdict                ratio        interval  floor
------  -------  ------------  --------------  --------------  -----
eager        1K  slower                 1.25x  1.24x to 1.26x  0.2 %
gated   8 to 16  faster        0.61x to 0.63x  0.60x to 0.64x  1.1 %
gated        32  equivalent             0.99x  0.98x to 1.00x  0.2 %
gated        64  inconclusive           1.05x  1.04x to 1.06x  5.0 %

Warnings
- 1 cell inconclusive because the baseline's own twin, the same communicator
  made twice, differs too, most for stream-free gated all_reduce 64: 5.0 %. A
  difference has to matter beyond that; several runs a side would tell
  (nccl-bench compare).
"""
    )


def test_neighbouring_sizes_with_the_same_verdict_share_a_line_and_no_others() -> None:
    # Measured in another order than the sizes'.
    cells = [
        told(64, SLOWER, 1.5),
        told(8, FASTER, 0.5),
        told(32, FASTER, 0.7),
        told(16, SLOWER, 1.2),
        told(128, SLOWER, 1.3),
    ]
    assert [row[1:4] for row in rows(cells)] == [
        ["8", "faster", "0.50x"],
        ["16", "slower", "1.20x"],
        ["32", "faster", "0.70x"],
        ["64 to 128", "slower", "1.30x to 1.50x"],
    ]


def test_a_line_shows_the_worst_of_its_sizes_and_no_average() -> None:
    wide, narrow = Interval(low=0.9, high=1.1, error=0.05), Interval(low=0.99, high=1.0, error=0.05)
    cells = [
        told(8, ratio=0.99, interval=narrow, floor=0.01),
        told(16, ratio=1.01, interval=wide, floor=0.0),
        told(32, ratio=1.0, interval=narrow, floor=0.015),
    ]
    assert rows(cells) == [["gated", "8 to 32", "equivalent", "0.99x to 1.01x", "0.90x to 1.10x", "1.5 %"]]
    # Whichever of the sizes each end is of, and around no size in particular.
    apart = [
        told(8, FASTER, 0.2, interval=Interval(low=0.15, high=0.21, error=0.05)),
        told(16, FASTER, 0.3, interval=Interval(low=0.29, high=0.39, error=0.05)),
        told(32, INCONCLUSIVE, 0.9, interval=None, pairs_needed=9),
    ]
    assert [row[3:] for row in rows(apart)] == [["0.20x to 0.30x", "0.15x to 0.39x"], ["0.90x", ""]]


def test_sizes_of_different_thresholds_share_no_line_and_say_which_it_was() -> None:
    cells = [told(8, threshold=0.05), told(16, threshold=0.05), told(32), told(64)]
    (table,) = tables(cells)
    assert [column.name for column in table.columns] == ["timing", "size", "verdict", "ratio", "interval", "limit"]
    assert [(row[1], row[-1]) for row in rows(cells)] == [("8 to 16", "5.0 %"), ("32 to 64", "2.0 %")]
    assert "5.0 %" not in flat(shown(cells[:2])).partition("matters")[2]
    # Also where the threshold is the same in each of the tables.
    both = [told(8), told(8, threshold=0.05, case=case(8, "broadcast"))]
    assert [row[-1] for row in rows(both)] == ["2.0 %", "5.0 %"]


def test_the_longest_table_fits_in_80_columns() -> None:
    cells = [
        told(2**19, FASTER, 0.61, floor=0.04, timing=Timing.ENQUEUE, threshold=0.05),
        told(2**20, FASTER, 0.63, floor=0.5, timing=Timing.ENQUEUE, threshold=0.05),
        told(2**30, INCONCLUSIVE, 0.99, floor=0.002),
    ]
    text = shown(cells)
    assert "Not shown" not in text
    assert re.search(r" +5\.0 % +50 %\n", text)


def test_times_have_columns_where_a_line_is_a_size() -> None:
    cells = [
        told(8, FASTER, 0.5, floor=0.01, before_us=12.6, after_us=6.3),
        told(16, SLOWER, 1.5, floor=0.01, before_us=1234.0, after_us=1851.0),
    ]
    assert [row[-2:] for row in rows(cells)] == [["12.6", "6.30"], ["1234", "1851"]]
    assert "Not shown" not in shown(cells)
    assert "Not shown in 65 columns: after." in flat(shown(cells, 65))
    within = [told(8, FASTER, 0.5, floor=0.01, before_us=12.6, after_us=6.3, sides=("baseline", "candidate"))]
    assert "baseline  candidate\n" in shown(within)
    # There are figures of their own elsewhere.
    assert list(figures(cells)) == []
    (table,) = tables([told(8), told(16)])
    assert "before" not in [column.name for column in table.columns]


def test_times_of_sizes_that_share_a_line_have_a_table_of_their_own() -> None:
    cells = [
        told(16, FASTER, 0.4, before_us=10.0, after_us=4.0),
        told(8, FASTER, 0.5, before_us=12.6, after_us=6.3),
        told(8, case=case(8, "broadcast"), before_us=1.0, after_us=1.0),
    ]
    first, second = tables(cells)
    assert "before" not in [column.name for column in first.columns]
    assert [column.name for column in second.columns][-2:] == ["before", "after"]
    (table,) = figures(cells)
    assert table.title == f"{first.title}, medians"
    assert [[cell.strip() for cell in line] for line in zip(*(one.cells for one in table.columns), strict=True)] == [
        ["gated", "8", "12.6", "6.30", "0.50x"],
        ["gated", "16", "10.0", "4.00", "0.40x"],
    ]
    # A run has its times in other tables.
    assert list(figures([told(8), told(16)])) == []


def test_each_pair_of_arms_and_kind_of_case_has_a_table() -> None:
    cells = [
        told(8),
        told(8, who="torch against dedicated-stream"),
        told(8, case=case(8, "broadcast")),
        told(16),
    ]
    assert [(table.title, len(table.columns[0].cells)) for table in tables(cells)] == [
        ("stream-free against dedicated-stream: all_reduce bfloat16 sum in-place", 1),
        ("torch against dedicated-stream: all_reduce bfloat16 sum in-place", 1),
        ("stream-free against dedicated-stream: broadcast bfloat16 in-place root 0", 1),
    ]


def test_without_a_ground_every_size_has_its_times_and_its_ratio() -> None:
    cells = [
        told(8, None, 1.3, interval=None, before_us=10.0, after_us=13.0),
        told(16, None, 0.4, interval=None, before_us=1234.0, after_us=493.6),
    ]
    (table,) = tables(cells)
    assert [column.name for column in table.columns] == ["timing", "size", "before", "after", "ratio"]
    assert rows(cells) == [["gated", "8", "10.0", "13.0", "1.30x"], ["gated", "16", "1234", "494", "0.40x"]]
    assert heading(cells) == "Ratios below 1 are faster."
    assert list(hints(cells)) == []


def test_the_heading_says_what_matters_and_how_sure_it_is() -> None:
    assert heading([told(), told(16, SLOWER), told(32, INCONCLUSIVE)]) == (
        "Ratios below 1 are faster; a difference of 2.0 % matters. The 2 decided verdicts hold together with 95 % "
        "confidence, as far as rounds tell."
    )
    assert heading([told(), told(16, INCONCLUSIVE)]).endswith(
        " The one decided verdict holds with 95 % confidence, as far as rounds tell."
    )
    assert heading([told()], "runs").endswith("confidence, as far as runs tell.")
    # Of what is open there is nothing to be sure of.
    assert heading([told(8, INCONCLUSIVE)]) == "Ratios below 1 are faster; a difference of 2.0 % matters."
    assert "a difference of 2.0 % to 10 % matters, by the limit of its line." in heading(
        [told(), told(threshold=0.1), told(threshold=0.05)]
    )


@pytest.mark.parametrize("width", [80, 100])
@given(
    st.lists(
        st.builds(
            told,
            size=st.sampled_from([8, 1024, 1048560, 134217696, 2**30, 2**34]),
            verdict=st.sampled_from([None, *Verdict]),
            ratio=st.sampled_from([0.001, 0.98, 1.0, 12.34, 140.2, 5000.0]),
            who=st.sampled_from(
                [
                    "stream-free against dedicated-stream",
                    "dedicated-stream-wait-stream (after) against dedicated-stream-wait-stream (before)",
                ]
            ),
            timing=st.sampled_from(Timing),
            interval=st.sampled_from(
                [Interval(low=0.5, high=0.6, error=0.05), Interval(low=1e-6, high=1e6, error=0.05)]
            ),
            floor=st.sampled_from([None, 0.0, 0.004, 3.0, 99.0]),
            below_floor=st.booleans(),
            threshold=st.sampled_from([0.02, 0.05]),
            before_us=st.sampled_from([None, 12.6, 123456.0]),
            after_us=st.sampled_from([None, 0.63]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_every_line_fits_and_every_verdict_is_there(width: int, cells: list[Told]) -> None:
    text = shown(cells, width, warnings=("w" * 200,), unmatched=("a alone has " + "8, " * 100,), title="/a/path" * 30)
    assert max(map(cell_len, text.splitlines())) <= width
    assert text.isascii()
    assert all(line == line.rstrip() for line in text.splitlines())
    for verdict in Verdict:
        if any(one.verdict is verdict for one in cells):
            assert re.search(rf"^\w+ .* {verdict}\b", text, re.MULTILINE)


def test_too_few_rounds_are_told_with_the_number_that_an_interval_takes() -> None:
    few = [
        told(8, INCONCLUSIVE, interval=None, pairs_needed=11),
        told(16, INCONCLUSIVE, interval=None, pairs_needed=12),
    ]
    (hint,) = hints([*few, told(32)])
    assert hint.startswith("2 cells inconclusive for want of rounds")
    assert "an interval there takes 12, and then reaches from the smallest ratio to the largest" in hint
    assert "More rounds than that (--rounds)" in hint


def test_what_the_twin_hides_is_told_with_the_worst_of_it() -> None:
    cells = [
        told(8, INCONCLUSIVE, 1.04, floor=0.03, below_floor=True),
        told(1024, INCONCLUSIVE, 0.9, floor=0.2, below_floor=True),
        told(16, INCONCLUSIVE, floor=0.9, interval=Interval(low=0.9, high=1.0, error=0.05)),
    ]
    below, wide = hints(cells)
    assert below.startswith("2 cells inconclusive because the baseline's own twin")
    assert "most for stream-free gated all_reduce 1K: 20 %" in below
    assert wide.startswith("1 cell inconclusive because the interval")


def test_what_no_twin_was_measured_for_is_told_apart() -> None:
    cells = [
        told(8, INCONCLUSIVE, 1.3, below_floor=True),
        told(16, INCONCLUSIVE, 1.0, below_floor=True),
        told(32, INCONCLUSIVE, 1.3, floor=0.5, below_floor=True),
    ]
    twinless, below = hints(cells)
    assert twinless.startswith(
        "2 cells inconclusive because no twin was measured, so how much the luck of a communicator makes is not known: "
        "several runs a side would tell"
    )
    assert below.startswith("1 cell inconclusive because the baseline's own twin")


def test_an_equivalence_that_the_twin_hides_is_told_apart_from_a_difference() -> None:
    cells = [
        told(8, INCONCLUSIVE, 1.001, floor=0.03, below_floor=True),
        told(64, INCONCLUSIVE, 1.0, floor=0.04, below_floor=True),
    ]
    (hint,) = hints(cells)
    assert hint.startswith("2 cells inconclusive although the interval is within the threshold")
    assert "below the threshold too. It is highest for stream-free gated all_reduce 64: 4.0 %." in hint
    assert "differs too" not in hint
    different, same = hints([*cells, told(16, INCONCLUSIVE, 1.1, floor=0.2, below_floor=True)])
    assert different.startswith("1 cell inconclusive because the baseline's own twin")
    assert same == hint


def test_what_is_too_wide_is_told_with_what_narrows_it() -> None:
    cells = [
        told(8, INCONCLUSIVE, interval=Interval(low=0.97, high=1.0, error=0.05)),
        told(1024, INCONCLUSIVE, interval=Interval(low=0.8, high=1.4, error=0.05), timing=Timing.EAGER),
    ]
    (hint,) = hints(cells)
    assert hint.startswith("2 cells inconclusive because the interval reaches over the threshold")
    assert "widest for stream-free eager all_reduce 1K: 0.800x to 1.400x, where 2.0 % matters." in hint
    assert "More rounds (--max-rounds" in hint
    assert "More runs narrow it" in flat(shown(cells))
    # What two digits would show as nothing but itself.
    near = told(8, INCONCLUSIVE, interval=Interval(low=1.0164, high=1.0222, error=0.05))
    assert "1.016x to 1.022x" in flat(list(hints([near])))


def test_the_flags_that_hints_recommend_exist() -> None:
    import typer
    from typer.testing import CliRunner

    from nccl_bench.cli.run import run

    few = told(8, INCONCLUSIVE, interval=None, pairs_needed=11)
    wide = told(8, INCONCLUSIVE, interval=Interval(low=0.9, high=1.1, error=0.05))
    nothing = between([source("new")], [source("new")], lambda _case, _timing: 0.02)
    for command, texts in ((run, list(hints([few, wide]))), (compare, [nothing.why])):
        app = typer.Typer()
        app.command()(command)
        described = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, ["--help"]).output
        flags = {flag for text in texts for flag in re.findall(r"--[a-z-]+", text)}
        assert flags
        assert flags <= set(re.findall(r"--[a-z-]+", described))


def test_what_is_decided_needs_no_hint() -> None:
    assert list(hints([told(8, FASTER), told(16, SLOWER), told(32, EQUIVALENT)])) == []


def source(*arms: str, sizes: Sequence[int] = (8,), rounds: int = 9) -> Source:
    cells = {
        (case(size), Timing.GATED, arm): dict.fromkeys(range(rounds), 1.0 + index)
        for index, arm in enumerate(arms)
        for size in sizes
    }
    return Source(name="run", arms=arms, cells=cells)


def test_sides_are_named_and_their_few_rounds_told() -> None:
    three = [source("torch", "new", rounds=3)]
    (one,) = of_sides(between(three, three, lambda _case, _timing: 0.03))
    assert (one.who, one.threshold, one.verdict) == ("new, after against before", 0.03, INCONCLUSIVE)
    assert one.interval is None
    assert "an interval there takes 7" in flat(list(hints([one])))
    assert (one.before_us, one.after_us) == (2.0, 2.0)
    (other,) = of_sides(between([source("old")], [source("new")], lambda _case, _timing: 0.02))
    assert (other.who, other.verdict) == ("new (after) against old (before)", None)


def test_every_cell_without_a_counterpart_is_named() -> None:
    before = source("torch", "new", "old", sizes=(8, 16, 1024))
    after = source("torch", "new", sizes=(16, 4096, 2048))
    found = between([before], [after], lambda _case, _timing: 0.02)
    assert list(unmatched(found)) == [
        "before alone has new gated all_reduce bfloat16 sum in-place 8, 1K",
        "before alone has old gated all_reduce bfloat16 sum in-place 8, 16, 1K",
        "after alone has new gated all_reduce bfloat16 sum in-place 2K, 4K",
    ]


def test_a_cell_that_both_sides_have_but_not_in_each_run_is_not_said_to_be_of_one() -> None:
    found = between(
        [source("new", sizes=(8, 16)), source("new")], [source("new", sizes=(8, 16))], lambda _case, _timing: 0.02
    )
    assert list(unmatched(found)) == ["not in every run: new gated all_reduce bfloat16 sum in-place 16"]
    assert list(listed("what", [])) == []


def test_the_json_has_every_cell_and_no_absent_value() -> None:
    cells = (told(8, SLOWER, 1.5, floor=0.01, before_us=2.0, after_us=3.0), told(16, None, 1.25, interval=None))
    made = Comparative(
        title="b against a",
        ground="one run a side",
        reason="why",
        shared="torch",
        told=cells,
        more="",
        notes=("n",),
        failures=("f",),
        warnings=("w",),
        unmatched=("u",),
        not_measured=("m",),
    )
    text = comparative_json(made)
    found = json.loads(text)
    assert text.endswith("}\n")
    first, second = found.pop("cells")
    assert found == {
        "title": "b against a",
        "ground": "one run a side",
        "reason": "why",
        "shared": "torch",
        "notes": ["n"],
        "failures": ["f"],
        "warnings": ["w"],
        "hints": [],
        "not_compared": ["u"],
        "not_measured": ["m"],
    }
    assert (first["before_us"], first["after_us"]) == (2.0, 3.0)
    assert (first["ratio"], first["verdict"], first["threshold"], first["noise_floor"]) == (1.5, "slower", 0.02, 0.01)
    assert first["ratio_low"] < 1.5 < first["ratio_high"]
    assert (first["collective"], first["size_bytes"], first["timing"]) == ("all_reduce", 8, "gated")
    assert second["ratio"] == 1.25
    assert {"verdict", "ratio_low", "ratio_high", "noise_floor", "root", "before_us"}.isdisjoint(second)
    assert {"below_floor", "pairs_needed"}.isdisjoint(second)


def test_the_json_says_why_a_cell_is_open() -> None:
    cells = (
        told(8, INCONCLUSIVE, 1.1, floor=0.2, below_floor=True),
        told(16, INCONCLUSIVE, interval=None, pairs_needed=11),
        told(32, INCONCLUSIVE, interval=Interval(low=0.9, high=1.1, error=0.05)),
    )
    made = Comparative(title="b against a", ground="rounds", reason="rounds", more="More runs", told=cells)
    found = json.loads(comparative_json(made))
    assert [(cell["below_floor"], cell.get("pairs_needed")) for cell in found["cells"]] == [
        (True, None),
        (False, 11),
        (False, None),
    ]
    assert found["hints"] == list(hints(cells, "More runs"))
    assert len(found["hints"]) == 3
    within = told(8, before_us=2.0, after_us=3.0, sides=("baseline", "candidate"))
    (cell,) = json.loads(comparative_json(replace(made, told=(within,))))["cells"]
    assert (cell["baseline_us"], cell["candidate_us"]) == (2.0, 3.0)


def test_what_is_known_of_a_comparison_stands_around_its_tables() -> None:
    lists: dict[str, Any] = {name: (name,) for name in ("notes", "failures", "warnings", "unmatched", "not_measured")}
    text = shown([told()], **lists)
    order = ("b against a", "notes", "confidence", "Failures", "Warnings", "Not compared", "Not measured")
    assert sorted(order, key=text.index) == list(order)
    assert [line for line in text.splitlines() if line.startswith("- ")] == [
        "- failures",
        "- warnings",
        "- unmatched",
        "- not_measured",
    ]


def test_columns_without_room_are_found_where_a_comparison_has_them() -> None:
    text = flat(shown([told(floor=0.01)], 50))
    assert "Not shown in 50 columns: noise floor. Use a wider terminal or --width, or give --format json." in text
