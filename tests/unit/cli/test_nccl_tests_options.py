"""Options of nccl-tests that have another form here are answered with what to use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nccl_bench.catalog.nccl_tests import ANSWERS, NCCL_TESTS_OPTIONS
from tests.support.command_line import ROOT, CommandLine, assert_one_message, spellings


@pytest.mark.parametrize(("name", "answer"), ANSWERS.items())
def test_an_option_that_only_nccl_tests_has_is_answered_with_what_to_use_here(
    name: str, answer: str, command_line: CommandLine
) -> None:
    for command in ("run", "verify"):
        code, stdout, stderr = command_line.run(command, name, "2")
        assert (code, stdout) == (2, "")
        assert_one_message(stderr, (name, "nccl-tests", answer))


def test_every_option_that_an_answer_names_exists() -> None:
    named = set(re.findall(r"(?<!\w)--?[a-zA-Z][\w-]*", " ".join(ANSWERS.values())))
    assert {"--nproc", "--register", "-w"} <= named
    # These are the values of nccl-tests that the answer is for.
    assert named - spellings("run") == {"-a", "-R"}


def test_an_unknown_option_of_neither_tool_is_left_to_typer(command_line: CommandLine) -> None:
    code, _, stderr = command_line.run("run", "--nosuch")
    assert code == 2
    assert "--nosuch" in stderr
    assert "nccl-tests" not in stderr


def test_the_guide_has_every_option_and_its_answer() -> None:
    page = Path(ROOT, "nccl_bench", "guide", "nccl-tests.md").read_text(encoding="utf-8")
    for row in NCCL_TESTS_OPTIONS:
        spellings = ", ".join(f"`{spelling}`" for spelling in row.spellings)
        assert f"| {spellings} | {row.answer} |\n" in page
