"""``nccl-bench compare`` as a user and a script meet it: what it prints, and how it exits."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from synthetic_runs import case, meta, run, samples, wrong

from nccl_bench.analysis.summary import summary_rows
from nccl_bench.cli import main
from nccl_bench.cli.compare import compare
from nccl_bench.cli.gate import FailOn, gate, parse_fail_on
from nccl_bench.collectives import Timing
from nccl_bench.errors import ExitCode, UsageError
from nccl_bench.records import nccl_tests
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Line, Samples, dump
from nccl_bench.report.export import CsvReport

NCCL_TESTS = Path(__file__).parents[1] / "data" / "nccl-tests"
BASE, TWIN, NEW = "dedicated-stream", "dedicated-stream:twin", "stream-free"
Command = Callable[..., tuple[int, str, str]]


def times(
    arm: str, us: float, seed: int, size: int = 1024, rounds: int = 25, noise: float = 0.003, **changes: Any
) -> Samples:
    """An arm's times in one case, of a machine that slows down by a third on the way."""
    rng = np.random.default_rng([seed, size, sum(arm.encode())])
    found = us * np.linspace(1.0, 1.3, rounds) * np.exp(rng.normal(0, noise, rounds))
    return samples(arm, case=case(size), samples_us=tuple(found.tolist()), **changes)


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
    write(tmp_path / "wrong", [*lines(seed=8), wrong(arm=NEW, case=case(64))])
    (tmp_path / "before.csv").write_text(CsvReport().render(run(lines(), arms=[BASE, NEW])))

    def run_command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nccl-bench", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        return int(end.value.code or 0), printed.out, printed.err

    return run_command


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
    assert [(cell["who"], cell["size_bytes"], cell["verdict"]) for cell in found] == [
        (f"{NEW} after against before", size, verdict) for size in (8, 1024)
    ]
    for cell in found:
        assert cell["ratio"] == pytest.approx(ratio, rel=0.01)
        assert cell["ratio_low"] <= cell["ratio"] <= cell["ratio_high"]
    status, out, err = command("before", after)
    assert (status, err) == (0, "")
    assert f"{after} against before. By one run a side, relative to {BASE} of the same round." in flat(out)
    assert f"8 to 1K {verdict}" in flat(out)


def test_two_arms_of_one_run_are_judged_by_pairs(command: Command) -> None:
    status, out, err = command("before", "--arms", f"{BASE},{NEW}")
    assert (status, err) == (0, "")
    assert f"{NEW} against {BASE}, by pairs of the same round" in flat(out)
    assert "8 to 1K faster 0.80x" in flat(out)
    assert "noise" in out
    (first, _) = cells(command("before", "--arms", f"{NEW},{BASE}", "--format", "json"))
    assert (first["verdict"], first["ratio"]) == ("slower", pytest.approx(1.25, rel=0.01))
    # The other arm's twin is none of this baseline's.
    assert "noise_floor" not in first


def test_cells_that_one_of_two_arms_lacks_are_listed(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "odd", [*lines(sizes=(8,)), times(BASE, 10.0, 1, 64), times(NEW, 8.0, 1, 128)])
    out = flat(command("odd", "--arms", f"{BASE},{NEW}")[1])
    assert f"not in both: {BASE} gated all_reduce bfloat16 sum in-place 64" in out
    assert f"not in both: {NEW} gated all_reduce bfloat16 sum in-place 128" in out


def test_several_runs_a_side_are_judged_by_how_they_vary(command: Command) -> None:
    status, out, err = command("before,same", "slower,faster")
    assert (status, err) == (0, "")
    assert "slower and faster against before and same. By 2 and 2 runs a side." in flat(out)
    assert f"{BASE} after against before" in out
    assert "inconclusive" in out
    assert "More runs a side narrow it" in flat(out)
    status, out, _ = command("before,same,before", "slower", "--arms", f"{NEW},{NEW}")
    assert "By 3 and 1 runs a side, relative to" in flat(out)
    assert "8 to 1K slower 1.1" in flat(out)


