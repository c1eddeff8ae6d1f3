"""``nccl-bench compare`` as a user and a script meet it: what it prints, and how it exits."""

from __future__ import annotations

import csv
import inspect
import json
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.description import CPU_NOTICE
from nccl_bench.cli import main
from nccl_bench.cli.compare import compare
from nccl_bench.cli.gate import FailOn, parse_fail_on
from nccl_bench.errors import ExitCode, UsageError
from nccl_bench.records import importers
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Line, Samples, Skipped, dump
from nccl_bench.report.csv import CsvReport
from tests.support.synthetic_runs import case, crash, hang, meta, run, samples, wrong

NCCL_TESTS = Path(__file__).parents[2] / "data" / "nccl-tests"
BASE, TWIN, NEW = "dedicated-stream", "dedicated-stream:twin", "stream-free"
Command = Callable[..., tuple[int, str, str]]


def times(
    arm: str, us: float, seed: int, size: int = 1024, rounds: int = 25, noise: float = 0.003, **changes: Any
) -> Samples:
    """An arm's times in one case, of a machine that slows down by a third on the way."""
    rng = np.random.default_rng([seed, size, sum(arm.encode())])
    found = us * np.linspace(1.0, 1.3, rounds) * np.exp(rng.normal(0, noise, rounds))
    return samples(arm, **{"case": case(size), "samples_us": tuple(found.tolist())} | changes)


def lines(new_us: float = 8.0, seed: int = 1, drift: float = 1.0, sizes: Iterable[int] = (8, 1024)) -> list[Line]:
    arms = ((BASE, 10.0), (TWIN, 10.0), (NEW, new_us))
    return [times(arm, us * drift, seed, size) for size in sizes for arm, us in arms]


def write(path: Path, of: Iterable[Line], **changes: Any) -> Path:
    path.mkdir()
    arms = list(dict.fromkeys(line.arm for line in of if isinstance(line, Samples) and line.arm != TWIN))
    (path / "run.json").write_text(json.dumps(meta(arms=arms, baseline=arms[0]) | changes))
    (path / "samples.jsonl").write_text("".join(map(dump, of)))
    return path


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs it where there are runs: as before, the new arm as fast, slower and faster, and one too noisy to tell."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    write(tmp_path / "before", lines())
    write(tmp_path / "same", lines(seed=2, drift=1.2))
    write(tmp_path / "slower", lines(new_us=8.8, seed=3))
    write(tmp_path / "faster", lines(new_us=7.2, seed=4))
    write(tmp_path / "noisy", [times(BASE, 10.0, 15), times(NEW, 8.0, 15, noise=0.2)])
    write(tmp_path / "few", [times(BASE, 10.0, 6, rounds=3), times(NEW, 8.0, 6, rounds=3)])
    write(tmp_path / "alone", [times(NEW, 8.0, 7)])
    write(tmp_path / "lonely", [times(NEW, 8.0, 17)])
    write(tmp_path / "hung", [*lines(seed=9), hang(arm=NEW, case=case(64))])
    write(tmp_path / "crashed", [*lines(seed=10), crash(arm=NEW, case=case(64))])
    write(tmp_path / "wrong", [*lines(seed=8), wrong(arm=NEW, case=case(64))])
    for name, of in (("before", lines()), ("after", lines(seed=11, drift=2.0)), ("hung", [*lines(seed=9), hang()])):
        (tmp_path / f"{name}.csv").write_text(summary_csv(run(of, arms=[BASE, NEW])))

    def run_command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nccl-bench", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        return int(end.value.code or 0), printed.out, printed.err

    return run_command


def summary_csv(of: Run) -> str:
    return CsvReport().render(Analysis.of(of))


def flat(text: str) -> str:
    return " ".join(text.split())


def refused(result: tuple[int, str, str], code: ExitCode = ExitCode.USAGE) -> str:
    """What it was refused with: on stderr, and nothing printed."""
    status, out, err = result
    assert status == code
    assert out == ""
    assert err.startswith("nccl-bench: ")
    return err


def cells(result: tuple[int, str, str]) -> list[dict[str, Any]]:
    assert result[2] == ""
    found: list[dict[str, Any]] = json.loads(result[1])["cells"]
    return found


# -- what it says ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "verdict", "ratio"), [("same", "equivalent", 1.0), ("slower", "slower", 1.1), ("faster", "faster", 0.9)]
)
def test_one_run_a_side_is_judged_relative_to_the_arm_that_both_have(
    command: Command, after: str, verdict: str, ratio: float
) -> None:
    """Also where the machine itself was slower by a fifth."""
    found = cells(command("before", after, "--format", "json"))
    assert [(cell["compared"], cell["size_bytes"], cell["verdict"]) for cell in found] == [
        (f"{NEW}, after against before", size, verdict) for size in (8, 1024)
    ]
    for cell in found:
        assert cell["ratio"] == pytest.approx(ratio, rel=0.01)
        assert cell["ratio_low"] <= cell["ratio"] <= cell["ratio_high"]
    status, out, err = command("before", after)
    assert (status, err) == (0, "")
    assert f"{after} against before. By one run a side, relative to {BASE} of the same round." in flat(out)
    assert f"8 to 1K {verdict}" in flat(out)
    # What drops out of the rest is told.
    itself = "1.20x" if after == "same" else "1.00x"
    assert f"{BASE} itself, which all other times are relative to: {itself}, not judged." in flat(out)


