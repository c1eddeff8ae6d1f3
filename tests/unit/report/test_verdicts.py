"""Tables of verdicts: which sizes changed, by how much, how sure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from nccl_bench.analysis.bands import bands_of
from nccl_bench.analysis.comparison import Basis, Comparison, OpenReason
from nccl_bench.analysis.pair_lines import decided_lines, known_sizes
from nccl_bench.analysis.shared_arm import SharedTimes
from nccl_bench.analysis.statistics import Interval, Verdict
from nccl_bench.analysis.verdict_words import VERDICT_WORDS
from nccl_bench.analysis.wording import compared_text
from nccl_bench.catalog.timings import Timing
from nccl_bench.report.band_table import band_table
from nccl_bench.report.terminal import TerminalReport
from nccl_bench.report.verdicts import heading, time_tables, verdict_tables
from tests.support.synthetic_comparisons import compared_runs, comparison
from tests.support.synthetic_runs import case, run

FASTER, SLOWER, EQUIVALENT, INCONCLUSIVE = Verdict


def shown(comparisons: Sequence[Comparison], width: int = 80, **changes: Any) -> str:
    return TerminalReport(width=width, styled=False).render(compared_runs(comparisons, **changes))


def rows(comparisons: Sequence[Comparison], **changes: Any) -> list[list[str]]:
    """Return the cells of each line of all tables."""
    return [
        [cell.strip() for cell in line]
        for table in verdict_tables(compared_runs(comparisons, **changes))
        for line in zip(*(column.cells for column in table.columns), strict=True)
    ]


def flat(texts: Sequence[str] | str) -> str:
    return " ".join((texts if isinstance(texts, str) else " ".join(texts)).split())


def test_launches_are_counted_and_their_largest_variance_has_a_column() -> None:
    cells = [
        comparison(8, FASTER, 0.61, launches=5, communicator_variance=0.004),
        comparison(16, FASTER, 0.63, launches=4, communicator_variance=0.011),
        comparison(32, INCONCLUSIVE, 1.01, launches=1),
    ]
    text = shown(cells, basis=Basis.LAUNCHES)
    assert "95 % that no verdict is wrong; 2 of 3 comparisons decided" in flat(text)
    assert [row[-1] for row in rows(cells, basis=Basis.LAUNCHES)] == ["1.1 %", ""]
    assert "launch to" in text
    assert "launch to" not in shown(cells, basis=Basis.RUNS)


def test_a_table_reads_as_it_should() -> None:
    cells = [
        comparison(8, FASTER, 0.61, noise_floor=0.004),
        comparison(16, FASTER, 0.63, noise_floor=0.011),
        comparison(32, EQUIVALENT, 0.99, noise_floor=0.002),
        comparison(64, INCONCLUSIVE, 1.05, noise_floor=0.05, reason=OpenReason.WITHIN_NOISE),
        comparison(1024, SLOWER, 1.25, noise_floor=0.002, timing=Timing.EAGER),
    ]
    assert (
        shown(cells)
        == """\
b against a: stream-free (after) against dedicated-stream (before), all_reduce
bfloat16 sum in-place
  FASTER  gated   8 to 16 B  37 to 39 %, saves 3.7 to 3.9 us
  SLOWER  eager   1 KiB      25 %, costs 2.5 us
  SAME    gated 32 B
  OPEN    1 of 5 comparisons is within noise (times vary by more than the
          difference): gated 64 B
  Sure     95 % that no verdict about these two runs is wrong, but new runs can
           differ; 4 of 5 comparisons decided
  Basis    a reason
  Next     Measure each side with new communicators: --launches 5
  Words    eager as its caller sees it, gated on the device alone; see
           nccl-bench guide verdicts

Times in us; % against before: + slower, = same, ? open.
The column saved is the time that a call saves, - if it takes longer.

       eager                              gated
size  before after                       before after
 (B)      us    us saved   %  fast|slow      us    us saved    %  fast|slow
---- ------- ----- ----- ---- --------- ------- ----- ----- ----- ---------
   8                                       10.0  6.10   3.9  -39  ----|
  16                                       10.0  6.30   3.7  -37  ----|
  32                                       10.0  9.90  0.10 -1.0=     |
  64                                       10.0  10.5 -0.50 +5.0?     |+
  1K    10.0  12.5  -2.5 +25      |+++

Ratios below 1 are faster; a difference of 2.0 % matters, after the noise floor
is taken off.

                                           interval  noise