def test_without_an_arm_in_common_it_says_why_there_is_no_verdict(command: Command) -> None:
    status, out, err = command("alone", "alone")
    assert (status, err) == (0, "")
    assert "No verdict: two runs are not paired" in flat(out)
    assert "--shared" in out
    assert re_ratio(out) == ["1.00x"]
    assert "confidence" not in out


def re_ratio(text: str) -> list[str]:
    return [word for word in text.split() if word.endswith("x") and word[0].isdigit()]


def test_cells_of_one_side_alone_are_listed(command: Command) -> None:
    status, out, _ = command("before", "noisy")
    assert status == 0
    assert f"before alone has {NEW} gated all_reduce bfloat16 sum in-place 8" in flat(out)
    assert json.loads(command("before", "noisy", "--format", "json")[1])["one_side_only"] == [
        f"before alone has {NEW} gated all_reduce bfloat16 sum in-place 8"
    ]


def test_two_sides_with_nothing_in_common_say_so(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "other", lines(sizes=(2**20,)))
    status, out, err = command("before", "other")
    assert (status, err) == (0, "")
    assert "The two sides have no case, timing and arm in common." in flat(out)
    assert "other alone has" in out
    # Which is no pass for who asked for a judgement.
    assert command("before", "other", "--fail-on", "inconclusive")[0] == ExitCode.INCONCLUSIVE
    assert command("before", "other", "--fail-on", "slower,wrong")[0] == ExitCode.OK


def test_a_run_that_was_killed_is_compared_with_a_warning(command: Command, tmp_path: Path) -> None:
    killed = write(tmp_path / "killed", lines(), status="running")
    with (killed / "samples.jsonl").open("a") as file:
        file.write('{"kind": "samp')
    out = flat(command("before", "killed")[1])
    assert "ends within line 7, which is ignored" in out
    assert "the run is running" in out


@pytest.mark.parametrize("sides", [("before.csv", "slower"), ("slower", "before.csv"), ("before.csv", "before.csv")])
def test_a_summary_is_a_side_without_a_verdict(command: Command, sides: tuple[str, str]) -> None:
    status, out, err = command(*sides)
    assert (status, err) == (0, "")
    assert "No verdict: only medians are left of a run" in flat(out)
    assert "a summary has no intervals" in flat(out)
    # Relative to the baseline all the same.
    assert [row.arm for row in summary_rows(run(lines())) if row.arm == TWIN]
    assert f"{TWIN} after" not in out
    assert f"{NEW} after against before" in out


def test_what_nccl_tests_wrote_is_a_side(command: Command) -> None:
    plain, graph = NCCL_TESTS / "all_reduce.txt", NCCL_TESTS / "all_reduce.json"
    found = cells(command(plain, graph, "--format", "json"))
    assert found
    assert {cell["who"] for cell in found} == {"nccl-tests after against before"}
    assert all("verdict" not in cell for cell in found)


def test_what_nccl_tests_wrote_is_compared_with_an_arm(command: Command, tmp_path: Path) -> None:
    path = NCCL_TESTS / "all_reduce.txt"
    measured = json.loads(command(path, path, "--format", "json")[1])["cells"][0]
    ours = times(NEW, measured["ratio"] * 10, 1, measured["size_bytes"], timing=Timing(measured["timing"]))
    fields = {name: measured.get(name) for name in ("collective", "dtype", "redop", "placement", "root", "count")}
    write(tmp_path / "ours", [Samples(**{**_fields(ours), "case": case(measured["size_bytes"], **fields)})])
    status, out, err = command(path, "ours", "--arms", f"nccl-tests,{NEW}", "--allow-mismatch")
    assert (status, err) == (0, "")
    assert f"{NEW} after against nccl-tests before" in out
    assert len(re_ratio(out)) == 1