def test_two_arms_of_one_run_are_judged_by_pairs(command: Command) -> None:
    status, out, err = command("before", "--arms", f"{BASE},{NEW}")
    assert (status, err) == (0, "")
    assert f"{NEW} against {BASE}, by pairs of the same round" in flat(out)
    assert "8 to 1K faster 0.80x" in flat(out)
    assert "noise" in out
    (first, _) = cells(command("before", "--arms", f"{NEW},{BASE}", "--format", "json"))
    assert (first["verdict"], first["ratio"]) == ("slower", pytest.approx(1.25, rel=0.01))
    # The other arm's twin tells of luck as well as its own would.
    assert 0 <= first["noise_floor"] < 0.01
    assert (first["baseline_us"], first["candidate_us"]) == (
        pytest.approx(9.2, rel=0.01),
        pytest.approx(11.5, rel=0.01),
    )
    assert "No noise floor" not in out
    assert "No noise floor: no twin of a baseline was measured" in flat(command("noisy", "--arms", f"{NEW},{BASE}")[1])


def test_cells_that_one_of_two_arms_lacks_are_listed(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "odd", [*lines(sizes=(8,)), times(BASE, 10.0, 1, 64), times(NEW, 8.0, 1, 128)])
    out = flat(command("odd", "--arms", f"{BASE},{NEW}")[1])
    # By the arm that is missing.
    assert f"no time of {NEW} gated all_reduce bfloat16 sum in-place 64" in out
    assert f"no time of {BASE} gated all_reduce bfloat16 sum in-place 128" in out
    assert out.count("all_reduce bfloat16 sum in-place 64") == 1
    write(tmp_path / "apart", [times(BASE, 10.0, 1), samples(NEW, rounds=(30, 31), samples_us=(8.0, 8.1))])
    out = flat(command("apart", "--arms", f"{BASE},{NEW}")[1])
    assert f"no round in common with {BASE} gated all_reduce bfloat16 sum in-place 1K" in out


def test_several_runs_a_side_are_judged_by_how_they_vary(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "before-again", lines(seed=12))
    status, out, err = command("before,same", "slower,faster")
    assert (status, err) == (0, "")
    assert "slower, faster against before, same. By 2 and 2 runs a side." in flat(out)
    assert f"{BASE}, after against before" in out
    assert "inconclusive" in out
    assert "More runs a side narrow it" in flat(out)
    status, out, _ = command("before,same,before-again", "slower", "--arms", f"{NEW},{NEW}")
    assert "By 3 and 1 runs a side, relative to" in flat(out)
    assert "8 to 1K slower 1.1" in flat(out)


def test_without_an_arm_in_common_it_says_why_there_is_no_verdict(command: Command) -> None:
    status, out, err = command("alone", "lonely")
    assert (status, err) == (0, "")
    assert "No verdict: two runs are not paired" in flat(out)
    assert "--shared" in out
    assert re_ratio(out) == ["1.00x"]
    assert "confidence" not in out


def measured(of: Iterable[Line]) -> list[Samples]:
    return [line for line in of if isinstance(line, Samples)]


def re_ratio(text: str) -> list[str]:
    return [word for word in text.split() if word.endswith("x") and word[0].isdigit()]


def test_cells_of_one_side_alone_are_listed(command: Command) -> None:
    status, out, _ = command("before", "noisy")
    assert status == 0
    assert f"only the side before has {NEW} gated all_reduce bfloat16 sum in-place 8" in flat(out)
    assert json.loads(command("before", "noisy", "--format", "json")[1])["not_compared"] == [
        f"only the side before has {NEW} gated all_reduce bfloat16 sum in-place 8"
    ]


def test_two_sides_with_nothing_in_common_say_so(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "other", lines(sizes=(2**20,)))
    status, out, err = command("before", "other")
    assert (status, err) == (0, "")
    assert "No verdict: the two sides have no case, timing and arm in common." in flat(out)
    assert "By" not in out.split()
    assert "only the side after has" in out
    # Which is no pass for who asked for a judgement, and alone.
    for fail_on in ("inconclusive", "slower", "slower,wrong"):
        status, _, err = command("before", "other", "--fail-on", fail_on)
        assert status == ExitCode.INCONCLUSIVE
        assert err.startswith("nccl-bench: nothing could be judged, so --fail-on ")
        assert "no case, timing and arm in common" in err
        assert err.count("\n") == 1
    assert command("before", "other", "--fail-on", "wrong")[0] == ExitCode.OK
    # Nor is a sentence broken where the runs would be no ground either.
    write(tmp_path / "others", lines(sizes=(2**21,)), started="later")
    assert "No verdict: the two sides have no case" in flat(command("before.csv", "others")[1])


