"""``nccl-bench import``: what nccl-tests measured, as a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nccl_bench.config.run import resolve
from nccl_bench.errors import ExitCode


def import_(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Its JSON (-J) or all that it prints; several of as many ranks: one run."),
    ],
    name: Annotated[str, typer.Option(help="The name of the run.")] = "nccl-tests",
    out: Annotated[Path | None, typer.Option(help="The directory of the run. Default: results/<time>-<name>.")] = None,
) -> None:
    """Record what nccl-tests measured as a run, to be reported and compared like any other.

    Its times are averages over ranks, not maxima, unless it was told otherwise (`-a 3`). Exit code 4: it has wrong
    results, which are recorded all the same.
    """
    from nccl_bench.analysis.summary import failures
    from nccl_bench.records.importers import merge, read
    from nccl_bench.records.run import Run
    from nccl_bench.records.store import RunStore
    from nccl_bench.report import notes
    from nccl_bench.report.export import CsvReport

    # A run's name has rules, and a run has them checked with the rest.
    resolve("cuda", {"name": name})
    imported = merge([read(file) for file in files])
    meta = imported.meta(name)
    store = RunStore.create(
        out,
        name=name,
        command=["nccl-bench", *sys.argv[1:]],
        **{key: meta[key] for key in ("config", "launch", "left_out", "environment")},
    )
    for line in imported.lines:
        store.append(line)
    store.update(**{key: meta[key] for key in ("started", "finished", "status", "worker")})
    run = Run.load(store.path)
    store.write_summary(CsvReport().render(run))
    print(f"recorded in {store.path}")
    for text in (*notes.failures(run), *imported.left_out):
        print(f"nccl-bench: {text}", file=sys.stderr)
    code = failures(run.lines)
    if code is not ExitCode.OK:
        raise SystemExit(int(code))
