"""GitHub Actions: annotations and the summary of the job, printed where they change no other output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nccl_bench.cli.messages import print_message, shortened
from nccl_bench.safety.secrets import masked

if TYPE_CHECKING:
    from nccl_bench.analysis.headline import Headline
    from nccl_bench.report.github import Annotation


def annotate_error(message: str, environ: Mapping[str, str] = os.environ) -> None:
    """Annotate the workflow run of GitHub Actions with the error that ends the command; elsewhere do nothing."""
    if environ.get("GITHUB_ACTIONS") == "true":
        from nccl_bench.report.github import Annotation, Level

        _print(Annotation(level=Level.ERROR, title="nccl-bench", message=shortened(masked(message, environ))))


def show_on_github(
    headline: Callable[[], Headline],
    warnings: Sequence[str],
    markdown: Callable[[], str],
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Annotate the workflow run of GitHub Actions, and add the report to the summary of the job; elsewhere do nothing.

    ``headline`` and ``markdown`` make these parts of the report. GitHub reads both streams of a step, so annotations go
    to standard error, and JSON or CSV on standard output stays whole.
    """
    from nccl_bench.report.github import MOST_SUMMARY_BYTES, annotations_of

    if environ.get("GITHUB_ACTIONS") == "true":
        for annotation in annotations_of(headline(), warnings):
            _print(annotation)
    if file := environ.get("GITHUB_STEP_SUMMARY"):
        text = markdown().encode()
        try:
            room = MOST_SUMMARY_BYTES - (Path(file).stat().st_size if Path(file).exists() else 0)
            if len(text) > room:
                text = text.partition(b"<details>")[0][:room]
            with Path(file).open("ab") as opened:
                opened.write(text)
        except OSError as error:
            print_message(f"GITHUB_STEP_SUMMARY is {file}, which cannot be written: {error.strerror}")


def _print(annotation: Annotation) -> None:
    print(annotation.command(), file=sys.stderr, flush=True)