def test_a_run_that_was_killed_is_compared_with_a_warning(command: Command, tmp_path: Path) -> None:
    killed = write(tmp_path / "killed", lines(seed=13), status="running")
    with (killed / "samples.jsonl").open("a") as file:
        file.write('{"kind": "samp')
    out = flat(command("before", "killed")[1])
    assert "ends within line 7, which is ignored" in out
    assert "after: the run is running, so a part of it is missing" in out


@pytest.mark.parametrize("sides", [("before.csv", "slower"), ("slower", "before.csv"), ("before.csv", "after.csv")])
def test_a_summary_is_a_side_without_a_verdict(command: Command, sides: tuple[str, str]) -> None:
    status, out, err = command(*sides)
    assert (status, err) == (0, "")
    assert "No verdict: at least one of them has a single time for each cell" in flat(out)
    assert "give the directories of all runs" in flat(out)
    assert "a summary has no intervals" in flat(out)
    assert [row.arm for row in Analysis.of(run(lines())).rows if row.arm == TWIN]
    assert f"{TWIN} after" not in out
    # Plain medians, relative to nothing, so the baseline is an arm like any other.
    assert "relative" not in out
    for arm in (BASE, NEW):
        assert f"{arm}, after against before" in out
    if "after.csv" in sides:
        ratios = [cell["ratio"] for cell in json.loads(command(*sides, "--format", "json")[1])["cells"]]
        assert ratios == pytest.approx([2.0] * 4, rel=0.01)


def test_what_nccl_tests_wrote_is_a_side(command: Command) -> None:
    plain, graph = NCCL_TESTS / "all_reduce.txt", NCCL_TESTS / "all_reduce.json"
    found = cells(command(plain, graph, "--format", "json"))
    assert found
    assert {cell["compared"] for cell in found} == {"nccl-tests, after against before"}
    assert all("verdict" not in cell for cell in found)


def test_what_nccl_tests_wrote_is_compared_with_an_arm(command: Command, tmp_path: Path) -> None:
    path = NCCL_TESTS / "all_reduce.txt"
    measured = next(line for line in importers.read(path).lines if isinstance(line, Samples))
    write(tmp_path / "ours", [times(NEW, 10.0, 1, timing=measured.timing, case=measured.case)])
    status, out, err = command(path, "ours", "--arms", f"nccl-tests,{NEW}", "--allow-mismatch")
    assert (status, err) == (0, "")
    assert f"{NEW} (after) against nccl-tests (before)" in out
    assert len(re_ratio(out)) == 1


def test_times_that_are_not_the_slowest_rank_s_are_warned_of(command: Command, tmp_path: Path) -> None:
    text = (NCCL_TESTS / "all_reduce.json").read_text()
    for second, (name, option) in enumerate((("average", "1"), ("maximum", "3"), ("averages", "1"))):
        document = json.loads(text)
        document["args"] += ["-a", option]
        document["start_time"] = f"2026-11-22 09:16:2{second}"
        # Beside a summary nothing else tells that it is another run.
        document["results"] = document["results"][: 1 if name == "averages" else None]
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
        # What `import` makes of it.
        imported = importers.read(tmp_path / f"{name}.json")
        write(tmp_path / name, imported.lines, **imported.meta())
        (tmp_path / f"{name}.csv").write_text(summary_csv(Run.load(tmp_path / name)))
    (tmp_path / "table.txt").write_text((NCCL_TESTS / "all_reduce.txt").read_text())

    def here(*sides: str) -> list[str]:
        found: list[str] = json.loads(command(*sides, "--allow-mismatch", "--format", "json")[1])["warnings"]
        return [text.partition(" These runs: ")[2] for text in found if "averages over ranks unless" in text]

    assert here("average.json", "before") == ["average (before); maximum (after)"]
    assert here("before,same", "average") == ["maximum (before 1, before 2); average (after)"]
    assert here("table.txt", "before") == ["not recorded (before); maximum (after)"]
    assert here("before.csv", "average.csv") == ["maximum (before); not recorded (after)"]
    assert here("maximum.json", "average.json") == ["maximum (before); average (after)"]
    assert here("maximum.json", "before") == here("before", "maximum") == []
    assert here("average.json", "table.txt") == here("averages.json", "average.csv") == here("same", "before.csv") == []
    # In words, and without anybody's leave.
    assert "so nccl-tests may look faster than it is" in flat(command("maximum.json", "average.json")[1])


# -- every option is read --------------------------------------------------------------------------------------------


def test_the_arms_may_be_chosen(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "renamed", [times(arm, us, 9) for arm, us in ((BASE, 10.0), ("torch", 4.0), ("other", 8.0))])
    (found,) = cells(command("before", "renamed", "--arms", f" {NEW} , torch ", "--format", "json"))
    assert (found["compared"], found["verdict"]) == (f"torch (after) against {NEW} (before)", "faster")
    assert (found["before_arm"], found["after_arm"]) == (NEW, "torch")
    assert found["ratio"] == pytest.approx(0.5, rel=0.01)


