"""The README says what the code does: its columns, its arms, its commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from nccl_bench.analysis.summary import COLUMNS
from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.probes import PROBES
from nccl_bench.catalog.timings import Timing
from nccl_bench.cli import app
from nccl_bench.config.user_arms import ORDERS, Adapter
from nccl_bench.errors import ExitCode

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^nccl-bench (\w+) (.*?)(?:\s+#.*)?$", README, re.MULTILINE)


def rows_below(heading: str) -> dict[str, str]:
    """The two-column table whose header begins with ``heading``."""
    table = README.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    return dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", table, re.MULTILINE))


def test_every_column_of_the_summary_is_explained_in_the_same_words() -> None:
    assert rows_below("column of summary.csv") == dict(COLUMNS)


def test_every_arm_that_is_timed_and_every_timing_is_explained() -> None:
    assert list(rows_below("arm")) == [name for name, arm in ARMS.items() if arm.timed]
    assert list(rows_below("timing")) == list(Timing)


def test_every_adapter_and_order_of_an_arm_that_is_brought_is_explained() -> None:
    assert set(rows_below("adapter")) == set(Adapter)
    assert list(rows_below("order")) == list(ORDERS)


def test_the_example_is_shown_as_it_is_and_has_no_more_than_twenty_lines() -> None:
    example = (ROOT / "examples" / "my_communicator.py").read_text(encoding="utf-8")
    assert f"```python\n{example}```" in README
    assert len(example.splitlines()) <= 20


def test_every_probe_is_explained() -> None:
    assert list(rows_below("probe")) == list(PROBES)


def test_every_exit_code_that_a_command_can_end_with_is_explained() -> None:
    table = README.split("| exit code |", 1)[1].split("\n\n", 1)[0]
    assert set(re.findall(r"^\| (\d+) \|", table, re.MULTILINE)) == {str(int(code)) for code in ExitCode}


@pytest.mark.parametrize(("name", "arguments"), COMMANDS)
def test_the_commands_parse(name: str, arguments: str) -> None:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    context = command.make_context(name, shlex.split(arguments))
    assert any(value is not None for value in context.params.values())


def test_there_are_commands_to_parse() -> None:
    assert {name for name, _ in COMMANDS} == {"run", "report", "list", "verify", "import", "compare"}
