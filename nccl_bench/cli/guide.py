"""``nccl-bench guide``: the documentation in the terminal."""

import shutil
from collections.abc import Mapping
from importlib.resources import files
from typing import Annotated

import typer

from nccl_bench.cli.completion import offer
from nccl_bench.cli.options import Width
from nccl_bench.config.nearest import instead_of
from nccl_bench.config.options import Panel
from nccl_bench.errors import UsageError

# Topic -> its line in the list of topics. Each topic is a file in nccl_bench/guide: the file in EXAMPLES, or Markdown.
TOPICS: Mapping[str, str] = {
    "tutorial": "From an empty machine to a verdict, in eight steps",
    "doctor": "What this machine has, and what will go wrong",
    "source-trees": "How to compare two source trees, or two runs",
    "engines": "What a refactor costs or gains: from two wheels of an engine to the answer",
    "scenarios": "The work around the collective: layers, a product, a second communicator, a late rank",
    "libraries": "How to compare two libnccl files",
    "gate": "How to make a gate in CI",
    "resume": "How to continue a run that was interrupted or killed",
    "nodes": "How to run on several nodes",
    "slurm": "How to run under Slurm",
    "traces": "Which messages a model sends, from what torch and NCCL recorded of it",
    "models": "How to measure the messages of a model, from its shape or from a preset",
    "nccl-tests": "How to read and compare the output of nccl-tests",
    "user-arms": "How to bring your own communicator",
    "example": "A communicator to start from, as a Python file",
    "sglang-coordinator": "SGLang's group coordinator as a user arm, as a Python file",
    "page": "How to read the web page of a result, and show a picture in a pull request",
    "formats": "JSON, CSV, Markdown, Bencher, Perfetto and GitHub: results for programs and pull requests",
    "report-schema": "The JSON Schema of --format json, as a JSON file",
    "record-schema": "The JSON Schema of run.json and of the lines of samples.jsonl, as a JSON file",
    "secrets": "What is recorded of the environment, and reports without names of hosts and paths",
    "verdicts": "What faster, slower, equivalent and inconclusive mean",
    "stream-order": "What verify tries, and what its table means",
    "audit": "How to find races in a program: what audit sees, reports and misses",
    "audit-rules": "Which accesses an audit calls a race, and which wait is missing",
    "measuring": "How times are measured, and what happens when things go wrong",
    "options": "Every option of every command, and the names in a TOML file",
    "reference": "Arms, timings, probes, collectives, columns, files and exit codes",
    "glossary": "The words that code, columns and messages use",
    "architecture": "The folders of the code, and how data flows through them",
}
# Topic -> its file, for topics that are not Markdown. Users redirect these pages into files.
EXAMPLES: Mapping[str, str] = {
    "example": "my_communicator.py",
    "sglang-coordinator": "sglang_coordinator.py",
    "report-schema": "report.schema.json",
    "record-schema": "record.schema.json",
}
# The most characters in a line: longer lines are hard to read, even in a wide terminal.
_WIDEST = 120


def file_of(topic: str) -> str:
    """Return the name of the file of ``topic``, one of ``TOPICS``."""
    return EXAMPLES.get(topic, f"{topic}.md")


def page(topic: str) -> str:
    """Return the text of ``topic``, one of ``TOPICS``: Markdown, or the file of ``EXAMPLES``."""
    return files("nccl_bench").joinpath("guide", file_of(topic)).read_text(encoding="utf-8")


def guide(
    topic: Annotated[
        str | None,
        typer.Argument(
            metavar="TOPIC",
            help="The page to print. Default: the list of topics.",
            autocompletion=offer(lambda: TOPICS),
        ),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Print the page as plain Markdown.", rich_help_panel=Panel.OUTPUT)
    ] = False,
    width: Width = None,
) -> None:
    """Print a page of the documentation, or the list of topics.

    Start with `nccl-bench guide tutorial`. `nccl-bench guide example > my_communicator.py` writes the example.
    """
    if topic is None:
        longest = max(map(len, TOPICS))
        print("\n".join(f"{name:<{longest}}  {line}" for name, line in TOPICS.items()))
        print("\nnccl-bench guide TOPIC prints one topic. A link to verdicts.md means the topic verdicts.")
        print("nccl-bench and python -m nccl_bench are the same command.")
        return
    if topic not in TOPICS:
        raise UsageError(f"the guide has no topic {topic!r}: {instead_of(topic, TOPICS)}")
    if raw or topic in EXAMPLES:
        print(page(topic), end="")
        return

    from rich.console import Console
    from rich.markdown import Markdown

    columns = width or min(shutil.get_terminal_size((100, 24)).columns, _WIDEST)
    Console(width=columns).print(Markdown(page(topic), hyperlinks=False))
