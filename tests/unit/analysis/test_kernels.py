"""The kernels that NCCL ran for two compared arms: the fact of the headline, and the columns of the summary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.joined_launches import join_launches
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.kernels import Kernel, Kernels
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples
from tests.support.synthetic_runs import run, sweep

RING = Kernels.of([Kernel(algorithm="RING", protocol="LL", channels=4)])
NVLS = Kernels.of([Kernel(algorithm="NVLS", protocol="SIMPLE", channels=16)])
SYMMETRIC = Kernels.of([Kernel(special="symmetric AllReduce_AGxLL_R", channels=4)])
SIZES = (8, 1024, 2**16, 2**20)
ARMS = ("dedicated-stream", "torch")


def made(kernels_of: Callable[[Samples], Kernels | None]) -> Run:
    """Return a run of two arms in which ``kernels_of`` says what NCCL ran."""
    lines = [line for line in sweep(ARMS, SIZES, [Timing.EAGER, Timing.GRAPH]) if isinstance(line, Samples)]
    return run([replace(line, kernels=kernels_of(line)) for line in lines], arms=list(ARMS), tuning=True)


def fact(of: Run) -> str | None:
    return next((fact.text for fact in Analysis.of(of).headline.facts if fact.name == "Kernels"), None)


@pytest.mark.parametrize(
    ("kernels_of", "text"),
    [
        (lambda _: RING, "the arms ran the same kernels in all 8 comparisons"),
        (lambda _: None, None),
        (lambda line: RING if line.arm == "torch" else None, None),
        (
            lambda line: NVLS if line.arm == "torch" and line.case.size_bytes > 1024 else RING,
            "the arms ran different kernels: NVLS/SIMPLE on 16 channels against RING/LL on 4 channels, 64 KiB to 1 MiB",
        ),
        (
            lambda line: NVLS if line.arm == "torch" and line.timing is Timing.GRAPH else RING,
            "the arms ran different kernels: NVLS/SIMPLE on 16 channels against RING/LL on 4 channels, every size in "
            "graphs",
        ),
        (
            lambda line: Kernels(distinct=()) if line.arm == "torch" and line.case.size_bytes == 8 else RING,
            "the arms ran different kernels: not named by the log against RING/LL on 4 channels, 8 B",
        ),
    ],
)
def test_the_headline_names_arms_that_ran_different_kernels(
    kernels_of: Callable[[Samples], Kernels | None], text: str | None
) -> None:
    assert fact(made(kernels_of)) == text


def test_the_summary_has_columns_of_what_ran() -> None:
    both = Kernels.of([*RING.distinct, *SYMMETRIC.distinct, *NVLS.distinct])
    rows = Analysis.of(made(lambda line: both if line.arm == "torch" else RING)).rows
    shown = {
        row.arm: {name: getattr(row, name) for name in ("algorithm", "protocol", "special_kernel", "channels")}
        for row in rows
    }
    assert shown == {
        "dedicated-stream": {"algorithm": "RING", "protocol": "LL", "special_kernel": None, "channels": 4},
        "torch": {
            "algorithm": "NVLS, RING",
            "protocol": "SIMPLE, LL",
            "special_kernel": "symmetric AllReduce_AGxLL_R",
            "channels": 16,
        },
    }


def test_launches_that_ran_different_kernels_have_both() -> None:
    of_launches = [made(lambda _: RING), made(lambda _: NVLS)]
    lines = [replace(line, launch=number) for number, of in enumerate(of_launches, 1) for line in of.samples.lines()]
    joined = join_launches(run(lines, arms=list(ARMS)))
    assert {kernels.names for kernels in joined.samples.kernels.distinct()} == {"NVLS/SIMPLE and RING/LL"}
