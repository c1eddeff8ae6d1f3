"""The text of ``--help``: examples and the options people use first, then all other options by group.

Typer's own layout gives a third of the line to the types of the options, and has no place for examples at the top.
"""

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import cleandoc
from typing import Any

import typer

# The column of the help texts. An option that is longer has its text on the next line.
_TEXT_COLUMN = 24
# The most characters in a line: longer lines are hard to read.
_WIDEST = 100
_COMMON = "Options people use"


@dataclass(frozen=True, slots=True, kw_only=True)
class HelpPage:
    """The examples and options that the help of a command shows first."""

    examples: Mapping[str, str]  # command line -> what it does
    common: tuple[str, ...]  # the long spellings of the options that people use, in the order of the help


_TREES = "--before-tree main --after-tree branch --arm pkg.comm:Comm"
# The help pages of the commands with many options, by the name of the command.
HELP_PAGES: Mapping[str, HelpPage] = {
    "run": HelpPage(
        examples={
            "nccl-bench run": "Compare the default arms on all GPUs; without a GPU, on the CPU.",
            f"nccl-bench run {_TREES}": "Compare a class in two source trees: before and after a change.",
            "nccl-bench run --arms stream-free,torch -b 8 -e 128M -f 2 -d half": "Compare two arms, with the short "
            "options of nccl-tests.",
            "nccl-bench run --preset llama3-70b-tp --launches 5": "Measure what a model sends, in five launches for "
            "the surest verdicts.",
            "nccl-bench run --collective all_gather,reduce_scatter --dry-run": "Show the plan, its memory and its "
            "time. Measure nothing.",
        },
        common=(
            "--arms",
            "--arm",
            "--before-tree",
            "--after-tree",
            "--collective",
            "--sizes",
            "--begin",
            "--end",
            "--factor",
            "--dtype",
            "--preset",
            "--model",
            "--timing",
            "--launches",
            "--max-seconds",
            "--nproc",
            "--out",
            "--format",
            "--dry-run",
        ),
    ),
    "verify": HelpPage(
        examples={
            "nccl-bench verify": "Verify every arm that can run here.",
            "nccl-bench verify --arm mine=my_communicator.py:MyCommunicator": "Verify a communicator of yours.",
            f"nccl-bench verify {_TREES}": "Verify a class in two source trees: before and after a change.",
            "nccl-bench verify --arms stream-free --probes producer,consumer": "Run two probes of one arm.",
            "nccl-bench verify --format markdown > verification.md": "Write the table for a pull request.",
        },
        common=("--arms", "--arm", "--before-tree", "--after-tree", "--probes", "--nproc", "--out", "--format"),
    ),
    "audit": HelpPage(
        examples={
            "nccl-bench audit serve.py": "Run a script on all GPUs under watch, and report its races.",
            "nccl-bench audit --nproc 2 serve.py tiny": "Run it on two ranks. What is behind SCRIPT belongs to SCRIPT.",
            "nccl-bench audit -m my_engine.bench": "Run a module.",
            "nccl-bench audit --suppress known.txt serve.py": "Accept the races that a file lists.",
            "nccl-bench audit --format markdown serve.py > audit.md": "Write the report for a pull request.",
        },
        common=("--module", "--nproc", "--suppress", "--sample", "--timeout", "--format", "--to"),
    ),
    "compare": HelpPage(
        examples={
            "nccl-bench compare results/before results/after": "Compare a run after a change with a run before it.",
            "nccl-bench compare before-1,before-2 after-1,after-2": "Compare several runs on each side: the surest "
            "verdicts.",
            "nccl-bench compare results/run --arms torch,stream-free": "Compare two arms of one run.",
            "nccl-bench compare all_reduce_perf.json results/run": "Compare a run with the output of nccl-tests.",
            "nccl-bench compare results/before results/after --fail-on slower": "Exit with 7 if anything is slower, "
            "for CI.",
        },
        common=("--arms", "--shared", "--threshold", "--allow-mismatch", "--fail-on", "--format"),
    ),
}


def help_text(command: Any, usage: str, parameters: Sequence[Any]) -> str:
    """Return the help of ``command``, a command or group of Typer, for the width of the terminal.

    ``usage`` is the line of usage. ``parameters`` are all parameters, also those that Typer adds.
    """
    width = min(shutil.get_terminal_size((80, 24)).columns, _WIDEST)
    first, *rest = _paragraphs(command)
    page = HELP_PAGES.get(command.name)
    blocks = [[usage], _wrapped(first, width)]
    if page is not None:
        examples = (line for text, meaning in page.examples.items() for line in _example(text, meaning, width))
        blocks.append([_title("Examples"), *examples])
    blocks += [_wrapped(paragraph, width) for paragraph in rest]
    if commands := getattr(command, "commands", {}):
        rows = [_row(name, _paragraphs(each)[0], width) for name, each in commands.items()]
        blocks.append([_title("Commands"), *(line for row in rows for line in row)])
    for title, members in _groups(parameters, page.common if page else ()).items():
        blocks.append(
            [_title(title), *(line for each in members for line in _row(_spelling(each), _meaning(each), width))]
        )
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _paragraphs(command: Any) -> list[str]:
    return [" ".join(each.split()) for each in cleandoc(command.help or "").split("\n\n")]


def _groups(parameters: Sequence[Any], common: Sequence[str]) -> dict[str, list[Any]]:
    """Return the parameters by the title of their group: arguments, common options, then the panels of Typer."""
    groups: dict[str, list[Any]] = {"Arguments": [], _COMMON: []}
    for each in parameters:
        if getattr(each, "hidden", False):
            continue
        if each.param_type_name == "argument":
            groups["Arguments"].append(each)
        elif {*each.opts} & {*common}:
            groups[_COMMON].append(each)
        else:
            # With an older Typer, --help itself is an option of click, which has no panel.
            panel = getattr(each, "rich_help_panel", None) or "Options"
            groups.setdefault(str(panel), []).append(each)
    groups[_COMMON].sort(key=lambda each: common.index(each.opts[-1]))
    # The help option, which every command has, is the last.
    options = groups.pop("Options", [])
    return {title: members for title, members in (*groups.items(), ("Options", options)) if members}


def _row(name: str, meaning: str, width: int) -> Iterator[str]:
    lines = textwrap.wrap(meaning, width - _TEXT_COLUMN, break_on_hyphens=False)
    if len(name) + 4 > _TEXT_COLUMN:
        yield f"  {name}"
    else:
        yield f"  {name}".ljust(_TEXT_COLUMN) + (lines.pop(0) if lines else "")
    yield from (" " * _TEXT_COLUMN + line for line in lines)


def _spelling(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name.upper()
        return str(name)
    names = ", ".join((*sorted(parameter.opts, key=len), *parameter.secondary_opts))
    # The last word of the longest name stands for the value: --max-seconds SECONDS.
    return names if parameter.is_flag else f"{names} {max(parameter.opts, key=len).rpartition('-')[2].upper()}"


def _meaning(parameter: Any) -> str:
    text = " ".join((parameter.help or "").split())
    default = parameter.default
    if default is None or default is False or callable(default) or "Default" in text:
        return text
    return f"{text} Default: {getattr(default, 'value', default)}."


def _example(command: str, meaning: str, width: int) -> Iterator[str]:
    # A command is never wrapped, so that it can be copied.
    yield f"  {command}"
    yield from textwrap.wrap(meaning, width, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)


def _title(text: str) -> str:
    # Typer removes the style where the output is no terminal.
    return typer.style(text, bold=True)
