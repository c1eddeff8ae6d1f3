"""The class of the commands ``run`` and ``verify``, which answers options of nccl-tests with what to use here."""

from typing import Any

from typer.core import TyperCommand

from nccl_bench.catalog.nccl_tests import ANSWERS
from nccl_bench.errors import UsageError


class MeasuringCommand(TyperCommand):
    """A command whose users know nccl-tests."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            # Typer has its own copy of the class NoSuchOption since 0.26; before, the class was click's.
            name = str(getattr(error, "option_name", ""))
            if name not in ANSWERS:
                raise
            raise UsageError(f"{name} is an option of nccl-tests. Here {ANSWERS[name]}") from error