def test_times_that_are_not_the_slowest_rank_s_are_warned_of(command: Command, tmp_path: Path) -> None:
    text = (NCCL_TESTS / "all_reduce.json").read_text()
    for name, option in (("average", "1"), ("maximum", "3")):
        document = json.loads(text)
        document["args"] += ["-a", option]
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
        # What `import` makes of it.
        imported = nccl_tests.read(tmp_path / f"{name}.json")
        write(tmp_path / name, imported.lines, **imported.meta())
        (tmp_path / f"{name}.csv").write_text(CsvReport().render(Run.load(tmp_path / name)))
    (tmp_path / "table.txt").write_text((NCCL_TESTS / "all_reduce.txt").read_text())

    def here(*sides: str) -> list[str]:
        found: list[str] = json.loads(command(*sides, "--allow-mismatch", "--format", "json")[1])["warnings"]
        return [text.partition(" Here: ")[2] for text in found if "averages over ranks unless" in text]

    assert here("average.json", "before") == ["average (average.json); maximum (before)"]
    assert here("before,same", "average") == ["maximum (before, same); average (average)"]
    assert here("table.txt", "before") == ["not recorded (table.txt); maximum (before)"]
    assert here("before.csv", "average.csv") == ["maximum (before.csv); not recorded (average.csv)"]
    assert here("maximum.json", "average.json") == ["maximum (maximum.json); average (average.json)"]
    assert here("maximum.json", "before") == here("before", "maximum") == here("maximum", "maximum.json") == []
    assert here("average.json", "table.txt") == here("average", "average.csv") == here("before", "before.csv") == []
    # In words, and without anybody's leave.
    assert "so nccl-tests may look faster than it is" in flat(command("maximum.json", "average.json")[1])


def _fields(line: Samples) -> dict[str, Any]:
    return {name: getattr(line, name) for name in Samples.__slots__}


# -- every option is read --------------------------------------------------------------------------------------------


def test_the_arms_may_be_chosen(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "renamed", [times(arm, us, 9) for arm, us in ((BASE, 10.0), ("torch", 4.0), ("other", 8.0))])
    (found,) = cells(command("before", "renamed", "--arms", f" {NEW} , torch ", "--format", "json"))
    assert (found["who"], found["verdict"]) == (f"torch after against {NEW} before", "faster")
    assert found["ratio"] == pytest.approx(0.5, rel=0.01)