def test_the_shared_arm_may_be_chosen(command: Command, tmp_path: Path) -> None:
    for name, drift in (("one", 1.0), ("two", 1.5)):
        write(tmp_path / name, [times(arm, us * drift, 9) for arm, us in ((BASE, 10.0), (NEW, 8.0), ("torch", 9.0))])
    default = cells(command("one", "two", "--format", "json"))
    assert [(cell["before_arm"], cell["after_arm"]) for cell in default] == [(NEW, NEW), ("torch", "torch")]
    chosen = cells(command("one", "two", "--shared", "torch", "--format", "json"))
    assert [cell["after_arm"] for cell in chosen] == [BASE, NEW]
    # By their rounds they are equivalent; what luck makes, no twin tells.
    assert {cell["verdict"] for cell in chosen} == {"inconclusive"}
    out = flat(command("one", "two", "--shared", "torch")[1])
    assert "No noise floor: no twin of a baseline was measured" in out
    assert "2 cells inconclusive because no twin was measured" in out
    for name in ("three", "four"):
        write(tmp_path / name, [times(arm, us, 9) for arm, us in ((BASE, 10.0), ("torch", 9.0))], started=name)
    several = command("one,three", "two,four", "--shared", "torch")[1]
    assert "relative to torch" in flat(several)


def test_the_threshold_decides(command: Command) -> None:
    for threshold, verdict in (("2%", "slower"), ("0.2", "equivalent"), ("5%", "slower"), ("10%", "inconclusive")):
        found = cells(command("before", "slower", "--threshold", threshold, "--format", "json"))
        assert {cell["verdict"] for cell in found} == {verdict}
    assert {cell["threshold"] for cell in found} == {0.1}
    assert {cell["threshold"] for cell in cells(command("before", "same", "--format", "json"))} == {0.02}
    (first, _) = cells(command("before", "--arms", f"{BASE},{NEW}", "--threshold", "50%", "--format", "json"))
    assert (first["verdict"], first["threshold"]) == ("equivalent", 0.5)


