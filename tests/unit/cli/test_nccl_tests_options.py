"""Options of nccl-tests work here, or are answered with what to use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.nccl_tests import ANSWERS, NCCL_TESTS_OPTIONS
from nccl_bench.config.run import resolve
from tests.support.command_line import COMMANDS, ROOT, CommandLine, assert_one_message, sizes, spellings


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


def test_short_options_are_those_of_nccl_tests_and_the_usual_one_for_quiet() -> None:
    shorts = {
        spelling: parameter.name
        for parameter in COMMANDS["run"].params
        for spelling in parameter.opts
        if re.fullmatch(r"-\w", spelling)
    }
    assert shorts == {
        "-b": "begin",
        "-e": "end",
        "-i": "step",
        "-f": "factor",
        "-n": "ops_per_batch",
        "-w": "warmup",
        "-q": "quiet",
        "-o": "redops",
        "-d": "dtypes",
        "-r": "root",
        "-c": "check",
        "-T": "timeout_s",
        "-I": "per_iteration",
    }


def test_a_command_line_written_for_nccl_tests_works(command_line: CommandLine) -> None:
    written = "-b 8 -e 128 -f 4 -n 20 -w 5 -c 0 -d half -o max -r 1 -T 60 -I"
    expected = {
        "sizes": [8, 32, 128],
        "ops_per_batch": 20,
        "warmup": 5,
        "check": False,
        "dtypes": "float16",
        "redops": "max",
        "root": 1,
        "timeout_s": 60,
        "per_iteration": True,
    }
    assert command_line.observe("run", *written.split()).config == resolve("cpu", expected)
    assert sizes(command_line.observe("run", "-b", "1M", "-e", "3M", "-i", "1M")) == (2**20, 2**21, 3 * 2**20)
    everything = command_line.observe("run", "-d", "all", "-o", "all").config
    assert everything == resolve("cpu", {"dtypes": list(DTYPES), "redops": list(RedOp)})
