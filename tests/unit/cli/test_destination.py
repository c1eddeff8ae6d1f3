"""The option --to: a report in a file, in the format of the file's ending."""

from __future__ import annotations

from pathlib import Path

import pytest

from nccl_bench.cli import destination
from nccl_bench.cli.destination import ENDINGS, chosen_format, write_report
from nccl_bench.errors import UsageError
from nccl_bench.report import Format
from tests.support.compare_command import BASE, NEW, CompareCommand, lines, refused, write


def test_every_format_has_an_ending_or_is_printed_for_other_programs() -> None:
    assert {*ENDINGS.values()} <= {*Format}
    assert {Format.HTML, Format.SVG, Format.MARKDOWN, Format.CSV, Format.JSON} <= {*ENDINGS.values()}


@pytest.mark.parametrize(("name", "format"), ENDINGS.items())
def test_the_ending_chooses_the_format_and_a_given_format_wins(name: str, format: Format) -> None:
    assert chosen_format(None, Path(f"a{name}")) is format
    assert chosen_format(Format.CSV, Path(f"a{name}")) is Format.CSV
    assert chosen_format(None, None) is Format.TERMINAL


def test_an_unknown_ending_needs_a_format() -> None:
    with pytest.raises(UsageError, match=r"--to is page, .* give --format too, .*\.html"):
        chosen_format(None, Path("page"))
    assert chosen_format(Format.HTML, Path("page")) is Format.HTML


@pytest.mark.parametrize(
    ("format", "example"), [(Format.HTML, r"page\.html"), (Format.PERFETTO, r"run\.perfetto-trace")]
)
def test_a_page_and_a_timeline_never_fill_a_terminal(
    format: Format, example: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(destination.sys.stdout, "isatty", lambda: True)
    with pytest.raises(UsageError, match=f"--to {example}"):
        chosen_format(format, None)


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written: No such file or directory"):
        write_report("text", tmp_path / "absent" / "page.html")


def test_compare_writes_a_page_and_prints_nothing(compare: CompareCommand, tmp_path: Path) -> None:
    run = write(tmp_path / "run", lines())
    page = tmp_path / "page.html"
    status, out, err = compare(str(run), "--arms", f"{BASE},{NEW}", "--to", str(page))
    assert (status, out) == (0, "")
    assert err == f"nccl-bench: wrote {page}\n"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    message = refused(compare(str(run), "--arms", f"{BASE},{NEW}", "--to", str(tmp_path / "page")))
    assert "give --format too" in message