def test_limits_decide_by_place(command: Command, tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text('[[limits]]\nsizes = ":512"\nthreshold = "30%"\n')
    for sides in (("before", "slower"), ("before", "--arms", f"{NEW},{NEW}", "slower")):
        found = cells(command(*sides, "--limits", "limits.toml", "--threshold", "3%", "--format", "json"))
        assert [(cell["verdict"], cell["threshold"]) for cell in found] == [("equivalent", 0.3), ("slower", 0.03)]
    within = cells(command("before", "--arms", f"{BASE},{NEW}", "--limits", "limits.toml", "--format", "json"))
    assert [cell["threshold"] for cell in within] == [0.3, 0.02]
    assert "a difference of 2.0 % to 30 % matters" in flat(command("before", "slower", "--limits", "limits.toml")[1])


def test_the_formats_say_the_same(command: Command) -> None:
    outputs = {form: command("before", "slower", "--format", form)[1] for form in ("terminal", "markdown", "json")}
    assert outputs["markdown"].startswith("**nccl-bench**: slower against before.")
    assert "| gated | 8 to 1K | slower | 1.10x |" in outputs["markdown"]
    for output in outputs.values():
        assert f"{BASE} itself, which all other times are relative to: 1.00x, not judged." in flat(output)
    found = json.loads(outputs["json"])
    assert (found["shared_arm"], found["reason"]) == (BASE, f"one run a side, relative to {BASE} of the same round")
    assert found["basis"] == "rounds within each run, relative to an arm that both sides have"
    for cell in found["cells"]:
        assert cell["after_us"] / cell["before_us"] == pytest.approx(1.1, rel=0.01)
        assert 0 <= cell["noise_floor"] < 0.01
    assert outputs["terminal"] == command("before", "slower")[1]
    assert len(json.loads(outputs["json"])["cells"]) == 2
    # The times, which the table of verdicts has no line for each of.
    assert "| gated | 1K | 9.23 | 10.1 | 1.10x |" in outputs["markdown"].partition("<details>")[2]
    assert all(output.endswith("\n") for output in outputs.values())
    (first, *_) = csv.DictReader(command("before", "slower", "--format", "csv")[1].splitlines())
    assert (first["compared"], first["verdict"]) == (f"{NEW}, after against before", "slower")
    assert command("before", "slower", "--format", "xml")[0] == ExitCode.USAGE


@pytest.mark.parametrize("width", [60, 80, 120])
def test_lines_are_as_wide_as_asked_for(command: Command, width: int) -> None:
    texts = [
        command("before", "slower", "--width", width)[1],
        command("before,same", "slower,faster", "--width", width)[1],
        command("before", "--arms", f"{BASE},{NEW}", "--width", width)[1],
        command("before.csv", "few", "--width", width)[1],
    ]
    widths = [max(map(cell_len, text.splitlines())) for text in texts]
    assert max(widths) <= width
    assert max(widths) > width - 15
    if width == 80:
        assert texts[0] == command("before", "slower")[1]


def test_the_tests_know_every_option() -> None:
    assert set(inspect.signature(compare).parameters) == {
        *("sides", "arms", "shared", "threshold", "limits", "allow_mismatch", "fail_on", "format", "width"),
    }


# -- mismatches ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"launch": meta()["launch"] | {"world_size": 8}}, "ranks: 4 (before); 8 (after)"),
        ({"environment": {"hostname": "b", "gpus": [{"name": "NVIDIA B200", "driver": "590"}]}}, ""),
        ({"worker": {"torch": "2.14", "transport": {"version": "2.29"}}}, ""),
        ({"environment": {"variables": {"NCCL_ALGO": "Ring"}}}, ""),
    ],
)
def test_runs_that_differ_otherwise_are_compared_only_if_told_so(
    command: Command, tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    known = {
        "environment": {"hostname": "a", "gpus": [{"name": "NVIDIA H200", "driver": "580"}], "variables": {}},
        "worker": {"torch": "2.13", "transport": {"version": "2.28"}},
    }
    for seed, (name, of) in enumerate((("known", known), ("other", known | changes)), start=40):
        write(tmp_path / name, lines(seed=seed), **of)
    sides = ("before", "other") if line else ("known", "other")
    message = refused(command(*sides))
    assert "these runs differ in more than what is compared" in message
    assert "--allow-mismatch" in message
    assert line in message
    found = [text.strip() for text in message.splitlines()[1:-1]]
    assert found
    status, out, err = command(*sides, "--allow-mismatch")
    assert (status, err) == (0, "")
    assert "equivalent" in out
    for text in found:
        assert f"compared although the runs differ: {text}" in flat(out)
    # Another version of ours is told, and no more.
    write(tmp_path / "newer", lines(seed=43), **known, schema=2, version="0.2.0")
    status, out, _ = command("known", "newer")
    assert status == 0
    assert "which may measure differently: 0.1.0 with schema 1 (before); 0.2.0 with schema 2 (after)" in flat(out)
    assert "measured by different versions" not in command("known", "before")[1]
    # Of several runs a side, each counts.
    write(tmp_path / "known-2", lines(seed=42), **known)
    write(tmp_path / "known-3", lines(seed=44), **known)
    assert "(before 2)" in refused(command("known,other", "known-2"))
    assert "runs differ" not in command("known,known-2", "known-3")[1]


# -- exit codes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sides", "fail_on", "code"),
    [
        (("before", "slower"), None, 0),
        (("before", "slower"), "slower", 7),
        (("before", "slower"), "inconclusive", 0),
        (("before", "slower"), "inconclusive,slower", 7),
        (("before", "faster"), "slower,inconclusive,wrong", 0),
        (("before", "same"), "slower,inconclusive,wrong", 0),
        (("before", "noisy"), None, 0),
        (("before", "noisy"), "slower", 0),
        (("before", "noisy"), "slower, inconclusive", 8),
        (("before", "odd"), "slower", 0),
        # What went wrong in a run, on either side, whatever was asked for, and before anything else.
        (("before", "wrong"), None, 4),
        (("wrong", "before"), "slower,inconclusive", 4),
        (("before", "wrong"), "wrong", 4),
        (("wrong", "slower"), "slower", 4),
        (("before", "hung"), None, 6),
        (("hung", "slower"), "slower", 6),
        (("before", "hung.csv"), None, 6),
        (("before", "crashed"), None, 3),
        (("crashed", "hung"), "wrong", 6),
        (("crashed,hung", "before,wrong"), None, 4),
        (("wrong", "--arms", f"{BASE},{NEW}"), None, 4),
        (("hung", "--arms", f"{BASE},{NEW}"), "slower", 6),
        (("before", "--arms", f"{BASE},{NEW}"), "slower,inconclusive", 0),
        (("before", "--arms", f"{NEW},{BASE}"), "slower", 7),
        (("odd", "--arms", f"{NEW},{BASE}", "--threshold", "20%"), "inconclusive", 8),
        (("before,faster", "slow-1,slow-2"), "slower", 7),
        (("before", "more"), "slower,inconclusive", 0),
    ],
)
def test_the_exit_code_is_what_was_asked_for(
    command: Command, tmp_path: Path, sides: tuple[str, ...], fail_on: str | None, code: int
) -> None:
    for number in (1, 2):
        write(tmp_path / f"slow-{number}", lines(new_us=16.0, seed=20 + number))
    write(tmp_path / "more", lines(seed=23, sizes=(8, 1024, 4096)))
    # One cell has too few rounds for an interval, and could not fail; the other could.
    write(tmp_path / "odd", [*lines(seed=24, sizes=(8,)), *(times(arm, 10.0, 24, rounds=3) for arm in (BASE, NEW))])
    status, out, err = command(*sides, *(() if fail_on is None else ("--fail-on", fail_on)))
    assert (status, err) == (code, "")
    # Whatever the code, the tables are there.
    assert "Ratios below 1 are faster" in flat(out)