timing     size  verdict      ratio      over sizes  floor
------  -------  -----------  -----  --------------  -----
eager        1K  slower       1.250  1.238 to 1.262  0.2 %
gated   8 to 16  faster       0.620  0.604 to 0.636  1.1 %
gated        32  same         0.990  0.980 to 1.000  0.2 %
gated        64  open: noise  1.050  1.040 to 1.060  5.0 %
"""
    )


def test_a_size_beyond_the_threshold_in_a_band_that_is_the_same_has_a_mark_of_its_own() -> None:
    text = shown([comparison(8, EQUIVALENT, 0.99999), comparison(16, EQUIVALENT, 1.05), comparison(32, SLOWER, 1.3)])
    assert re.search(r"^ +8 +10.0 +10.0 +0.00 +0.0= ", text, re.MULTILINE)
    assert re.search(r"^ +16 +10.0 +10.5 +-0.50 +\+5.0~ ", text, re.MULTILINE)
    assert re.search(r"^ +32 +10.0 +13.0 +-3.0 +\+30 ", text, re.MULTILINE)
    assert "~ is the same together with its neighbours" in text
    assert "~" not in shown([comparison(8, EQUIVALENT, 1.01)])


def test_a_mark_that_only_a_later_table_has_is_explained() -> None:
    sizes = [8 << power for power in range(20)]
    cells = [
        comparison(size, EQUIVALENT, 1.05 if (timing, size) == (Timing.GATED, 16) else 1.0, timing=timing)
        for timing in (Timing.EAGER, Timing.GATED, Timing.GRAPH)
        for size in sizes
    ]
    text = shown(cells, width=60)
    assert text.count("~ is the same together with its neighbours") == 1
    # The table of eager, which stands first, leaves out this size.
    assert len(re.findall(r"^ +16 ", text, re.MULTILINE)) == 1
    assert re.search(r"^ +16 .*\+5.0~", text, re.MULTILINE)


def test_the_change_of_the_shared_arm_stands_beside_the_change_that_is_relative_to_it() -> None:
    moved = SharedTimes(arm="torch", before_us=10.0, after_us=13.3, sure_ratio=1.3)
    cells = [comparison(8, FASTER, 0.9, candidate_us=12.0, shared=moved)]
    text = shown(cells, shared_arm="torch")
    assert re.search(r"us base +%  +fast", text, re.MULTILINE)
    assert re.search(r"^ +8 +10.0 +12.0 +\+33 +-10 ", text, re.MULTILINE)
    assert "% is the change of the times divided by those of torch, not of the times alone" in flat(text)
    # Its own time rose, so nothing says that it saves time.
    bands = bands_of(cells)
    (line,) = decided_lines({"only": bands}, FASTER, known_sizes(bands), brief=False, names_most=True)
    assert line.text == "8 B, 10 %, own time +2.0 us (10.0 -> 12.0 us)"
    table = band_table(compared_runs(cells, shared_arm="torch"))
    assert table is not None
    assert [column.cells for column in table.columns if column.name == "a call"] == [("own time 10.0 -> 12.0 us",)]


def test_only_neighbouring_sizes_with_the_same_verdict_share_a_line() -> None:
    # The order measured is not the order of sizes.
    cells = [
        comparison(64, SLOWER, 1.5),
        comparison(8, FASTER, 0.5),
        comparison(32, FASTER, 0.7),
        comparison(16, SLOWER, 1.2),
        comparison(128, SLOWER, 1.3),
    ]
    assert [row[1:4] for row in rows(cells, run=run([]))] == [
        ["8", "faster", "0.500"],
        ["16", "slower", "1.200"],
        ["32", "faster", "0.700"],
        ["64 to 128", "slower", "1.396"],
    ]


def test_sizes_with_different_thresholds_share_no_line_and_show_the_threshold() -> None:
    cells = [comparison(8, threshold=0.05), comparison(16, threshold=0.05), comparison(32), comparison(64)]
    (table,) = verdict_tables(compared_runs(cells))
    assert [column.name for column in table.columns] == ["timing", "size", "verdict", "ratio", "interval", "limit"]
    assert [(row[1], row[-1]) for row in rows(cells)] == [("8 to 16", "5.0 %"), ("32 to 64", "2.0 %")]
    assert "5.0 %" not in flat(shown(cells[:2])).partition("matters")[2]
    # Thresholds that differ only between tables are shown too.
    both = [comparison(8), comparison(8, threshold=0.05, case=case(8, "broadcast"))]
    assert [row[-1] for row in rows(both)] == ["2.0 %", "5.0 %"]


def test_the_longest_table_fits_in_80_columns() -> None:
    cells = [
        comparison(2**19, FASTER, 0.61, noise_floor=0.04, timing=Timing.ENQUEUE, threshold=0.05),
        comparison(2**20, FASTER, 0.63, noise_floor=0.5, timing=Timing.ENQUEUE, threshold=0.05),
        comparison(2**30, INCONCLUSIVE, 0.99, noise_floor=0.002),
    ]
    text = shown(cells)
    assert "Not shown" not in text
    assert re.search(r" +5\.0 % +50 %\n", text)


def test_a_comparison_of_runs_has_the_times_of_every_size() -> None:
    cells = [
        comparison(16, FASTER, 0.4, baseline_us=10.0, candidate_us=4.0),
        comparison(8, FASTER, 0.5, baseline_us=12.6, candidate_us=6.3),
    ]
    (table,) = time_tables(compared_runs(cells))
    assert table.title.endswith("all_reduce bfloat16 sum in-place, medians")
    assert [[cell.strip() for cell in line] for line in zip(*(each.cells for each in table.columns), strict=True)] == [
        ["gated", "8", "12.6", "6.30", "0.50x"],
        ["gated", "16", "10.0", "4.00", "0.40x"],
    ]
    assert list(time_tables(compared_runs(cells, run=run([])))) == []


def test_each_kind_of_case_has_a_table_in_which_pairs_of_arms_share_the_lines() -> None:
    cells = [
        comparison(8),
        comparison(8, candidate="torch"),
        comparison(8, case=case(8, "broadcast")),
        comparison(16),
    ]
    first, second = verdict_tables(compared_runs(cells, basis=Basis.ROUNDS))
    assert first.title == "Against dedicated-stream: all_reduce bfloat16 sum in-place"
    assert [cell.strip() for cell in first.columns[0].cells] == ["stream-free", "torch"]
    assert second.title == "stream-free against dedicated-stream: broadcast bfloat16 in-place root 0"


def test_a_title_names_the_side_of_each_arm() -> None:
    across, same = comparison(), comparison(baseline="torch", candidate="torch")
    assert compared_text(across, ("before", "after")) == "stream-free (after) against dedicated-stream (before)"
    assert compared_text(same, ("before", "after")) == "torch, after against before"
    alike = comparison(baseline="after", candidate="after")
    assert compared_text(alike, ("before", "after")) == "the arm after, after against before"


def test_the_headline_counts_the_verdicts_that_it_is_about() -> None:
    def sure(*asked_arms: str) -> str:
        cells = [comparison(8, SLOWER, 1.2), comparison(8, FASTER, 0.8, candidate="torch")]
        facts = compared_runs(cells, asked_arms=asked_arms or None).headline.facts
        return next(fact.text for fact in facts if fact.name == "Sure")

    assert sure("torch").startswith("95 % that no verdict about these two runs is wrong")
    assert sure("torch").endswith("; the only comparison decided")
    assert sure().endswith("; all 2 comparisons decided")


def test_without_verdicts_there_is_only_the_table_of_times() -> None:
    cells = [comparison(8, None, 1.3, interval=None, baseline_us=10.0, candidate_us=13.0)]
    assert list(verdict_tables(compared_runs(cells))) == []
    assert re.search(r"8 +10\.0 +13\.0 +-3\.0 +\+30", shown(cells))
    assert heading(compared_runs(cells)) == "Ratios below 1 are faster."


def test_the_heading_says_what_matters() -> None:
    def text(*cells: Comparison) -> str:
        return heading(compared_runs(cells))

    assert text(comparison(), comparison(16, SLOWER)) == ("Ratios below 1 are faster; a difference of 2.0 % matters.")
    assert text(comparison(noise_floor=0.01)).endswith("matters, after the noise floor is taken off.")
    assert "a difference of 2.0 % to 10 % matters (see the column limit)." in text(
        comparison(), comparison(threshold=0.1), comparison(threshold=0.05)
    )


@pytest.mark.parametrize("width", [80, 100])
@given(
    st.lists(
        st.builds(
            comparison,
            size=st.sampled_from([8, 1024, 1048560, 134217696, 2**30, 2**34]),
            verdict=st.sampled_from([None, *Verdict]),
            ratio=st.sampled_from([0.001, 0.98, 1.0, 12.34, 140.2, 5000.0]),
            candidate=st.sampled_from(["stream-free", "dedicated-stream-wait-stream"]),
            timing=st.sampled_from(Timing),
            interval=st.sampled_from(
                [Interval(low=0.5, high=0.6, error=0.05), Interval(low=1e-6, high=1e6, error=0.05)]
            ),
            noise_floor=st.sampled_from([None, 0.0, 0.004, 3.0, 99.0]),
            reason=st.sampled_from([None, *OpenReason]),
            threshold=st.sampled_from([0.02, 0.05]),
            baseline_us=st.sampled_from([12.6, 123456.0]),
            candidate_us=st.sampled_from([0.63]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_every_line_fits_and_every_verdict_is_there(width: int, cells: list[Comparison]) -> None:
    text = shown(cells, width, warnings=("w" * 200,), not_compared=("a has " + "8, " * 99,), title="/a/path" * 30)
    assert max(map(cell_len, text.splitlines())) <= width
    assert text.isascii()
    assert all(line == line.rstrip() for line in text.splitlines())
    for verdict in Verdict:
        if any(each.verdict is verdict for each in cells):
            assert re.search(rf"^.*\w+ .* {VERDICT_WORDS[verdict]}\b", text, re.MULTILINE)


def test_remarks_stand_around_the_tables() -> None:
    lists: dict[str, Any] = {
        name: (name,) for name in ("failures", "warnings", "not_compared", "not_measured", "notes")
    }
    text = shown([comparison()], **lists)
    order = ("b against a", "failures", "Basis", "Warnings", "Not compared", "Not measured", "Notes")
    assert sorted(order, key=text.index) == list(order)
    assert [line for line in text.splitlines() if line.startswith("- ")] == [
        "- warnings",
        "- not_compared",
        "- not_measured",
        "- notes",
    ]


def test_a_column_without_room_is_named_with_where_to_find_it() -> None:
    text = flat(shown([comparison(noise_floor=0.01)], 45))
    assert "Use a wider terminal or --width, or give --format json." in text
    assert "Not shown in a width of 45: noise floor." in text
