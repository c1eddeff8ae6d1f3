"""Every option of ``nccl-bench compare``."""

from __future__ import annotations

import csv
import inspect
import json
from pathlib import Path

import pytest
from rich.cells import cell_len

from nccl_bench.cli.compare import compare as compare_function
from nccl_bench.errors import ExitCode
from tests.support.compare_command import (
    BASE,
    NEW,
    CompareCommand,
    cells,
    flat,
    lines,
    refused,
    times,
    write,
)
from tests.support.synthetic_runs import meta


def test_the_arms_may_be_chosen(compare: CompareCommand, tmp_path: Path) -> None:
    write(tmp_path / "renamed", [times(arm, us, 9) for arm, us in ((BASE, 10.0), ("torch", 4.0), ("other", 8.0))])
    (compared,) = cells(compare("before", "renamed", "--arms", f" {NEW} , torch ", "--format", "json"))
    assert (compared["compared"], compared["verdict"]) == (f"torch (after) against {NEW} (before)", "faster")
    assert (compared["baseline_arm"], compared["candidate_arm"]) == (NEW, "torch")
    assert compared["ratio"] == pytest.approx(0.5, rel=0.01)


def test_the_shared_arm_may_be_chosen(compare: CompareCommand, tmp_path: Path) -> None:
    for name, drift in (("one", 1.0), ("two", 1.5)):
        write(tmp_path / name, [times(arm, us * drift, 9) for arm, us in ((BASE, 10.0), (NEW, 8.0), ("torch", 9.0))])
    default = cells(compare("one", "two", "--format", "json"))
    assert [(cell["baseline_arm"], cell["candidate_arm"]) for cell in default] == [(NEW, NEW), ("torch", "torch")]
    chosen = cells(compare("one", "two", "--shared", "torch", "--format", "json"))
    assert [cell["candidate_arm"] for cell in chosen] == [BASE, NEW]
    # By their rounds they are equivalent, but there is no twin.
    assert {cell["verdict"] for cell in chosen} == {"inconclusive"}
    out = flat(compare("one", "two", "--shared", "torch")[1])
    assert "No noise floor: no twin of a baseline was measured" in out
    assert "have no twin, so the noise is unknown" in out
    for name in ("three", "four"):
        write(tmp_path / name, [times(arm, us, 9) for arm, us in ((BASE, 10.0), ("torch", 9.0))], started=name)
    several = compare("one,three", "two,four", "--shared", "torch")[1]
    assert "relative to the arm torch" in flat(several)


def test_the_threshold_decides(compare: CompareCommand) -> None:
    for threshold, verdict in (("2%", "slower"), ("0.2", "equivalent"), ("5%", "slower"), ("10%", "inconclusive")):
        compared = cells(compare("before", "slower", "--threshold", threshold, "--format", "json"))
        assert {cell["verdict"] for cell in compared} == {verdict}
    assert {cell["threshold"] for cell in compared} == {0.1}
    assert {cell["threshold"] for cell in cells(compare("before", "same", "--format", "json"))} == {0.02}
    (first, _) = cells(compare("before", "--arms", f"{BASE},{NEW}", "--threshold", "50%", "--format", "json"))
    assert (first["verdict"], first["threshold"]) == ("equivalent", 0.5)