@pytest.mark.parametrize("fail_on", [None, "wrong", "slower", "inconclusive"])
@pytest.mark.parametrize(
    "sides",
    [
        ("alone", "lonely"),
        ("before.csv", "slower"),
        ("before,same", "slower,after.csv"),
        ("before", "lonely"),
        ("no-new", "--arms", f"{BASE},{NEW}"),
        # Twice as slow, and neither has rounds for an interval.
        ("few", "slow"),
        ("slow", "--arms", f"{BASE},{NEW}"),
        # Nor a twin, so nothing could have failed.
        ("noisy", "--arms", f"{BASE},{NEW}"),
    ],
)
def test_what_cannot_be_judged_is_no_pass_for_who_asked_for_a_judgement(
    command: Command, tmp_path: Path, sides: tuple[str, ...], fail_on: str | None
) -> None:
    write(tmp_path / "no-new", [times(BASE, 10.0, 1), times(NEW, 8.0, 1, 64)])
    write(tmp_path / "slow", [times(arm, us, 7, rounds=3) for arm, us in ((BASE, 10.0), (TWIN, 10.0), (NEW, 16.0))])
    status, out, err = command(*sides, *(() if fail_on is None else ("--fail-on", fail_on)))
    if fail_on in (None, "wrong"):
        assert (status, err) == (0, "")
    else:
        assert status == ExitCode.INCONCLUSIVE
        assert err.startswith(f"nccl-bench: nothing could be judged, so --fail-on {fail_on} does not pass: ")
        assert err.count("\n") == 1
    assert out


def test_what_the_candidate_lacks_is_as_open_as_what_is_not_sure(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "less", lines(seed=30, sizes=(8,)))
    write(tmp_path / "odd", [*lines(), times(BASE, 10.0, 1, 64)])
    for sides in (("before", "less"), ("odd", "--arms", f"{BASE},{NEW}")):
        status, out, err = command(*sides, "--fail-on", "inconclusive")
        assert (status, err.count("\n")) == (ExitCode.INCONCLUSIVE, 1)
        assert "not compared everywhere" in err
        assert "inconclusive" not in out
        # Of what is compared, nothing is slower.
        assert command(*sides, "--fail-on", "slower")[0] == ExitCode.OK
    # What it has more than the baseline is no loss.
    assert command("less", "before", "--fail-on", "inconclusive")[0] == ExitCode.OK
    assert command("odd", "--arms", f"{NEW},{BASE}", "--fail-on", "inconclusive,wrong")[0] == ExitCode.OK


def test_what_went_wrong_in_a_run_is_told_with_its_side(command: Command, tmp_path: Path) -> None:
    out = flat(command("before,hung", "wrong")[1])
    assert "Failures" in out
    assert "- before 2: HANG: all_reduce bfloat16 sum in-place 64 B, arm stream-free, rank 3 on node7" in out
    assert "- after: WRONG: wrong results in 1 cell of stream-free; first all_reduce" in out
    assert json.loads(command("crashed", "before", "--format", "json")[1])["failures"] == [
        "before: CRASH: all_reduce bfloat16 sum in-place 64 B, arm stream-free, rank 1 on node7: ncclSystemError"
    ]
    assert "- HANG: all_reduce" in command("hung", "--arms", f"{BASE},{NEW}")[1]
    assert "- after: HANG: 1 row of the summary without a time" in flat(command("before", "hung.csv")[1])
    # The arm that was wrong is the one that is missing.
    write(tmp_path / "bad", [times(BASE, 10.0, 1), wrong(arm=NEW), *lines(sizes=(8,))])
    out = flat(command("bad", "--arms", f"{BASE},{NEW}")[1])
    assert f"no time of {NEW} gated all_reduce bfloat16 sum in-place 1K" in out
    assert f"no time of {BASE}" not in out
    assert "Failures" not in command("before", "slower")[1]


def test_what_a_run_did_not_measure_is_told_with_its_side(command: Command, tmp_path: Path) -> None:
    large = Skipped(case=case(2**34), reason="its buffers do not fit")
    write(tmp_path / "partly", [*lines(seed=31), large], left_out=["torch has no all_to_all"])
    out = flat(command("before", "partly")[1])
    assert "Not measured - after: torch has no all_to_all - after: all_reduce" in out
    assert "16G" in out.partition("Not measured")[2] or "skipped, its buffers do not fit" in out
    assert "- torch has no all_to_all" in command("partly", "--arms", f"{BASE},{NEW}")[1]
    (tmp_path / "partly.csv").write_text(summary_csv(run([*lines(seed=34), large])))
    assert "- before: skipped: 1 case" in flat(command("partly.csv", "before")[1])
    # What all runs say is said once.
    write(tmp_path / "other", lines(seed=32), left_out=["torch has no all_to_all"])
    assert "- before, after: torch has no all_to_all" in flat(command("partly", "other")[1])


