"""The class of all commands: their help, the spelling of each option, and suggestions for unknown options."""

from collections.abc import Iterator, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from nccl_bench.cli.help import help_text
from nccl_bench.config.nearest import nearest
from nccl_bench.errors import UsageError

# The key, in the `meta` of Typer's context, of the spellings.
_SPELLINGS = "nccl_bench.spellings"


class CommandGroup(TyperGroup):
    """The commands together."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _print_help(self, ctx)


class Command(TyperCommand):
    """A command whose messages name options as the user typed them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_SPELLINGS] = dict(_spellings(self.params, args))
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            # Typer has its own copy of the class NoSuchOption since 0.26; before, the class was click's.
            name = getattr(error, "option_name", None)
            if type(error).__name__ != "NoSuchOption" or not isinstance(name, str):
                raise
            raise UsageError(self._unknown(name)) from error

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _print_help(self, ctx)

    def _unknown(self, name: str) -> str:
        options = [spelling for param in self.params for spelling in (*param.opts, *param.secondary_opts)]
        near = nearest(name, [option for option in options if option.startswith("--")])
        suggestion = "" if near is None else f"did you mean {near!r}? "
        return f"{self.name} has no option {name}: {suggestion}`nccl-bench {self.name} --help` lists all options"


def _print_help(command: Any, ctx: Any) -> None:
    # Typer expects that the text is printed here and not given to the formatter.
    typer.echo(help_text(command, command.get_usage(ctx), command.get_params(ctx)), nl=False)


def spellings(ctx: Any) -> dict[str, str]:
    """Return how the user spelled each option of the command line, such as ``-b``, by the option's name in Python."""
    return dict(ctx.meta[_SPELLINGS])


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
