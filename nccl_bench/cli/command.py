"""The class of all commands: their help, the spelling of each option, and suggestions for mistyped options."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from nccl_bench.cli.help import help_text
from nccl_bench.config.nearest import nearest
from nccl_bench.errors import UsageError
from nccl_bench.report.escaping import visible

# The key of the spellings in the `meta` of Typer's context.
_SPELLINGS = "nccl_bench.spellings"
# How Typer says that a value is not a number.
_NO_NUMBER = re.compile(r"valid (integer|float|number)")
# A number of seconds with its unit, as in `timeout 6s`.
_SECONDS = re.compile(r"(\d+(?:\.\d+)?) ?s(?:ec(?:onds?)?)?")


class CommandGroup(TyperGroup):
    """The commands together."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with _harmless_messages():
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        with _harmless_messages():
            return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _print_help(self, ctx)


class Command(TyperCommand):
    """A command whose messages name options as the user typed them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_SPELLINGS] = dict(_spellings(self.params, args))
        typed = list(args)  # the parser empties `args`
        try:
            with _harmless_messages():
                return super().parse_args(ctx, args)
        except Exception as error:
            # Typer has its own copies of these classes since 0.26; before, the classes were click's.
            kind, name, param = type(error).__name__, getattr(error, "option_name", None), getattr(error, "param", None)
            if kind == "NoSuchOption" and isinstance(name, str):
                raise UsageError(self._unknown(name)) from error
            no_number = _NO_NUMBER.search(str(getattr(error, "message", "")))
            if kind == "BadParameter" and param is not None and no_number:
                wanted = "a whole number" if no_number[1] == "integer" else "a number"
                raise UsageError(_no_number(param, wanted, typed)) from error
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _print_help(self, ctx)

    def _unknown(self, name: str) -> str:
        options = [spelling for param in self.params for spelling in (*param.opts, *param.secondary_opts)]
        near = nearest(name, [option for option in options if option.startswith("--")])
        suggestion = "" if near is None else f"did you mean {near!r}? "
        return f"{self.name} has no option {name}: {suggestion}`nccl-bench {self.name} --help` lists all options"


@contextmanager
def _harmless_messages() -> Iterator[None]:
    """Make control characters visible in the messages of Typer's errors, which quote what the user typed."""
    try:
        yield
    except Exception as error:
        message = getattr(error, "message", None)
        if isinstance(message, str):
            error.message = visible(message)  # type: ignore[attr-defined]  # of Typer's errors
        raise


def _print_help(command: Any, ctx: Any) -> None:
    # Typer expects that the text is printed here and not given to the formatter.
    typer.echo(help_text(command, command.get_usage(ctx), command.get_params(ctx)), nl=False)


def spellings(ctx: Any) -> dict[str, str]:
    """Return how the user spelled each option of the command line, such as ``-b``, by the option's name in Python."""
    return dict(ctx.meta[_SPELLINGS])


def _no_number(param: Any, wanted: str, args: Sequence[str]) -> str:
    """Return the message about an option in ``args`` whose value is not the number ``wanted``."""
    # If an option is given twice, the last value counts.
    for index, arg in reversed(list(enumerate(args))):
        for _, spelling in _spellings([param], [arg]):
            value = "".join(args[index + 1 : index + 2]) if arg == spelling else arg.removeprefix(spelling).lstrip("=")
            near = _SECONDS.fullmatch(value)
            return f"{spelling} is {value!r}: " + (f"did you mean {near[1]}?" if near else f"give {wanted}")
    return f"{param.opts[0]}: give {wanted}"


def _spellings(params: Sequence[Any], args: Sequence[str]) -> Iterator[tuple[str, str]]:
    for arg in args:
        if arg == "--":
            return
        for param in params:
            # An argument has no spelling.
            for spelling in filter(lambda each: each.startswith("-"), (*param.opts, *param.secondary_opts)):
                is_short = not spelling.startswith("--")
                if arg == spelling or arg.startswith(spelling if is_short else f"{spelling}="):
                    yield param.name, spelling