def test_doubts_about_a_run_are_doubts_about_its_comparison(command: Command, tmp_path: Path) -> None:
    paths = [
        {"collective": "all_reduce", "arm": arm, "eager": "the same calls", "graph": "others"} for arm in (BASE, NEW)
    ]
    worker = {"paths": paths, "other_nccl_libraries": ["/other/libnccl.so"], "transport": {"path": "/ours/libnccl.so"}}
    doubtful = [*lines(seed=33), *(times(arm, 10.0, 33, 64, wrong=None) for arm in (BASE, NEW, "torch"))]
    odd = [times(BASE, 10.0, 33, 512, discarded=3), times("torch", 10.0, 33, 8, discarded=5)]
    write(tmp_path / "doubtful", [*doubtful, *odd], worker=worker)
    within = flat(command("doubtful", "--arms", f"{BASE},{NEW}")[1])
    between = flat(command("before", "doubtful")[1])
    for text, side in ((within, ""), (between, "after: ")):
        assert f"- {side}A second libnccl is loaded: /other/libnccl.so." in text
        assert f"- {side}{NEW} and {BASE} run the same path in all_reduce (gated): the same calls." in text
        # Of cells that are not compared there are no doubts.
        assert "The gate opened" not in text
    # Of the arms that are compared, with the one that they are compared with.
    assert "Not checked" not in between
    assert "Not checked: 2 cells" in within
    swapped = flat(command("doubtful", "--arms", f"{NEW},{BASE}")[1])
    assert f"{BASE} and {NEW} run the same path" in swapped
    other = flat(command("doubtful", "--arms", f"torch,{NEW}")[1])
    assert "same path" not in other
    assert "The gate opened before all calls of a batch were queued, most often for torch gated" in other
    # Relative to the shared arm, its cells count.
    write(tmp_path / "shared", [replace(line, discarded=2) if line.arm == BASE else line for line in measured(lines())])
    between = flat(command("same", "shared")[1])
    assert f"most often for {BASE} (after) gated all_reduce bfloat16 8 (2 times; 2 cells affected)" in between
    # Of two arms across the sides each is looked at on its own side.
    crossed = flat(command("doubtful", "before", "--arms", f"{NEW},{BASE}")[1])
    assert "The gate opened" not in crossed
    write(tmp_path / "old", [*lines(), times("torch", 10.0, 1, 8, discarded=5)])
    assert "torch (after)" in flat(command("doubtful", "old", "--arms", f"{NEW},torch")[1])
    assert "The gate opened" not in flat(command("old", "same", "--arms", f"{NEW},{NEW}")[1])


def test_the_thresholds_that_a_run_was_measured_for_decide_within_it(command: Command, tmp_path: Path) -> None:
    config = meta(arms=[BASE, NEW])["config"] | {"threshold": "30%", "limits": [{"threshold": 0.4, "sizes": ":64"}]}
    write(tmp_path / "tolerant", lines(), config=config)
    (tmp_path / "limits.toml").write_text('threshold = "5%"\n')

    def thresholds(*options: str) -> list[float]:
        return [cell["threshold"] for cell in cells(command("tolerant", *options, "--format", "json"))]

    pair = ("--arms", f"{BASE},{NEW}")
    assert thresholds(*pair) == [0.4, 0.3]
    assert thresholds(*pair, "--threshold", "10%") == [0.1, 0.1]
    assert thresholds(*pair, "--limits", "limits.toml") == [0.05, 0.05]
    # Which of two runs' would it be?
    assert thresholds("same") == [0.02, 0.02]
    write(tmp_path / "odd", lines(), config=config | {"threshold": "much"})
    assert "odd cannot be judged: its config: threshold is 'much'" in refused(command("odd", *pair), ExitCode.SETUP)


