"""The pages of the guide that are generated from the code: options, reference, and two JSON Schemas.

Run ``python -m tests.support.guide_pages`` to write them again after a change. A test compares them with the code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from inspect import cleandoc
from pathlib import Path
from typing import Any

import typer

from nccl_bench.analysis.summary import COLUMNS
from nccl_bench.cli import app
from nccl_bench.cli.guide import file_of
from nccl_bench.config import toml
from nccl_bench.config.options import options_of
from nccl_bench.config.run import RunConfig
from nccl_bench.errors import ExitCode
from nccl_bench.records import json_schema
from nccl_bench.records.decoding import MOST_BYTES_OF_JSON
from nccl_bench.records.run import PROFILES
from nccl_bench.records.summary_csv import MOST_COLUMNS
from nccl_bench.report import document, listing
from nccl_bench.safety.plain_data import DEEPEST
from nccl_bench.safety.regular_files import MOST_BYTES_OF_LINE, MOST_BYTES_OF_TEXT

PAGES = Path(__file__).parents[2] / "nccl_bench" / "guide"

EXIT_CODES: Mapping[ExitCode, str] = {
    ExitCode.OK: "Everything that fits was measured, and every result is right. For `verify`: every probe passed. "
    "For `audit`: no race in what was watched.",
    ExitCode.USAGE: "The command asks for something that is not possible.",
    ExitCode.SETUP: "Set-up failed, a user arm could not be made, a worker died, nothing was measured, a program under "
    "`audit` failed, or a record could not be read.",
    ExitCode.WRONG_RESULT: "A result was wrong.",
    ExitCode.RACE: "A probe of `verify` failed. The cause is most likely a race. Or `audit` found one.",
    ExitCode.HANG: "A case hung, or a program under `audit`.",
    ExitCode.SLOWER: "Something is slower, and `--fail-on slower` was given.",
    ExitCode.INCONCLUSIVE: "Something is inconclusive or missing and `--fail-on inconclusive` was given, or "
    "`--fail-on` was given and nothing could be judged. Or `audit` saw no collective, so it found out nothing.",
    ExitCode.BLIND_DETECTOR: "`verify` is blind: the arm that must fail did not, so its passes mean nothing.",
    ExitCode.INTERRUPTED: "The command was interrupted.",
}

SECTIONS: Mapping[str, tuple[str, str]] = {
    "arms": (
        "Arms",
        "The communicators as they are compared. `timed` says whether `run` measures an arm by default, when you ask "
        "for it, or never.\n\n"
        "A coordinator routes each operation by a table (below): torch.distributed in eager code, the communicator in "
        "CUDA graphs, which are captured within its `graph_capture()`. So its eager times are those of torch and its "
        "graph times those of the communicator, plus the cost of routing.\n\n"
        "[User arms](user-arms.md) are arms of your own.",
    ),
    "scenarios": ("Scenarios", "The work around the collective; [scenarios](scenarios.md) explains them."),
    "timings": ("Timings", "The questions that a time answers."),
    "probes": (
        "Probes",
        "The experiments of `verify`; [stream order](stream-order.md) explains them. If a probe that ends "
        "processes fails, the probes after it run in new processes.",
    ),
    "collectives": (
        "Collectives",
        "Sizes, counts and bus factors are those of nccl-tests. In `all_gatherv` and `reduce_scatterv` the blocks "
        "differ in size: of two neighbouring ranks, one has half as many elements as the mean and the other the rest. "
        "Arms make them as engines do, of one broadcast or reduce for each rank in a group of NCCL. The arms of "
        "torch.distributed make these one after another, so their times say little about torch.",
    ),
    "dtypes": ("Data types", "The names of nccl-tests work too, for example `half`."),
    "redops": ("Reductions", ""),
    "devices": ("Devices", "And the timings and probes that a device does not have."),
    "presets": (
        "Presets",
        "`nccl-bench run --preset llama3-70b-tp` takes the options of a preset. In a checkout they are files in "
        "`configs/`. [Models](models.md) says what a preset of a model measures.",
    ),
    "routes": (
        "Routes of the coordinator arms",
        "`--routes eager=communicator,all_reduce.graph=torch` overrides the table, and `nccl-bench list routes` shows "
        "it.",
    ),
}


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield f"| {' | '.join(headers)} |"
    yield f"| {' | '.join('---' for _ in headers)} |"
    for row in rows:
        yield f"| {' | '.join(_cell(value) for value in row)} |"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value))
    return str(value).replace("|", "\\|")


def options_page() -> str:
    """Return the page of all commands and their options."""
    lines = [
        "# Options",
        "",
        "Every option of every command. `nccl-bench COMMAND --help` shows the same. The options of `run` can also come",
        "from a TOML file, by the keys at the end of this page.",
        "",
    ]
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        lines += [f"## nccl-bench {name}", "", cleandoc(command.help or "").replace("\b\n", ""), ""]
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        if arguments:
            rows = [(f"`{each.metavar or each.name}`", _help(each)) for each in arguments]
            lines += [*table(("argument", "meaning"), rows), ""]
        panels: dict[str, list[tuple[str, str]]] = {}
        for each in command.params:
            if each.param_type_name == "option" and not each.hidden:
                panels.setdefault(each.rich_help_panel or "Options", []).append((_spelling(each), _help(each)))
        for panel, rows in panels.items():
            lines += [*([f"### {panel}", ""] if len(panels) > 1 else []), *table(("option", "meaning"), rows), ""]
    return "\n".join([*lines, *_keys()]) + "\n"


def _keys() -> Iterator[str]:
    yield from ("## Keys of a TOML file", "")
    yield "`nccl-bench run FILE.toml` reads these keys. An option of the command line overrides them. `run.json` has"
    yield "them below `config`. [User arms](user-arms.md) are tables `[[user_arms]]`. `configs/` has examples."
    yield ""
    rows = (
        (f"`{name}`", ", ".join(f"`{flag}`" for flag in each.flags)) for name, each in options_of(RunConfig).items()
    )
    yield from table(("key", "option"), rows)


def _spelling(option: Any) -> str:
    names = [*sorted(option.opts, key=len, reverse=True), *option.secondary_opts]
    return ", ".join(f"`{name}`" for name in names)


def _help(parameter: Any) -> str:
    text = cleandoc(parameter.help or "")
    default = parameter.default
    if default not in (None, False, (), []) and not callable(default) and "Default" not in text:
        text += f" Default: {getattr(default, 'value', default)}."
    return text


_LIMITS = (
    ("bytes of `run.json`, of `verification.json`, and of JSON of another tool", f"{MOST_BYTES_OF_JSON:,}"),
    ("bytes of `findings.jsonl`, of a `summary.csv`, and of text of another tool", f"{MOST_BYTES_OF_TEXT:,}"),
    ("bytes of a line of `samples.jsonl`; the number of lines has no limit", f"{MOST_BYTES_OF_LINE:,}"),
    ("bytes of a TOML file", f"{toml.MOST_BYTES:,}"),
    ("columns of a `summary.csv`", f"{MOST_COLUMNS:,}"),
    ("levels of lists and objects within each other", f"{DEEPEST}"),
)


def reference_page() -> str:
    """Return the page of tables: what there is, the columns of ``summary.csv`` and the exit codes."""
    lines = [
        "# Reference",
        "",
        "What there is to choose from (`nccl-bench list` prints it too), and what comes out.",
        "",
    ]
    sections = listing.sections()
    for name, (title, text) in SECTIONS.items():
        lines += [f"## {title}", "", *([text, ""] if text else []), *_section(sections[name]), ""]
    codes = [(int(code), EXIT_CODES[code]) for code in ExitCode]
    lines += [
        "## Exit codes",
        "",
        *table(("exit code", "meaning"), codes),
        "",
        "`compare` and `import` pass on the 3, 4 and 6 of the runs that they read. If several apply to a run, a wrong "
        "result counts first, then a hang, then a crash.",
        "",
        "## Files of a run",
        "",
        "A run is a directory, `results/<time>-<name>/` unless `--out` names another.",
        "",
        *table(
            ("file", "content"),
            (
                (
                    "`run.json`",
                    "The configuration, the command and the machine. `launch.mode` is `torchrun` if nccl-bench started "
                    "the ranks itself, because it starts them with torch's elastic launcher, which is torchrun. If "
                    "another launcher started the ranks, it is `attached: ` and the name of that launcher.",
                ),
                (
                    "`samples.jsonl`",
                    "One line for each case, arm and timing with every sample, written when measured. A line `end` "
                    "marks the end of a case.",
                ),
                ("`summary.csv`", "One row for each case, arm and timing. An empty cell was not measured."),
                (f"`{PROFILES}/`", "With `--profile`, a trace of torch's profiler for each arm and profiled case."),
            ),
        ),
        "",
        "## Limits of files",
        "",
        "Files can come from unknown people, so every command that reads files has limits. A file beyond a limit is "
        "refused in one line. Pipes, devices and other special files are refused without being opened: save what a "
        "program prints into a file first. `report`, `compare` and `import` never run, import or open what a file "
        "names.",
        "",
        *table(("what", "most"), _LIMITS),
        "",
        "## Columns of summary.csv",
        "",
        *table(("column of summary.csv", "meaning"), ((f"`{name}`", meaning) for name, meaning in COLUMNS.items())),
    ]
    return "\n".join(lines) + "\n"


def _section(section: listing.Section) -> Iterator[str]:
    rows = [row for row in section if isinstance(row, Mapping)]
    if not rows:
        yield ", ".join(f"`{name}`" for name in section)
        return
    # A section can have two tables: routes, and what is not routed.
    for headers in dict.fromkeys(tuple(row) for row in rows):
        if headers != tuple(rows[0]):
            yield ""
        of_table = [list(row.values()) for row in rows if tuple(row) == headers]
        yield from table(headers, [[f"`{first}`", *rest] for first, *rest in of_table])


def report_schema() -> str:
    """Return the JSON Schema of ``--format json``."""
    return json.dumps(document.json_schema(), indent=2) + "\n"


def record_schema() -> str:
    """Return the JSON Schema of ``run.json`` and of the lines of ``samples.jsonl``."""
    return json.dumps(json_schema.json_schema(), indent=2) + "\n"


# Topic -> the function that returns its page.
GENERATED: Mapping[str, Callable[[], str]] = {
    "options": options_page,
    "reference": reference_page,
    "report-schema": report_schema,
    "record-schema": record_schema,
}


def main() -> None:
    """Write the generated pages and schemas."""
    for topic, text in GENERATED.items():
        (PAGES / file_of(topic)).write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
