"""Runs to compare, and what the tests of ``nccl-bench compare`` share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.errors import ExitCode
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Line, Samples, dump
from nccl_bench.report.csv import csv_report
from tests.support.synthetic_runs import case, meta, samples

NCCL_TESTS = Path(__file__).parents[1] / "data" / "nccl-tests"
BASE, TWIN, NEW = "dedicated-stream", "dedicated-stream:twin", "stream-free"
CompareCommand = Callable[..., tuple[int, str, str]]


def times(
    arm: str, us: float, seed: int, size: int = 1024, rounds: int = 25, noise: float = 0.003, **changes: Any
) -> Samples:
    """Return an arm's times in one case, on a machine that slows down by a third during the run."""
    rng = np.random.default_rng([seed, size, sum(arm.encode())])
    values = us * np.linspace(1.0, 1.3, rounds) * np.exp(rng.normal(0, noise, rounds))
    return samples(arm, **{"case": case(size), "samples_us": tuple(values.tolist())} | changes)


def lines(new_us: float = 8.0, seed: int = 1, drift: float = 1.0, sizes: Iterable[int] = (8, 1024)) -> list[Line]:
    arms = ((BASE, 10.0), (TWIN, 10.0), (NEW, new_us))
    return [times(arm, us * drift, seed, size) for size in sizes for arm, us in arms]


def write(path: Path, of: Iterable[Line], **changes: Any) -> Path:
    path.mkdir()
    arms = list(dict.fromkeys(line.arm for line in of if isinstance(line, Samples) and line.arm != TWIN))
    (path / "run.json").write_text(json.dumps(meta(arms=arms, baseline=arms[0]) | changes))
    (path / "samples.jsonl").write_text("".join(map(dump, of)))
    return path


def summary_csv(of: Run) -> str:
    return csv_report(Analysis.of(of))


def flat(text: str) -> str:
    return " ".join(text.split())


def refused(result: tuple[int, str, str], code: ExitCode = ExitCode.USAGE) -> str:
    """Return the message of a refusal, which is on stderr; nothing else is printed."""
    status, out, err = result
    assert status == code
    assert out == ""
    assert err.startswith("nccl-bench: ")
    return err


def cells(result: tuple[int, str, str]) -> list[dict[str, Any]]:
    assert result[2] == ""
    values: list[dict[str, Any]] = json.loads(result[1])["cells"]
    return values


def measured(of: Iterable[Line]) -> list[Samples]:
    return [line for line in of if isinstance(line, Samples)]


def ratios_in(text: str) -> list[str]:
    return [word for word in text.split() if word.endswith("x") and word[0].isdigit()]
