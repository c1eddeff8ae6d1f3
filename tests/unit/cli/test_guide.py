"""``nccl-bench guide``: the list of topics, a page, and the example."""

from __future__ import annotations

from typer.testing import CliRunner

from nccl_bench.cli import app
from nccl_bench.cli.guide import TOPICS, page
from nccl_bench.errors import UsageError


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["guide", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_without_a_topic_it_lists_every_topic_with_its_line() -> None:
    lines = printed().splitlines()
    assert [line.split(maxsplit=1) for line in lines[: len(TOPICS)]] == [list(topic) for topic in TOPICS.items()]


def test_a_page_is_rendered_within_the_width() -> None:
    lines = printed("glossary", "--width", "60").splitlines()
    assert max(map(len, lines)) <= 60
    assert "**" not in "".join(lines)


def test_raw_prints_the_markdown_as_it_is() -> None:
    assert printed("verdicts", "--raw") == page("verdicts")


def test_the_example_is_printed_as_python_to_be_written_to_a_file() -> None:
    compile(printed("example"), "my_communicator.py", "exec")


def test_an_unknown_topic_is_refused_with_the_topics_that_exist() -> None:
    error = CliRunner().invoke(app, ["guide", "nothing"]).exception
    assert isinstance(error, UsageError)
    assert str(error) == f"the guide has no topic 'nothing': allowed are {', '.join(TOPICS)}"
