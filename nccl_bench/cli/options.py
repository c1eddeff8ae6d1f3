"""The options that several commands share, and the options that are made from a configuration class."""

import inspect
import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from nccl_bench.cli.completion import offer
from nccl_bench.cli.destination import endings_of
from nccl_bench.cli.gate import FailOn
from nccl_bench.cli.launching import DEFAULT_CPU_RANKS
from nccl_bench.config.nearest import instead_of
from nccl_bench.config.options import Option, Panel, listed, options_of
from nccl_bench.config.recorded_code import OPTION
from nccl_bench.config.run import RunConfig
from nccl_bench.config.user_arms import parse_arm_options
from nccl_bench.errors import UsageError
from nccl_bench.report import COMPARISON_FORMATS, TABLE_FORMATS, VERIFICATION_FORMATS, Detail, Format

# The smallest width of a report, in characters: a size and the times of the baseline need this many.
NARROWEST = 20
_output_option = partial(typer.Option, rich_help_panel=Panel.OUTPUT)
_launch_option = partial(typer.Option, rich_help_panel=Panel.LAUNCH)
RUN_OPTIONS = options_of(RunConfig)  # other commands use the help of some of these options


def out_option(default: str) -> Any:
    """Return the option ``--out`` of a command that records something."""
    return _output_option("--out", help=f"Directory for the record. It must hold no record yet. Default: {default}.")


def format_option(formats: Collection[Format]) -> Any:
    """Return the option ``--format`` of a command that prints its result in any of ``formats``."""

    def parse(text: str) -> Format:
        if text not in formats:
            raise UsageError(f"--format is {text!r}: {instead_of(text, formats)}")
        return Format(text)

    return _output_option(
        help=f"How to print the result: {listed(formats)}.",
        metavar="|".join(formats),
        parser=parse,
        autocompletion=offer(lambda: formats),
    )


def width_option(narrowest: int) -> Any:
    """Return the option ``--width`` of a command whose tables need at least ``narrowest`` characters."""

    def check(width: int | None) -> int | None:
        if width is not None and width < narrowest:
            raise UsageError(f"--width is {width}: give at least {narrowest}")
        return width

    return _output_option(help="Characters in a line. Default: the width of the terminal.", callback=check)


def to_option(formats: Collection[Format]) -> Any:
    """Return the option ``--to`` of a command that prints its result in any of ``formats``."""
    return _output_option(
        "--to",
        metavar="FILE",
        help=f"File for the result, such as page.html. Without --format, its ending chooses the format: "
        f"{listed(endings_of(formats))}. Default: the result is printed.",
    )


FormatOption = Annotated[Format, format_option(tuple(Format))]
# For commands with `--to`: without `--format`, the ending of the file chooses the format.
FormatOrEnding = Annotated[Format | None, format_option(tuple(Format))]
ToFile = Annotated[Path | None, to_option(tuple(Format))]
ComparisonFormat = Annotated[Format | None, format_option(COMPARISON_FORMATS)]
ComparisonFile = Annotated[Path | None, to_option(COMPARISON_FORMATS)]
TableFormat = Annotated[Format, format_option(TABLE_FORMATS)]
VerificationFormat = Annotated[Format | None, format_option(VERIFICATION_FORMATS)]
VerificationFile = Annotated[Path | None, to_option(VERIFICATION_FORMATS)]
Width = Annotated[int | None, width_option(NARROWEST)]
Quiet = Annotated[bool, _output_option("-q", "--quiet", help="Print the headline alone. Only for a terminal.")]
AuditQuiet = Annotated[
    bool, _output_option("-q", "--quiet", help="Print the headline and the races alone. Only for a terminal.")
]
Full = Annotated[
    bool, _output_option("--full", help="Print every table and all advice, not only the answer. Only for a terminal.")
]
Anonymous = Annotated[
    bool,
    _output_option(
        "--anonymous",
        help="Leave out the names of hosts, paths, and the UUIDs of GPUs, for a report that becomes public.",
    ),
]
FailOnText = Annotated[
    str | None,
    _output_option(
        help=f"What makes the command fail, comma-separated: {listed(FailOn)}. A wrong result always does.",
        autocompletion=offer(lambda: FailOn, several=True),
    ),
]
# The options besides --arm that set user arms.
_TREES = {
    "before_tree": "A source tree, from which the --arm without a name is loaded as the arm `before`. For example: "
    "--before-tree main --after-tree branch --arm engine.pynccl:PyNcclCommunicator.",
    "after_tree": "A second source tree, from which the same --arm is loaded as the arm `after`.",
}
Nproc = Annotated[
    int | None,
    _launch_option(help=f"The number of ranks on this node. Default: one for each GPU; {DEFAULT_CPU_RANKS} on cpu."),
]


