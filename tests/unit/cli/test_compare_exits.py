"""Exit codes and refusals of ``nccl-bench compare``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from nccl_bench.cli import main
from nccl_bench.cli.gate import FailOn, parse_fail_on
from nccl_bench.errors import ExitCode, UsageError
from tests.support.compare_command import (
    BASE,
    NEW,
    TWIN,
    CompareCommand,
    flat,
    lines,
    refused,
    times,
    write,
)


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
        # A failure in a run of either side goes before everything else, with any --fail-on.
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
def test_the_exit_code_follows_fail_on_and_failures(
    compare: CompareCommand, tmp_path: Path, sides: tuple[str, ...], fail_on: str | None, code: int
) -> None:
    for number in (1, 2):
        write(tmp_path / f"slow-{number}", lines(new_us=16.0, seed=20 + number))
    write(tmp_path / "more", lines(seed=23, sizes=(8, 1024, 4096)))
    # One cell has too few rounds for an interval, so only the other cell could fail.
    write(tmp_path / "odd", [*lines(seed=24, sizes=(8,)), *(times(arm, 10.0, 24, rounds=3) for arm in (BASE, NEW))])
    status, out, err = compare(*sides, *(() if fail_on is None else ("--fail-on", fail_on)))
    assert (status, err) == (code, "")
    # The tables are printed with every exit code.
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
        # Twice as slow, but neither run has enough rounds for an interval.
        ("few", "slow"),
        ("slow", "--arms", f"{BASE},{NEW}"),
        # Without a twin nothing could fail.
        ("noisy", "--arms", f"{BASE},{NEW}"),
    ],
)
def test_a_comparison_that_cannot_be_judged_does_not_pass_a_gate(
    compare: CompareCommand, tmp_path: Path, sides: tuple[str, ...], fail_on: str | None
) -> None:
    write(tmp_path / "no-new", [times(BASE, 10.0, 1), times(NEW, 8.0, 1, 64)])
    write(tmp_path / "slow", [times(arm, us, 7, rounds=3) for arm, us in ((BASE, 10.0), (TWIN, 10.0), (NEW, 16.0))])
    status, out, err = compare(*sides, *(() if fail_on is None else ("--fail-on", fail_on)))
    if fail_on in (None, "wrong"):
        assert (status, err) == (0, "")
    else:
        assert status == ExitCode.INCONCLUSIVE
        assert err.startswith(f"nccl-bench: nothing could be judged, so --fail-on {fail_on} does not pass: ")
        assert err.count("\n") == 1
    assert out


def test_a_missing_candidate_counts_as_inconclusive(compare: CompareCommand, tmp_path: Path) -> None:
    write(tmp_path / "less", lines(seed=30, sizes=(8,)))
    write(tmp_path / "odd", [*lines(), times(BASE, 10.0, 1, 64)])
    for sides in (("before", "less"), ("odd", "--arms", f"{BASE},{NEW}")):
        status, out, err = compare(*sides, "--fail-on", "inconclusive")
        assert (status, err.count("\n")) == (ExitCode.INCONCLUSIVE, 1)
        assert "a candidate is missing in some cases" in err
        assert "inconclusive" not in out
        # Nothing that is compared is slower.
        assert compare(*sides, "--fail-on", "slower")[0] == ExitCode.OK
    # Cells that only the candidate has do not matter.
    assert compare("less", "before", "--fail-on", "inconclusive")[0] == ExitCode.OK
    assert compare("odd", "--arms", f"{NEW},{BASE}", "--fail-on", "inconclusive,wrong")[0] == ExitCode.OK


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
        # A summary of a run that is given too, in any place.
        ("before,before.csv", "slower"),
        ("before", "before.csv"),
        ("after.csv,same", "copy.csv"),
    ],
)
def test_a_run_given_twice_is_refused(compare: CompareCommand, tmp_path: Path, sides: tuple[str, ...]) -> None:
    shutil.copytree(tmp_path / "before", tmp_path / "copy")
    (tmp_path / "link").symlink_to(tmp_path / "before")
    shutil.copy(tmp_path / "after.csv", tmp_path / "copy.csv")
    message = refused(compare(*sides))
    assert "are the same run" in message
    assert "give each run once" in message
    assert message.count("\n") == 1


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
    # Wrong results need no second arm.
    assert run_once("--fail-on", "wrong")[0] == run_once()[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["before"], f"only one run was given: before has the arms {BASE} and {NEW}: compare two of them"),
        (["before,same", "--arms", f"{BASE},{NEW}"], "only one side was given"),
        (["before", "same", "slower"], "3 sides were given"),
        (["before", ","], "a side is empty"),
        (["before", "same", "--arms", "one"], "--arms is 'one': give two arms"),
        (["before", "same", "--arms", "a,b,c"], "--arms is 'a,b,c': give two arms"),
        (["before", "same", "--arms", f"{NEW},"], "give two"),
        (["before", "same", "--arms", f"{NEW},nobody"], f"same has no arm 'nobody': allowed are {BASE}, {NEW}"),
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
def test_wrong_usage_is_refused_in_one_line_with_the_right_usage(
    compare: CompareCommand, arguments: list[str], says: str
) -> None:
    message = refused(compare(*arguments))
    assert says in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("nowhere", None, "cannot be read"),
        ("empty.csv", "", "is not a summary of nccl-bench"),
        ("empty.json", "", ""),
        ("other.csv", "a,b\n1,2\n", "is not a summary of nccl-bench"),
        ("other.txt", "hello", ""),
    ],
)
def test_a_path_without_a_run_is_refused_in_one_line(
    compare: CompareCommand, tmp_path: Path, name: str, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    for sides in (("before", name), (name, "before"), (f"before,{name}", "same")):
        message = refused(compare(*sides), ExitCode.SETUP)
        assert message.count(name) == 1
        assert says in message
        assert message.count("\n") == 1


def test_a_newer_run_is_refused_in_one_line(compare: CompareCommand, tmp_path: Path) -> None:
    write(tmp_path / "newer", lines(), schema=99)
    message = refused(compare("before", "newer"), ExitCode.SETUP)
    assert "with schema 99" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("text", ["slower", "slower,wrong", " wrong , inconclusive", "slower,slower"])
def test_fail_on_is_a_list(text: str) -> None:
    assert set(parse_fail_on(text)) == {FailOn(name.strip()) for name in text.split(",")}


@pytest.mark.parametrize("text", ["", "faster", "slower;wrong", "Slower"])
def test_an_unknown_value_of_fail_on_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="slower, inconclusive, wrong"):
        parse_fail_on(text)
