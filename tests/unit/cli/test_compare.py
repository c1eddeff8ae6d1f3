"""The comparisons of ``nccl-bench compare``: the sides, their verdicts, and the commands to repeat them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.verdict_words import VERDICT_WORDS
from nccl_bench.errors import ExitCode
from tests.support.compare_command import BASE, NEW, CompareCommand, cells, flat, lines, times, write
from tests.support.synthetic_runs import samples


@pytest.mark.parametrize(
    ("after", "verdict", "ratio"), [("same", "equivalent", 1.0), ("slower", "slower", 1.1), ("faster", "faster", 0.9)]
)
def test_one_run_on_each_side_is_compared_relative_to_the_common_baseline(
    compare: CompareCommand, after: str, verdict: str, ratio: float
) -> None:
    """The machine was slower by a fifth, which does not matter."""
    compared = cells(compare("before", after, "--format", "json"))
    assert [(cell["compared"], cell["size_bytes"], cell["verdict"]) for cell in compared] == [
        (f"{NEW}, after against before", size, verdict) for size in (8, 1024)
    ]
    for cell in compared:
        assert cell["ratio"] == pytest.approx(ratio, rel=0.01)
        assert cell["ratio_low"] <= cell["ratio"] <= cell["ratio_high"]
    status, out, err = compare("before", after)
    assert (status, err) == (0, "")
    assert out.startswith(f"{after} against before: {NEW}, after against before")
    assert f"Basis one run on each side, relative to the arm {BASE} in the same round" in flat(out)
    if after != "same":
        words = "95 % that no verdict about these two runs is wrong, but new runs can differ"
        assert words in flat(out)
    assert f"8 to 1K {VERDICT_WORDS[Verdict(verdict)]}" in flat(out)
    # The ratio of the shared arm itself is printed.
    itself = "1.20x" if after == "same" else "1.00x"
    assert f"Every ratio is relative to the arm {BASE}. This arm itself gets no verdict; its ratios: {itself}." in flat(
        out
    )


def test_a_comparison_has_the_facts_of_both_sides_and_the_commands_to_repeat_it(
    compare: CompareCommand, tmp_path: Path
) -> None:
    # The change is right at the threshold, so it is open.
    for seed, (name, new_us) in enumerate((("old", 8.0), ("new", 8.4))):
        write(tmp_path / name, lines(new_us, seed), command=["nccl-bench", "run", "--out", name])
    report = json.loads(compare("old", "new", "--threshold", "5%", "--format", "json")[1])
    facts = [(fact["name"], fact["text"]) for fact in report["headline"]["facts"]]
    assert list(dict.fromkeys(name for name, _ in facts)) == [
        "Basis",
        "Results",
        "Machine",
        "Steady",
        "Next",
        "Order",
        "Command",
    ]
    assert (
        "Results",
        "before and after each: right in all 4 cells of all arms, on every rank",
    ) in facts
    assert [text for name, text in facts if name == "Command"] == [
        "compare: nccl-bench compare old new --threshold 5%",
        "before: nccl-bench run --out old",
        "after: nccl-bench run --out new",
    ]
    assert [text for name, text in facts if name == "Next"][1:] == [
        "before: nccl-bench run --launches 5 --out old-launches-5",
        "after: nccl-bench run --launches 5 --out new-launches-5",
        "compare: nccl-bench compare old-launches-5 new-launches-5",
    ]
    # In Markdown the commands are blocks, each below its side, and no fact is the name of a side alone.
    markdown = compare("old", "new", "--threshold", "5%", "--format", "markdown")[1]
    assert markdown.count("- Next: ") == 1
    assert [line for line in markdown.splitlines() if re.fullmatch("(Command|Next)(, .*)?:", line)] == [
        *("Next, before:", "Next, after:", "Next, compare:"),
        *("Command, compare:", "Command, before:", "Command, after:"),
    ]


def test_one_run_with_before_and_after_needs_no_arms(compare: CompareCommand, tmp_path: Path) -> None:
    arms = (("before", 10.0), ("before:twin", 10.0), ("after", 8.0), ("torch", 30.0))
    write(tmp_path / "pair", [times(arm, us, 4) for arm, us in arms])
    (cell,) = cells(compare("pair", "--format", "json"))
    assert (cell["compared"], cell["verdict"]) == ("after against before", "faster")


def test_two_arms_of_one_run_are_compared_by_pairs_of_rounds(compare: CompareCommand) -> None:
    status, out, err = compare("before", "--arms", f"{BASE},{NEW}")
    assert (status, err) == (0, "")
    assert out.startswith(f"{NEW} against {BASE}, all_reduce")
    assert "8 to 1K faster 0.800" in flat(out)
    assert "noise" in out
    (first, _) = cells(compare("before", "--arms", f"{NEW},{BASE}", "--format", "json"))
    assert (first["verdict"], first["ratio"]) == ("slower", pytest.approx(1.25, rel=0.01))
    # The twin of the other arm serves as well.
    assert 0 <= first["noise_floor"] < 0.01
    assert (first["baseline_us"], first["candidate_us"]) == (
        pytest.approx(9.2, rel=0.01),
        pytest.approx(11.5, rel=0.01),
    )
    assert "No noise floor" not in out
    assert "No noise floor: no twin of a baseline was measured" in flat(compare("noisy", "--arms", f"{NEW},{BASE}")[1])


def test_cells_that_one_of_two_arms_lacks_are_listed(compare: CompareCommand, tmp_path: Path) -> None:
    write(tmp_path / "odd", [*lines(sizes=(8,)), times(BASE, 10.0, 1, 64), times(NEW, 8.0, 1, 128)])
    out = flat(compare("odd", "--arms", f"{BASE},{NEW}")[1])
    # Cells are listed by the arm that is missing.
    assert f"gated of {NEW}, all_reduce bfloat16 sum, 64 B: no time" in out
    assert f"gated of {BASE}, all_reduce bfloat16 sum, 128 B: no time" in out
    write(tmp_path / "apart", [times(BASE, 10.0, 1), samples(NEW, rounds=(30, 31), samples_us=(8.0, 8.1))])
    out = flat(compare("apart", "--arms", f"{BASE},{NEW}")[1])
    assert out.count(f"gated of {NEW}, all_reduce bfloat16 sum, 1 KiB: no round in common with {BASE}") == 1
    assert "no time" not in out


def test_several_runs_on_each_side_are_compared_by_the_variation_between_runs(
    compare: CompareCommand, tmp_path: Path
) -> None:
    write(tmp_path / "before-again", lines(seed=12))
    status, out, err = compare("before,same", "slower,faster")
    assert (status, err) == (0, "")
    assert out.startswith("slower, faster against before, same: dedicated-stream and stream-free,\n")
    assert "Basis 2 runs before and 2 runs after" in flat(out)
    assert f"{BASE}, after against before" in out
    assert "OPEN" in out
    full = flat(compare("before,same", "slower,faster", "--full")[1])
    assert "More runs or launches (--launches) on each side narrow the interval" in full
    status, out, _ = compare("before,same,before-again", "slower", "--arms", f"{NEW},{NEW}")
    assert "Basis 3 runs before and 1 run after, relative to" in flat(out)
    assert "8 to 1K slower 1.1" in flat(out)


def test_without_a_common_arm_there_is_a_reason_instead_of_verdicts(compare: CompareCommand) -> None:
    status, out, err = compare("alone", "lonely")
    assert (status, err) == (0, "")
    assert "No verdict: each side has only one run" in flat(out)
    assert "--shared" in out
    assert "no verdict" in out
    assert "confidence" not in out


def test_cells_that_only_one_side_has_are_listed(compare: CompareCommand) -> None:
    status, out, _ = compare("before", "noisy")
    assert status == 0
    gap = f"gated of {NEW}, all_reduce bfloat16 sum, 8 B: before only"
    assert gap in flat(out)
    assert json.loads(compare("before", "noisy", "--format", "json")[1])["not_compared"] == [gap]


def test_two_sides_with_nothing_in_common_have_no_verdict_and_do_not_pass(
    compare: CompareCommand, tmp_path: Path
) -> None:
    write(tmp_path / "other", lines(sizes=(2**20,)))
    status, out, err = compare("before", "other")
    assert (status, err) == (0, "")
    assert "No verdict: the two sides have no case, timing and arm in common." in flat(out)
    assert "By" not in out.split()
    assert ": after only" in out
    # A gate does not pass then, and it prints nothing else.
    for fail_on in ("inconclusive", "slower", "slower,wrong"):
        status, _, err = compare("before", "other", "--fail-on", fail_on)
        assert status == ExitCode.INCONCLUSIVE
        assert err.startswith("nccl-bench: nothing could be judged, so --fail-on ")
        assert "no case, timing and arm in common" in err
        assert err.count("\n") == 1
    assert compare("before", "other", "--fail-on", "wrong")[0] == ExitCode.OK
    # The sentence stays whole if the runs allow no verdicts either.
    write(tmp_path / "others", lines(sizes=(2**21,)), started="later")
    assert "No verdict: the two sides have no case" in flat(compare("before.csv", "others")[1])