def test_the_threshold_given_goes_before_the_one_of_the_file(command: Command, tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text('threshold = "5%"\n[[limits]]\nsizes = ":512"\nthreshold = "30%"\n')
    for options, expected in (((), 0.05), (("--threshold", "3%"), 0.03)):
        found = cells(command("before", "same", "--limits", "limits.toml", *options, "--format", "json"))
        assert [cell["threshold"] for cell in found] == [0.3, expected]


@pytest.mark.parametrize(
    "sides",
    [
        ("before", "before"),
        ("before", "./before"),
        ("before,before", "slower"),
        ("before,same", "slower,faster,same"),
        ("before", "copy"),
        ("copy", "link"),
        ("before.csv", "before.csv"),
        # A summary, wherever it lies, of a run that is given too.
        ("before,before.csv", "slower"),
        ("before", "before.csv"),
        ("after.csv,same", "copy.csv"),
    ],
)
def test_a_run_is_no_second_witness_of_itself(command: Command, tmp_path: Path, sides: tuple[str, ...]) -> None:
    shutil.copytree(tmp_path / "before", tmp_path / "copy")
    (tmp_path / "link").symlink_to(tmp_path / "before")
    shutil.copy(tmp_path / "after.csv", tmp_path / "copy.csv")
    message = refused(command(*sides))
    assert "are the same run" in message
    assert "give each once" in message
    assert message.count("\n") == 1


def test_an_import_that_was_cut_is_compared_with_a_warning(command: Command, tmp_path: Path) -> None:
    whole = (NCCL_TESTS / "all_reduce.txt").read_text()
    (tmp_path / "cut.txt").write_text(whole[: whole.index("# Out of bounds")])
    imported = importers.read(tmp_path / "cut.txt")
    write(tmp_path / "cut", imported.lines, **imported.meta())
    for side in ("cut.txt", "cut"):
        out = flat(command(NCCL_TESTS / "all_reduce.json", side)[1])
        assert "after: the run is interrupted, so a part of it is missing" in out
        assert "- after: cut.txt: the table has no end" in out
    events = flat(command(NCCL_TESTS / "all_reduce-per-iteration.txt", NCCL_TESTS / "all_reduce.txt")[1])
    assert "- before: nccl-tests ran with -I" in events
    assert "after: nccl-tests ran with -I" not in events


def test_figures_of_a_cpu_are_said_to_be_such(command: Command, tmp_path: Path) -> None:
    for seed, name in ((51, "cpu-1"), (52, "cpu-2")):
        config = meta(arms=[BASE, NEW], device="cpu")["config"]
        write(tmp_path / name, lines(seed=seed), config=config)
    for sides in (("cpu-1", "cpu-2"), ("cpu-1", "--arms", f"{BASE},{NEW}")):
        for form in ("terminal", "markdown", "json"):
            assert flat(command(*sides, "--format", form)[1]).count(CPU_NOTICE) == 1
    assert CPU_NOTICE not in command("before", "same")[1]


def test_columns_without_room_are_in_the_json(command: Command) -> None:
    out = flat(command("before", "slower", "--width", "30")[1])
    assert "or give --format json" in out
    assert "summary.csv" not in out


@pytest.mark.parametrize("fail_on", ["slower", "inconclusive", "slower,inconclusive,wrong"])
def test_a_run_of_one_arm_has_nothing_to_gate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fail_on: str
) -> None:
    def run_once(*options: str) -> tuple[int, str, str]:
        arguments = ["run", "--device", "cpu", "--nproc", "2", "--arms", "torch", "--baseline", "torch", *options]
        monkeypatch.setattr(sys, "argv", ["nccl-bench", *arguments, "--dry-run"])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        return int(end.value.code or 0), printed.out, printed.err

    assert f"--fail-on is '{fail_on}', and a run of one arm compares nothing" in refused(run_once("--fail-on", fail_on))
    # What is wrong needs no second arm.
    assert run_once("--fail-on", "wrong")[0] == run_once()[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["before"], "give one run and --arms BASELINE,CANDIDATE, or a second side"),
        (["before,same", "--arms", f"{BASE},{NEW}"], "one side alone"),
        (["before", "same", "slower"], "3 sides were given"),
        (["before", ","], "a side is empty"),
        (["before", "same", "--arms", "one"], "--arms is 'one': give two arms"),
        (["before", "same", "--arms", "a,b,c"], "--arms is 'a,b,c': give two arms"),
        (["before", "same", "--arms", f"{NEW},"], "give two"),
        (["before", "same", "--arms", f"{NEW},nobody"], f"same has no arm 'nobody': it has {BASE}, {NEW}"),
        (["before", "same,alone", "--arms", f"{NEW},{BASE}"], f"alone has no arm '{BASE}'"),
        (["before", "--arms", f"{NEW},nobody"], "before has no arm 'nobody'"),
        (["before", "--arms", f"{NEW},{NEW}"], "twice: give two different arms"),
        (["before", "--arms", f"{BASE},{NEW}", "--shared", BASE], "--shared is for two sides"),
        (["before", "same", "--shared", "nobody"], "before has no arm 'nobody'"),
        (["before", "same", "--shared", NEW, "--arms", f"{NEW},{NEW}"], "which is one of --arms"),
        (["before.csv", "--arms", f"{BASE},{NEW}"], "has only medians"),
        (["before", "same", "--threshold", "much"], "threshold is 'much'"),
        (["before", "same", "--limits", "nowhere.toml"], "nowhere.toml cannot be read: No such file"),
        (["before", "same", "--fail-on", "faster"], "slower, inconclusive, wrong"),
        (["before", "same", "--width", "5"], "--width is 5"),
    ],
)
def test_a_wrong_use_is_one_line_that_says_what_is_right(command: Command, arguments: list[str], says: str) -> None:
    message = refused(command(*arguments))
    assert says in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("nowhere", None, "cannot be read"),
        ("empty.csv", "", "is no summary of nccl-bench"),
        ("empty.json", "", ""),
        ("foreign.csv", "a,b\n1,2\n", "is no summary of nccl-bench"),
        ("foreign.txt", "hello", ""),
    ],
)
def test_what_is_no_run_is_one_line_and_no_traceback(
    command: Command, tmp_path: Path, name: str, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    for sides in (("before", name), (name, "before"), (f"before,{name}", "same")):
        message = refused(command(*sides), ExitCode.SETUP)
        assert message.count(name) == 1
        assert says in message
        assert message.count("\n") == 1


def test_a_newer_run_is_one_line(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "newer", lines(), schema=99)
    message = refused(command("before", "newer"), ExitCode.SETUP)
    assert "with schema 99" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("text", ["slower", "slower,wrong", " wrong , inconclusive", "slower,slower"])
def test_what_to_fail_on_is_a_list(text: str) -> None:
    assert set(parse_fail_on(text)) == {FailOn(name.strip()) for name in text.split(",")}


@pytest.mark.parametrize("text", ["", "faster", "slower;wrong", "Slower"])
def test_what_nothing_fails_on_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="slower, inconclusive, wrong"):
        parse_fail_on(text)