# A record does not hold the values of all variables. These options give them again.
_GIVEN_AGAIN = ("--env", "--arm")
Resume = Annotated[
    Path | None,
    _output_option(
        help="The directory of an incomplete record. Only its missing work is done, with the options of the record. "
        "The machine and the versions must be the same. Give --env and --arm again only for values that the record "
        "does not hold. Default: a new record.",
    ),
]


AllowRecordedCode = Annotated[
    bool,
    _output_option(
        OPTION,
        help="With --resume: run the code that the record names, such as the files of user arms. Give it only for a "
        "record that you made yourself.",
    ),
]


def detail_of(quiet: bool, full: bool) -> Detail:
    """Return the amount of text that ``--quiet`` and ``--full`` ask for."""
    if quiet and full:
        raise UsageError("--quiet and --full exclude each other: give one of them")
    return Detail.QUIET if quiet else Detail.FULL if full else Detail.USUAL


def check_resume(context: typer.Context, directory: Path, *allowed: str) -> None:
    """Raise ``UsageError`` if ``directory`` is missing, or if options besides --resume and ``allowed`` were given."""
    sources = {parameter: context.get_parameter_source(str(parameter.name)) for parameter in context.command.params}
    flags = [parameter.opts[-1] for parameter, source in sources.items() if source and source.name == "COMMANDLINE"]
    given = [flag for flag in flags if flag not in ("--resume", OPTION, *_GIVEN_AGAIN, *allowed)]
    if given:
        *names, last = allowed
        raise UsageError(
            f"--resume continues with the options of the record: leave out {', '.join(given)}. Only "
            f"{', '.join(names)} and {last} can be combined with it"
        )
    if not os.path.isdir(directory):
        what = "is a file" if os.path.lexists(directory) else "does not exist"
        raise UsageError(
            f"--resume is {directory}, which {what}: give the directory of a record. For a new record, leave out "
            "--resume"
        )


def refuse_without_resume(allow_recorded_code: bool) -> None:
    """Raise ``UsageError`` if ``allow_recorded_code`` is true. Only commands without --resume call this."""
    if allow_recorded_code:
        raise UsageError(f"{OPTION} is for --resume: leave it out")


def with_options(config: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace ``**options`` in a command's signature by the options of a configuration class.

    Typer reads a command's options from the signature of its function.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [
            *(
                _parameter(
                    name,
                    option.argument,
                    option.panel,
                    option.full_help,
                    *option.flags,
                    autocompletion=offer_choices(option) if option.choices else None,
                )
                for name, option in options_of(config).items()
            ),
            *(_parameter(name, str, Panel.ARMS, text) for name, text in _TREES.items()),
            *(each.replace(kind=each.KEYWORD_ONLY) for each in own if each.kind is not each.VAR_KEYWORD),
        ]
        parameters.sort(key=lambda each: _panel_position(each.annotation))
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorate


def offer_choices(option: Option) -> Callable[[str], list[str]]:
    """Return the function that completes a value of ``option``."""
    return offer(lambda: option.choices, several=option.several)


def _parameter(
    name: str, argument: Any, panel: Panel, text: str, *flags: str, autocompletion: Any = None
) -> inspect.Parameter:
    info = typer.Option(*flags, help=text, rich_help_panel=panel, autocompletion=autocompletion)
    annotation = Annotated[argument | None, info]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _panel_position(annotation: Any) -> int:
    """Return the position of a parameter in --help: arguments first, then panel by panel."""
    # The context of a command is no option.
    panel = annotation.__metadata__[0].rich_help_panel if hasattr(annotation, "__metadata__") else None
    return list(Panel).index(panel) if panel else -1


def layer_of(options: Mapping[str, Any]) -> dict[str, object]:
    """Return the options of a command line in the form that ``parse_options`` takes as a layer."""
    layer = dict(options)
    trees = [layer.pop(name) for name in _TREES]
    layer["user_arms"] = parse_arm_options(layer["user_arms"] or (), *trees) or None
    if layer.get("variables") is not None:
        layer["variables"] = _variables(layer["variables"])
    return layer


def _variables(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for name, equals, _ in pairs:
        if not equals:
            raise UsageError(f"--env is {name!r}: give NAME=VALUE")
    return {name: value for name, _, value in pairs}
