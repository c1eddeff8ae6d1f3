"""``nccl-bench list``: what there is to choose from."""

from __future__ import annotations

import shutil
from importlib import metadata
from typing import Annotated

import typer

from nccl_bench.catalog.routes import override
from nccl_bench.config.run import route_overrides
from nccl_bench.config.user_arms import GROUP
from nccl_bench.errors import UsageError


def list_(
    sections: Annotated[
        list[str] | None, typer.Argument(metavar="SECTION", help="Titles of sections. Default: all.")
    ] = None,
    routes: Annotated[
        str | None,
        typer.Option(help="Show the routes with these overrides, [OPERATION.]MODE=BACKEND, comma-separated."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    width: Annotated[int | None, typer.Option(help="Columns of the tables. Default: the terminal's.")] = None,
) -> None:
    """Print what there is to choose from.

    The sections: arms, user_arms, collectives, dtypes, redops, timings, devices, probes, routes.
    """
    from json import dumps

    from nccl_bench.cli.session import Output
    from nccl_bench.report import listing

    output = Output(json=json, width=width)
    points = metadata.entry_points(group=GROUP)
    there = listing.sections(
        override(route_overrides(routes or ())), {point.name: point.value for point in sorted(points)}
    )
    names = sections or list(there)
    for name in names:
        if name not in there:
            raise UsageError(f"there is no section {name!r} to list: give one or more of {', '.join(there)}")
    if routes is not None and "routes" not in names:
        raise UsageError("--routes shows in the section routes, which is not among those given: add it")
    chosen = {name: there[name] for name in names}
    if output.json:
        print(dumps(chosen, indent=2))
    else:
        print(listing.listing_text(chosen, output.width or shutil.get_terminal_size((80, 24)).columns), end="")
