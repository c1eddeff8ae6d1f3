"""``nccl-bench list``: the tables of the values that options can have."""

import sys
from collections.abc import Iterable
from importlib import metadata
from typing import Annotated

import typer

from nccl_bench.cli.completion import offer
from nccl_bench.cli.options import RUN_OPTIONS, TableFormat, Width
from nccl_bench.config.nearest import instead_of
from nccl_bench.config.routes import override, parse_routes
from nccl_bench.config.user_arms import GROUP
from nccl_bench.errors import UsageError
from nccl_bench.report import Format


def _section_names() -> Iterable[str]:
    from nccl_bench.report.listing import sections

    return sections()


def list_(
    sections: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SECTION", help="Titles of sections. Default: all.", autocompletion=offer(_section_names)
        ),
    ] = None,
    routes: Annotated[str | None, typer.Option(help=RUN_OPTIONS["routes"].full_help)] = None,
    format: TableFormat = Format.TERMINAL,
    width: Width = None,
) -> None:
    """Print the values that options can have.

    The sections: arms, user_arms, collectives, dtypes, redops, scenarios, timings, devices, probes, presets, routes.
    """
    from nccl_bench.report import listing

    points = metadata.entry_points(group=GROUP)
    tables = listing.sections(
        override(parse_routes("routes", routes or "")), {point.name: point.value for point in sorted(points)}
    )
    names = sections or list(tables)
    for name in names:
        if name not in tables:
            raise UsageError(f"there is no section {name!r} to list: {instead_of(name, tables)}")
    if routes is not None and "routes" not in names:
        raise UsageError("--routes changes only the section routes: add routes to the sections, or leave --routes out")
    chosen = {name: tables[name] for name in names}
    if format is Format.CSV and len(chosen) > 1:
        raise UsageError(
            f"--format csv was given with {len(chosen)} sections, and each has columns of its own: give one of "
            f"{', '.join(chosen)}"
        )
    print(listing.reports(sys.stdout, width)[format](chosen), end="")
