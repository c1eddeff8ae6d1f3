"""GitHub Actions: annotations on standard error, and the summary of the job."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.headline import Headline
from nccl_bench.cli import app, main
from nccl_bench.cli.github import show_on_github
from nccl_bench.records.run import Run
from nccl_bench.report.github import MOST_ANNOTATIONS, MOST_SUMMARY_BYTES, Annotation, Level, annotations_of
from tests.support.synthetic_runs import crash, run, sweep, wrong

ROOT = Path(__file__).parents[3]
RUN = ROOT / "results" / "h200-x2-all-reduce"


def report(*arguments: str, **environ: str) -> tuple[str, list[str], int]:
    """Return standard output, the workflow commands on standard error, and the exit code of ``report``."""
    result = CliRunner(env=environ).invoke(app, ["report", str(RUN), *arguments])
    return result.stdout, [line for line in result.stderr.splitlines() if line.startswith("::")], result.exit_code


def test_every_letter_that_ends_a_command_is_escaped() -> None:
    annotation = Annotation(level=Level.ERROR, title="a: b, c\n%", message="100 %\r\nnext: line, more::")
    assert annotation.command() == "::error title=a%3A b%2C c%0A%25::100 %25%0D%0Anext: line, more::"


@pytest.mark.parametrize("format", ["terminal", "json", "csv", "bencher"])
def test_annotations_leave_standard_output_as_it_is(format: str) -> None:
    plain, none, _ = report("--format", format, GITHUB_ACTIONS="")
    output, commands, code = report("--format", format, GITHUB_ACTIONS="true")
    assert (output, none, code) == (plain, [], 0)
    assert commands
    assert all(re.match(r"::(error|warning|notice) title=[^:,]*::\S", command) for command in commands)
    if format in ("json", "bencher"):
        json.loads(output)


def test_failures_are_errors_and_the_headline_is_one_notice() -> None:
    analysis = Analysis.of(run([*sweep(), wrong(arm="torch"), crash(message="line 1\nline 2")]))
    shown = list(annotations_of(analysis.headline, analysis.warnings))
    errors = [each.message for each in shown if each.level is Level.ERROR]
    assert any("WRONG" in message for message in errors)
    assert any("CRASH" in message for message in errors)
    (notice,) = (each for each in shown if each.level is Level.NOTICE)
    assert analysis.headline.title in notice.message
    assert all("\n" not in each.command() for each in shown)


def test_an_error_that_ends_the_command_is_annotated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["nccl-bench", "report", "absent:\nrun"])
    for value, count in (("true", 1), ("", 0)):
        monkeypatch.setenv("GITHUB_ACTIONS", value)
        with pytest.raises(SystemExit):
            main()
        commands = [line for line in capsys.readouterr().err.splitlines() if line.startswith("::")]
        assert len(commands) == count
        assert all(line.startswith("::error title=nccl-bench::absent:%0Arun is not a run") for line in commands)


def test_github_shows_ten_of_a_level_and_the_last_one_counts_the_rest() -> None:
    headline = Headline(title="", problems=(), lines=(), facts=())
    few, many = (
        [each.message for each in annotations_of(headline, [str(number) for number in range(count)])][:-1]
        for count in (MOST_ANNOTATIONS, 25)
    )
    assert few == [str(number) for number in range(MOST_ANNOTATIONS)]
    assert len(many) == MOST_ANNOTATIONS
    assert many[-1].startswith("16 more like this")


def test_the_summary_of_the_job_gets_the_markdown(tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    output, commands, _ = report("--format", "json", GITHUB_ACTIONS="", GITHUB_STEP_SUMMARY=str(file))
    markdown, _, _ = report("--format", "markdown", GITHUB_ACTIONS="", GITHUB_STEP_SUMMARY="")
    assert file.read_text() == f"before\n{markdown}"
    assert commands == []
    json.loads(output)


def test_a_summary_that_is_too_large_loses_what_is_folded(tmp_path: Path) -> None:
    file, headline = tmp_path / "summary.md", Analysis.of(Run.load(RUN)).headline
    text = "shown\n\n<details>" + "x" * MOST_SUMMARY_BYTES
    show_on_github(lambda: headline, [], lambda: text, {"GITHUB_STEP_SUMMARY": str(file)})
    assert file.read_text() == "shown\n\n"


def test_a_summary_that_cannot_be_written_is_a_message(tmp_path: Path) -> None:
    result = CliRunner(env={"GITHUB_STEP_SUMMARY": str(tmp_path)}).invoke(app, ["report", str(RUN)])
    assert result.exit_code == 0
    assert f"nccl-bench: GITHUB_STEP_SUMMARY is {tmp_path}, which cannot be written: Is a directory" in result.stderr
