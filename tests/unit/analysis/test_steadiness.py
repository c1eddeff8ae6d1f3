"""The answer to "Was the machine steady?": from the same cells as the warnings."""

from __future__ import annotations

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.catalog.throttling import ThrottleReason
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.run import Run
from tests.support.synthetic_runs import case, gpus, run, samples

EVEN = tuple(10 + 0.01 * number for number in range(9))
NOISY = (10.0, 15.0, 11.0, 14.0, 12.0, 13.0, 12.5, 11.5, 13.5)
SLOWER_CPU = tuple(21.0 if number % 2 else 14.0 for number in range(20))


def steadiness(*rounds: tuple[float, ...], timing: Timing = Timing.EAGER) -> tuple[str, tuple[str, ...]]:
    """Return the answer and the warnings of a run with a cell for each of ``rounds``."""
    lines = [samples(timing=timing, case=case(8 << number), samples_us=each) for number, each in enumerate(rounds)]
    analysis = Analysis.of(run(lines))
    assert analysis.steadiness is not None
    return analysis.steadiness.answer, analysis.warnings


def test_even_rounds_are_steady_and_give_no_warning() -> None:
    answer, warnings = steadiness(EVEN, EVEN)
    assert answer.startswith("Yes: in all 2 cells the rounds differ by at most 10 %")
    assert not any("Rounds differ" in text for text in warnings)


@pytest.mark.parametrize(
    ("rounds", "says"),
    [
        ((NOISY,), "No: the rounds differ by more than 10 % in 1 of 1 cell (1 in eager)."),
        ((NOISY, *[EVEN] * 4), "Mostly: the rounds differ by more than 10 % in 1 of 5 cells (1 in eager)."),
        ((SLOWER_CPU,), "No: the rounds differ by more than 10 % in 1 of 1 cell (1 in eager), and in 1 of them"),
    ],
)
def test_noisy_rounds_are_counted_as_in_the_warning(rounds: tuple[tuple[float, ...], ...], says: str) -> None:
    answer, warnings = steadiness(*rounds)
    assert answer.startswith(says)
    assert any("Rounds differ" in text and "in 1 cell" in text for text in warnings)


def test_the_timings_that_were_not_steady_are_named() -> None:
    eager = [samples(timing=Timing.EAGER, case=case(8), samples_us=NOISY)]
    gated = [samples(timing=Timing.GATED, case=case(8 << number), samples_us=EVEN) for number in range(9)]
    steadiness = Analysis.of(run([*eager, *gated])).steadiness
    assert steadiness is not None
    assert steadiness.answer.startswith("Not in eager: the rounds differ by more than 10 % in 1 of 10 cells")
    assert steadiness.in_short == "gated; not eager: 1 of 10 cells differ by over 10 % from round to round"
    noisy = samples(timing=Timing.GATED, case=case(8 << 9), samples_us=NOISY)
    steadiness = Analysis.of(run([*eager, *gated, noisy])).steadiness
    assert steadiness is not None
    assert steadiness.in_short.startswith("gated; not eager: ")


def test_a_gpu_with_lowered_clocks_is_not_steady() -> None:
    answers = []
    for reasons in ((), (ThrottleReason.SOFTWARE_THERMAL,)):
        states = [gpus(), gpus(throttle_reasons=reasons, throttled_share=0.5, throttled_rank=1)]
        lines = [samples(case=case(8 << at), samples_us=EVEN, gpus=state) for at, state in enumerate(states)]
        steadiness = Analysis.of(run(lines)).steadiness
        assert steadiness is not None
        answers.append(steadiness.answer)
    assert answers == [
        "Yes: in all 2 cells the rounds differ by at most 10 %, and no GPU lowered its clocks.",
        "No: a GPU lowered its clocks in 1 cell.",
    ]


def test_noise_is_called_normal_on_the_cpu_alone() -> None:
    made_up = run([samples(case=case(8), samples_us=NOISY)])
    for device, normal in (("cpu", True), ("cuda", False)):
        meta = {**made_up.meta, "config": {**made_up.meta["config"], "device": device}}
        (text,) = (
            each for each in Analysis.of(Run(meta=meta, lines=made_up.lines)).warnings if "Rounds differ" in each
        )
        assert ("without a GPU this is normal" in text) == normal