def test_the_shared_arm_may_be_chosen(command: Command, tmp_path: Path) -> None:
    for name, drift in (("one", 1.0), ("two", 1.5)):
        write(tmp_path / name, [times(arm, us * drift, 9) for arm, us in ((BASE, 10.0), (NEW, 8.0), ("torch", 9.0))])
    default = cells(command("one", "two", "--format", "json"))
    assert [cell["who"].split()[0] for cell in default] == [NEW, "torch"]
    chosen = cells(command("one", "two", "--shared", "torch", "--format", "json"))
    assert [cell["who"].split()[0] for cell in chosen] == [BASE, NEW]
    assert {cell["verdict"] for cell in chosen} == {"equivalent"}
    several = command("one,one", "two,two", "--shared", "torch")[1]
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
    outputs = {form: command("before", "slower", "--format", form)[1] for form in ("tables", "markdown", "json")}
    assert outputs["markdown"].startswith("**nccl-bench compare**: slower against before.")
    assert "| gated | 8 to 1K | slower | 1.10x |" in outputs["markdown"]
    assert outputs["tables"] == command("before", "slower")[1]
    assert len(json.loads(outputs["json"])["cells"]) == 2
    assert all(output.endswith("\n") for output in outputs.values())
    assert "--format is csv" in refused(command("before", "slower", "--format", "csv"))
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
        ({"launch": meta()["launch"] | {"world_size": 8}}, "ranks: 4 (before); 8 (other)"),
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
    for name, of in (("known", known), ("other", known | changes)):
        write(tmp_path / name, lines(), **of)
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
        assert f"compared all the same, although they differ: {text}" in flat(out)
    # Of several runs a side, each counts.
    assert command("known,other", "known")[0] == ExitCode.USAGE
    assert "they differ" not in command("known", "known")[1]


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
        (("before", "few"), "inconclusive", 8),
        (("before", "wrong"), None, 0),
        (("before", "wrong"), "slower,inconclusive", 0),
        (("before", "wrong"), "wrong", 4),
        (("wrong", "before"), "wrong", 4),
        (("wrong", "slower"), "slower,wrong", 4),
        (("wrong", "slower"), "slower", 7),
        # What cannot be judged is no pass for who asked for a judgement.
        (("alone", "alone"), "slower", 0),
        (("alone", "alone"), "inconclusive", 8),
        (("before.csv", "slower"), "inconclusive", 8),
        (("before", "alone"), "inconclusive", 8),
        (("before", "--arms", f"{BASE},{NEW}"), "slower,inconclusive", 0),
        (("before", "--arms", f"{NEW},{BASE}"), "slower", 7),
        (("wrong", "--arms", f"{BASE},{NEW}"), "wrong", 4),
        (("noisy", "--arms", f"{NEW},{BASE}", "--threshold", "20%"), "inconclusive", 8),
        (("before,before", "slower,slower"), "slower", 7),
    ],
)
def test_the_exit_code_is_what_was_asked_for(
    command: Command, sides: tuple[str, ...], fail_on: str | None, code: int
) -> None:
    status, out, err = command(*sides, *(() if fail_on is None else ("--fail-on", fail_on)))
    assert (status, err) == (code, "")
    # Whatever the code, the tables are there.
    assert "Ratios below 1 are faster" in flat(out) or "nothing in common" in out or "On one side only" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["before"], "give one run and --arms BASELINE,CANDIDATE, or a second side"),
        (["before,same", "--arms", f"{BASE},{NEW}"], "one side alone"),
        (["before", "same", "slower"], "3 sides were given"),
        (["before", ","], "a side is empty"),
        (["before", "same", "--arms", "one"], "--arms is 'one': give two"),
        (["before", "same", "--arms", "a,b,c"], "--arms is 'a,b,c': give two"),
        (["before", "same", "--arms", f"{NEW},"], "give two"),
        (["before", "same", "--arms", f"{NEW},nobody"], f"same has no arm 'nobody': it has {BASE}, {NEW}"),
        (["before", "same,alone", "--arms", f"{NEW},{BASE}"], f"alone has no arm '{BASE}'"),
        (["before", "--arms", f"{NEW},nobody"], "before has no arm 'nobody'"),
        (["before", "--arms", f"{NEW},{NEW}"], "twice: give two different ones"),
        (["before", "--arms", f"{BASE},{NEW}", "--shared", BASE], "--shared is for two sides"),
        (["before", "same", "--shared", "nobody"], "before has no arm 'nobody'"),
        (["before", "same", "--shared", NEW, "--arms", f"{NEW},{NEW}"], "is one of --arms"),
        (["before.csv", "--arms", f"{BASE},{NEW}"], "has only medians left"),
        (["before", "same", "--threshold", "much"], "threshold is 'much'"),
        (["before", "same", "--limits", "nowhere.toml"], "nowhere.toml cannot be read as limits"),
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
    for sides in (("before", name), (name, "before"), (f"before,{name}", "before")):
        message = refused(command(*sides), ExitCode.SETUP)
        assert name in message
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


def test_the_worst_of_what_was_seen_counts() -> None:
    everything = [*FailOn, "faster", "equivalent", None]
    assert gate([], everything) is ExitCode.OK
    assert gate(FailOn, ["faster", "equivalent", None]) is ExitCode.OK
    assert gate(FailOn, []) is ExitCode.OK
    assert gate(FailOn, everything) is ExitCode.WRONG_RESULT
    assert gate([FailOn.INCONCLUSIVE, FailOn.SLOWER], everything) is ExitCode.SLOWER
    assert gate([FailOn.INCONCLUSIVE], everything) is ExitCode.INCONCLUSIVE