def test_limits_decide_by_place(compare: CompareCommand, tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text('[[limits]]\nsizes = ":512"\nthreshold = "30%"\n')
    for sides in (("before", "slower"), ("before", "--arms", f"{NEW},{NEW}", "slower")):
        compared = cells(compare(*sides, "--limits", "limits.toml", "--threshold", "3%", "--format", "json"))
        assert [(cell["verdict"], cell["threshold"]) for cell in compared] == [("equivalent", 0.3), ("slower", 0.03)]
    within = cells(compare("before", "--arms", f"{BASE},{NEW}", "--limits", "limits.toml", "--format", "json"))
    assert [cell["threshold"] for cell in within] == [0.3, 0.02]
    assert "a difference of 2.0 % to 30 % matters" in flat(compare("before", "slower", "--limits", "limits.toml")[1])


def test_all_formats_have_the_same_content(compare: CompareCommand) -> None:
    outputs = {form: compare("before", "slower", "--format", form)[1] for form in ("terminal", "markdown", "json")}
    assert outputs["markdown"].startswith("**nccl-bench**: slower against before: ")
    assert "| gated | 8 to 1K | slower | 1.102 |" in outputs["markdown"]
    for output in outputs.values():
        assert (
            f"Every ratio is relative to the arm {BASE}. This arm itself gets no verdict; its ratios: 1.00x."
            in flat(output)
        )
    compared = json.loads(outputs["json"])
    assert (compared["shared_arm"], compared["basis_reason"]) == (
        BASE,
        f"one run on each side, relative to the arm {BASE} in the same round; recorded alike",
    )
    assert compared["basis"] == "rounds within each run, relative to an arm that both sides have"
    for cell in compared["cells"]:
        assert cell["candidate_us"] / cell["baseline_us"] == pytest.approx(1.1, rel=0.01)
        assert 0 < cell["noise_floor"] < 0.02
    assert outputs["terminal"] == compare("before", "slower")[1]
    assert len(json.loads(outputs["json"])["cells"]) == 2
    # The times of sizes that share a line.
    assert "| gated | 1K | 9.23 | 10.1 | 1.10x |" in outputs["markdown"].partition("<details>")[2]
    assert all(output.endswith("\n") for output in outputs.values())
    (first, *_) = csv.DictReader(compare("before", "slower", "--format", "csv")[1].splitlines())
    assert (first["compared"], first["verdict"]) == (f"{NEW}, after against before", "slower")
    assert compare("before", "slower", "--format", "xml")[0] == ExitCode.USAGE


@pytest.mark.parametrize("width", [60, 80, 120])
def test_lines_are_as_wide_as_requested(compare: CompareCommand, width: int) -> None:
    texts = [
        compare("before", "slower", "--width", width)[1],
        compare("before,same", "slower,faster", "--width", width)[1],
        compare("before", "--arms", f"{BASE},{NEW}", "--width", width)[1],
        compare("before.csv", "few", "--width", width)[1],
    ]
    widths = [max(map(cell_len, text.splitlines())) for text in texts]
    assert max(widths) <= width
    assert max(widths) > width - 15
    if width == 80:
        assert texts[0] == compare("before", "slower")[1]


def test_the_tests_know_every_option() -> None:
    assert set(inspect.signature(compare_function).parameters) == {
        *("sides", "arms", "shared", "threshold", "limits", "allow_mismatch", "fail_on", "format", "to", "width"),
        *("quiet", "full", "anonymous"),
    }


def test_anonymous_runs_have_numbers_for_names(compare: CompareCommand) -> None:
    code, out, err = compare("before", "slower", "--anonymous", "--full")
    assert (code, err) == (0, "")
    assert "run-1" in out
    assert "run-2" in out
    assert "slower (" not in out


def test_the_recorded_thresholds_of_a_run_decide_between_its_arms(compare: CompareCommand, tmp_path: Path) -> None:
    config = meta(arms=[BASE, NEW])["config"] | {"threshold": "30%", "limits": [{"threshold": 0.4, "sizes": ":64"}]}
    write(tmp_path / "tolerant", lines(), config=config)
    (tmp_path / "limits.toml").write_text('threshold = "5%"\n')

    def thresholds(*options: str) -> list[float]:
        return [cell["threshold"] for cell in cells(compare("tolerant", *options, "--format", "json"))]

    pair = ("--arms", f"{BASE},{NEW}")
    assert thresholds(*pair) == [0.4, 0.3]
    assert thresholds(*pair, "--threshold", "10%") == [0.1, 0.1]
    assert thresholds(*pair, "--limits", "limits.toml") == [0.05, 0.05]
    # Two sides do not use the thresholds of either run.
    assert thresholds("same") == [0.02, 0.02]
    write(tmp_path / "odd", lines(), config=config | {"threshold": "much"})
    assert "odd cannot be judged: its config: threshold is 'much'" in refused(compare("odd", *pair), ExitCode.SETUP)


def test_threshold_replaces_the_threshold_of_the_limits_file(compare: CompareCommand, tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text('threshold = "5%"\n[[limits]]\nsizes = ":512"\nthreshold = "30%"\n')
    for options, expected in (((), 0.05), (("--threshold", "3%"), 0.03)):
        compared = cells(compare("before", "same", "--limits", "limits.toml", *options, "--format", "json"))
        assert [cell["threshold"] for cell in compared] == [0.3, expected]


def test_columns_without_room_are_said_to_be_in_the_json(compare: CompareCommand) -> None:
    out = flat(compare("before", "slower", "--width", "30")[1])
    assert "or give --format json" in out
    assert "summary.csv" not in out
