"""The text of ``--help``."""

from __future__ import annotations

import shlex

import pytest
from typer.testing import CliRunner

from nccl_bench.cli import app
from nccl_bench.cli.help import HELP_PAGES
from tests.support.command_line import COMMANDS, spellings


def help_of(*command: str, columns: int = 80) -> str:
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(app, [*command, "--help"]).output


@pytest.mark.parametrize("name", HELP_PAGES)
def test_help_opens_with_examples_and_the_options_that_people_use(name: str) -> None:
    text = help_of(name)
    assert len(HELP_PAGES[name].examples) == 5
    titles = [line for line in text.splitlines() if line and line[0].isupper()]
    in_order = ["Examples", "Options people use", "Output"]
    assert [title for title in titles if title in in_order] == in_order
    for example in HELP_PAGES[name].examples:
        assert f"\n  {example}\n" in text


@pytest.mark.parametrize("name", HELP_PAGES)
def test_every_example_and_every_option_of_a_help_page_exists(name: str) -> None:
    known = spellings(name)
    assert {*HELP_PAGES[name].common} <= known
    for example in HELP_PAGES[name].examples:
        program, command, *words = shlex.split(example.partition(" > ")[0])
        assert (program, command) == ("nccl-bench", name)
        assert {word for word in words if word.startswith("-")} <= known


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_one_row_in_the_help_and_no_line_is_too_wide(name: str) -> None:
    lines = help_of(name).splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line.strip().partition("  ")[0].replace(",", " ").split() for line in lines if line.startswith("  -")]
    for each in COMMANDS[name].params:
        if each.param_type_name == "option":
            assert sum(each.opts[-1] in row for row in rows) == 1
    # In a wide terminal too, lines are short enough to read.
    assert max(map(len, help_of(name, columns=300).splitlines())) <= 100


def test_without_arguments_the_commands_are_listed() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    for name in COMMANDS:
        assert f"\n  {name} " in result.output
