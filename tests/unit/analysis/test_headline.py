"""The headline: the verdicts about the question of a run, in a few lines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.bands import OpenReason
from nccl_bench.analysis.comparison import Basis
from nccl_bench.analysis.headline import Headline, Label
from nccl_bench.analysis.open_lines import open_answers
from nccl_bench.analysis.statistics import Interval, Verdict
from nccl_bench.analysis.wording import sizes_in_short
from nccl_bench.catalog.timings import Timing
from nccl_bench.report.markdown import markdown_report
from nccl_bench.report.terminal import TerminalReport
from nccl_bench.report.verdicts import verdict_tables
from tests.support.before_and_after import RUN, USER_ARMS, before_and_after, measured
from tests.support.synthetic_comparisons import compared_runs, comparison
from tests.support.synthetic_runs import run


def lines_of(*cells: Any, **changes: Any) -> list[str]:
    """Return the lines of a comparison of two sides as text."""
    return texts(compared_runs(cells, **changes).headline)


def texts(headline: Headline) -> list[str]:
    return [" ".join(filter(None, (line.label, line.timing, line.text))) for line in headline.lines]


def test_after_against_before_is_the_headline_and_the_first_table() -> None:
    analysis = Analysis.of(run(before_and_after(), **RUN))
    headline = analysis.headline
    assert headline.title == "after against before, all_reduce bfloat16 sum in-place, 4 ranks on cuda"
    assert texts(headline) == [
        "FASTER gated 8 B, 20 %, saves 2.0 us",
        "NOT SLOWER in 2 of 2 comparisons (limit 2.0 %)",
        "SAME gated 16 B",
    ]
    (table,) = verdict_tables(analysis, only_answers=True)
    assert table.title.partition(":")[0] == "after against before"
    (table,) = verdict_tables(analysis)
    assert [cell.strip() for cell in table.columns[0].cells] == ["after", "", "stream-free"]
    assert "The baseline is before, because the run has the arms before and after." in " ".join(analysis.notes)


def test_an_old_run_with_before_and_after_answers_the_question_about_the_two() -> None:
    def analysed(*options: str, schema: int = 2) -> Analysis:
        times = {"dedicated-stream": 7.0, "dedicated-stream:twin": 7.0, "before": 10.0, "after": 8.0}
        arms = ["dedicated-stream", "before", "after"]
        lines = [measured(arm, time_us) for arm, time_us in times.items()]
        old = run(lines, baseline="dedicated-stream", arms=arms, user_arms=USER_ARMS)
        return Analysis.of(
            replace(old, meta={**old.meta, "schema": schema, "command": ["nccl-bench", "run", *options]})
        )

    analysis = analysed()
    assert analysis.headline.title.startswith("after against before, all_reduce")
    assert texts(analysis.headline)[0] == "FASTER gated 8 B, 20 %, saves 2.0 us"
    assert {(row.arm, row.baseline, row.ratio) for row in analysis.rows} >= {("after", "before", 0.8)}
    assert "The noise floor is that of dedicated-stream, which alone has a twin." in " ".join(analysis.notes)
    # A baseline that somebody chose stays.
    for chosen in (analysed("--baseline=dedicated-stream"), analysed(schema=5)):
        assert chosen.headline.title.startswith("before and after against dedicated-stream, all_reduce")


def test_the_title_says_what_tells_before_and_after_apart() -> None:
    def title(*trees: str, orders: tuple[str, ...] = ()) -> str:
        user_arms = [{**arm, "tree": tree} for arm, tree in zip(USER_ARMS, trees, strict=True)]
        made_up = run(before_and_after(), **{**RUN, "user_arms": user_arms})
        recorded = [{"arm": arm, "order": order} for arm, order in zip(("before", "after"), orders, strict=False)]
        return Analysis.of(replace(made_up, meta={**made_up.meta, "worker": {"user_arms": recorded}})).headline.title

    assert title("old/engine-1", "engine-2", orders=("fork-join", "current")).startswith(
        "after (engine-2, order current) against before (engine-1, order fork-join), all_reduce"
    )
    # Folders with the same name do not distinguish the trees. What is alike on both sides is left out.
    assert title("a/engine", "b/engine", orders=("current", "current")).startswith(
        "after (b/engine) against before (a/engine), all_reduce"
    )
    assert title("engine", "engine").startswith("after against before, all_reduce")


def test_the_headline_stands_above_the_verdicts() -> None:
    analysis = Analysis.of(run(before_and_after(), **RUN))
    terminal = TerminalReport(width=80, styled=False).render(analysis)
    markdown = markdown_report(analysis)
    for text in (terminal, markdown):
        order = ("after against before", "right in all 8 cells", "nccl-bench run", "Ratios below 1")
        positions = [text.index(part) for part in order]
        assert positions == sorted(positions)


def test_same_and_open_join_their_timings_and_open_is_divided_by_its_reason() -> None:
    eager = {"timing": Timing.EAGER}
    below, noise = (
        {"verdict": Verdict.INCONCLUSIVE, "reason": reason}
        for reason in (OpenReason.BELOW_THRESHOLD, OpenReason.WITHIN_NOISE)
    )
    few = {"verdict": Verdict.INCONCLUSIVE, "reason": OpenReason.TOO_FEW_ROUNDS, "interval": None}
    cells = [
        *(comparison(size, **eager) for size in (8, 16)),
        comparison(32, ratio=0.97, interval=Interval(low=0.96, high=0.985, error=0.05), **eager, **below),
        comparison(8, Verdict.SLOWER, 1.2),
        *(comparison(size) for size in (16, 32)),
        *(comparison(size, **noise) for size in (64, 2**20)),
        comparison(8, timing=Timing.GRAPH, ratio=1.5, **few),
    ]
    assert lines_of(*cells) == [
        "SLOWER gated 8 B, 20 %, costs 2.0 us",
        "NOT FASTER in 7 of 9 comparisons (limit 2.0 %); 2 can still be faster",
        "SAME eager 8 to 16 B; gated 16 to 32 B",
        "OPEN 4 of 9 comparisons: 2 are within noise (times vary by more than the difference); "
        "1 differs, but not surely by 2.0 %; 1 has too few rounds",
        "OPEN eager 32 B, 3.0 % faster, but only 1.5 % is sure",
        "OPEN gated 64 B to 1 MiB: within noise",
        "OPEN graph 8 B, 50 % slower: too few rounds",
    ]


def test_what_enqueue_saves_is_time_of_the_cpu() -> None:
    cells = [comparison(size, Verdict.FASTER, 0.8, timing=Timing.ENQUEUE) for size in (8, 16)]
    assert lines_of(*cells)[0] == "FASTER enqueue every size, 20 %, saves 2.0 us of CPU time a call"


def test_a_line_says_if_the_largest_change_saves_the_least_time() -> None:
    def line(*sizes: tuple[float, float]) -> str:
        cells = [
            comparison(8 * 2**power, Verdict.FASTER, ratio, baseline_us=saved_us / (1 - ratio))
            for power, (ratio, saved_us) in enumerate(sizes)
        ]
        return lines_of(*cells)[0]

    assert line((0.73, 2.2), (0.76, 2.3), (0.86, 4.5)) == (
        "FASTER gated every size, 27 % (2.2 us) at 8 B to 14 % (4.5 us) at 32 B"
    )
    assert line((0.86, 2.2), (0.73, 4.5)) == "FASTER gated every size, 14 to 27 %, saves 2.2 to 4.5 us"
    assert line((0.78, 2.2), (0.79, 4.5)) == "FASTER gated every size, 21 to 22 %, saves 2.2 to 4.5 us"
    # Here the ends do not save the least and the most.
    assert line((0.73, 2.2), (0.76, 1.1), (0.86, 4.5)) == "FASTER gated every size, 14 to 27 %, saves 1.1 to 4.5 us"


def test_one_line_says_that_nothing_is_faster_or_slower_if_all_is_decided() -> None:
    assert lines_of(comparison(8), comparison(16)) == [
        "NO CHANGE in 2 of 2 comparisons (limit 2.0 %)",
        "SAME gated every size",
    ]


def test_many_lines_of_one_verdict_become_a_line_for_each_pair() -> None:
    ranges = ((8,), (16,), (32,), (8, 16), (16, 32), (8, 16, 32), (64,))
    sizes = dict(zip("abcdefg", ranges, strict=True))

    def slower(*arms: str) -> list[str]:
        cells = [comparison(size, Verdict.SLOWER, 2.0, candidate=arm) for arm in arms for size in sizes[arm]]
        return [line for line in texts(compared_runs(cells).headline) if line.startswith("SLOWER")]

    assert len(slower(*"abcdef")) == 6
    assert slower(*"abcdefg")[0] == (
        "SLOWER a (after) against dedicated-stream (before): gated 8 B, 100 %, costs 10 us"
    )


def test_a_line_of_several_pairs_names_its_pair() -> None:
    headline = compared_runs([comparison(), comparison(candidate="torch", verdict=Verdict.SLOWER, ratio=2.0)]).headline
    pairs = [f"{arm} (after) against dedicated-stream (before)" for arm in ("stream-free", "torch")]
    assert texts(headline) == [
        f"SLOWER gated 8 B, {pairs[1]}: 100 %, costs 10 us",
        f"NOT SLOWER {pairs[0]}, in 1 of 1 comparison (limit 2.0 %)",
        "NOT FASTER in 2 of 2 comparisons (limit 2.0 %)",
        f"SAME {pairs[0]}: gated 8 B",
    ]
    assert headline.title == "b against a: 2 comparisons, all_reduce bfloat16 sum in-place"


def several_arms(*times: tuple[str, float]) -> Headline:
    """Return the headline of a run of arms at 8 B; the baseline takes 10 us."""
    arms = [("dedicated-stream", 10.0), *times]
    lines = [measured(arm, time_us) for arm, time_us in (*arms, ("dedicated-stream:twin", 10.0))]
    return Analysis.of(run(lines, arms=[arm for arm, _ in arms])).headline


def test_among_several_arms_the_fastest_is_named_with_what_it_saves() -> None:
    assert texts(several_arms(("stream-free", 8.0), ("torch", 9.0))) == [
        "FASTEST gated 8 B, stream-free, 20 % under dedicated-stream, saves 2.0 us",
        "NOT SLOWER in 2 of 2 comparisons (limit 2.0 %)",
    ]
    assert texts(several_arms(("stream-free", 11.0), ("torch", 12.0))) == [
        "FASTEST gated 8 B, dedicated-stream; next is stream-free, 10 % slower",
        "SLOWER gated 8 B, stream-free: 10 %, costs 1.0 us; torch: 20 %, costs 2.0 us",
    ]


def test_arms_that_are_not_told_apart_share_the_first_place() -> None:
    assert texts(several_arms(("stream-free", 8.0), ("torch", 8.05), ("torch-async", 10.0))) == [
        "FASTEST gated 8 B, stream-free and torch, 20 % under dedicated-stream, saves 2.0 us",
        "NOT SLOWER in 3 of 3 comparisons (limit 2.0 %)",
        "SAME torch-async: gated 8 B",
    ]
    # No arm is faster than the baseline, so no line names a fastest arm.
    headline = several_arms(("stream-free", 10.0), ("torch", 10.05))
    assert [line.label for line in headline.lines] == [Label.NOT_SLOWER, Label.SAME, Label.SAME]


def test_an_open_line_never_mixes_faster_and_slower() -> None:
    below = {"verdict": Verdict.INCONCLUSIVE, "reason": OpenReason.BELOW_THRESHOLD}
    cells = [
        comparison(8, ratio=0.97, interval=Interval(low=0.94, high=0.985, error=0.05), **below),
        comparison(16),
        comparison(32, ratio=1.13, interval=Interval(low=1.01, high=1.3, error=0.05), **below),
    ]
    assert lines_of(*cells)[-3:] == [
        "OPEN 2 of 3 comparisons differ, but not surely by 2.0 %",
        "OPEN gated 8 B, 3.0 % faster, but only 1.5 % is sure",
        "OPEN gated 32 B, 13 % slower, but only 1.0 % is sure",
    ]


def test_arms_that_are_open_within_noise_share_a_line_with_the_sizes_of_each() -> None:
    noisy = {"verdict": Verdict.INCONCLUSIVE, "reason": OpenReason.WITHIN_NOISE}
    cells = [
        *(comparison(size, candidate=arm, timing=Timing.GRAPH, **noisy) for arm in ("b", "c") for size in (8, 16)),
        *(comparison(8, candidate=arm, **noisy) for arm in ("b", "c")),
        comparison(16, candidate="b", **noisy),
        comparison(16, ratio=1.5, candidate="c", verdict=Verdict.INCONCLUSIVE, reason=OpenReason.TOO_FEW_ROUNDS),
    ]
    analysis = replace(compared_runs(cells), run=run([]), basis=Basis.ROUNDS)
    assert [line for line in texts(analysis.headline) if line.startswith("OPEN")] == [
        "OPEN all 8 comparisons: 7 are within noise (times vary by more than the difference); 1 has too few rounds",
        "OPEN gated within noise: b every size; c 8 B",
        "OPEN graph within noise: all arms, every size",
        "OPEN c: gated 16 B, 50 % slower, interval 49 to 52 %: too few rounds",
    ]
    pairs = {arm: [band for band in analysis.bands if band.candidate == arm] for arm in ("b", "c")}
    assert next(open_answers(pairs, (), brief=True, counts=False)).text == (
        "within noise: gated (b every size; c 8 B); graph (all arms, every size)"
    )


def test_no_open_size_stands_in_two_lines() -> None:
    reasons = {"b": {32: OpenReason.SHARED_ARM_MOVED}, "c": {16: OpenReason.SHARED_ARM_MOVED}}
    cells = [
        comparison(size, candidate=arm, verdict=Verdict.INCONCLUSIVE, reason=moved.get(size, OpenReason.WITHIN_NOISE))
        for arm, moved in reasons.items()
        for size in (8, 16, 32)
    ]
    analysis = replace(compared_runs([*cells, comparison(64, candidate="b")]), run=run([]), basis=Basis.ROUNDS)
    assert texts(analysis.headline)[-2:] == [
        "OPEN gated within noise: b 8 to 16 B; c 8 B and 32 B",
        "OPEN gated not comparable, the machine changed: b 32 B; c 16 B",
    ]


def test_the_sizes_that_are_missing_are_named_if_they_are_fewer() -> None:
    known = [2**power for power in range(3, 31)]
    without = {64, 128, 2048, 2**21}
    some = [size for size in known if size not in without and size <= 2**23]
    assert sizes_in_short(some, known) == "8 B to 8 MiB except 64 to 128 B, 2 KiB and 2 MiB"
    assert sizes_in_short(known[::2], known) == "14 of the 27 sizes from 8 B to 512 MiB"
    assert sizes_in_short([8, 16, 2**10, 2**30], known) == "8 to 16 B, 1 KiB and 1 GiB"


def test_an_arm_without_a_verdict_is_never_called_fastest() -> None:
    def headline(*verdicts: tuple[Verdict, float]) -> Headline:
        names = zip(("stream-free", "torch"), verdicts, strict=True)
        cells = [comparison(8, verdict, ratio, candidate=name) for name, (verdict, ratio) in names]
        return replace(compared_runs(cells), run=run([]), basis=Basis.ROUNDS).headline

    same, still_open = (Verdict.EQUIVALENT, 1.0), (Verdict.INCONCLUSIVE, 0.97)
    assert texts(headline(same, still_open)) == [
        "NOT SLOWER in 2 of 2 comparisons (limit 2.0 %)",
        "SAME stream-free: gated 8 B",
        "OPEN 1 of 2 comparisons differs, but not surely by 2.0 %: "
        "torch: gated 8 B, 3.0 % faster, but only 2.0 % is sure",
    ]
    assert texts(headline((Verdict.FASTER, 0.97), still_open))[0].endswith(
        "stream-free, 3.0 % under dedicated-stream, saves 0.30 us; open: torch"
    )
    # No candidate has a verdict, so no arm is the fastest.
    assert {line.label for line in headline(still_open, still_open).lines} == {Label.NOT_SLOWER, Label.OPEN}


def test_an_open_comparison_is_not_slower_if_its_interval_and_the_noise_stay_on_the_other_side() -> None:
    def first_two(low: float, high: float, noise_floor: float, **changes: Any) -> list[str]:
        interval = Interval(low=low, high=high, error=0.05)
        cell = {"reason": OpenReason.BELOW_THRESHOLD, **changes, "noise_floor": noise_floor}
        ratio = (low + high) / 2
        return lines_of(comparison(8), comparison(16, Verdict.INCONCLUSIVE, ratio, interval=interval, **cell))[:2]

    can_be_slower = "NOT SLOWER in 1 of 2 comparisons (limit 2.0 %); 1 can still be slower"
    can_be_faster = "NOT FASTER in 1 of 2 comparisons (limit 2.0 %); 1 can still be faster"
    assert first_two(0.96, 0.98, 0.03) == ["NOT SLOWER in 2 of 2 comparisons (limit 2.0 %)", can_be_faster]
    assert first_two(1.02, 1.04, 0.03) == [can_be_slower, "NOT FASTER in 2 of 2 comparisons (limit 2.0 %)"]
    # The noise floor can make up for the interval. What another reason withholds is not decided.
    assert first_two(0.96, 0.98, 0.05) == [can_be_slower, can_be_faster]
    assert first_two(0.96, 0.98, 0.0, reason=OpenReason.NO_TWIN) == [can_be_slower, can_be_faster]


def test_the_size_with_the_largest_change_of_a_band_is_named() -> None:
    sizes, ratios = (8, 16, 32), (1.03, 1.5, 1.2)
    slower = [comparison(size, Verdict.SLOWER, ratio) for size, ratio in zip(sizes, ratios, strict=True)]
    assert "3.0 to 50 %, most at 16 B, costs" in lines_of(*slower)[0]
    same = [comparison(size, ratio=ratio, timing=Timing.GRAPH) for size, ratio in ((8, 1.0), (16, 0.97), (32, 1.0))]
    assert lines_of(*same)[-1] == "SAME graph every size (3.0 % faster at 16 B, maybe by chance)"
