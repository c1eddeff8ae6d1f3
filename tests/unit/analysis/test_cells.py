"""The times of cells as columns: which rounds are paired, and with what."""

from __future__ import annotations

from collections.abc import Mapping

from nccl_bench.analysis.cells import LAUNCH_STRIDE, Cell, Cells
from nccl_bench.catalog.timings import Timing
from tests.support.synthetic_runs import case


def cells(**arms: Mapping[int, float]) -> dict[Cell, Mapping[int, float]]:
    return {(case(8), Timing.EAGER, arm): rounds for arm, rounds in arms.items()}


def test_cells_keep_the_rounds_of_every_launch() -> None:
    given = cells(base={0: 1.0, 1: 2.0, LAUNCH_STRIDE: 3.0}, arm={5: 4.0})
    assert Cells.of(given) == given
    assert len(Cells.of(given)) == 2
    assert Cells.of(given).medians_us.tolist() == [2.0, 2.0, 4.0]


def test_a_ratio_pairs_equal_rounds_of_the_same_launch() -> None:
    base = {0: 1.0, 1: 2.0, 2: 4.0, LAUNCH_STRIDE: 8.0}
    arm = {2: 2.0, 7: 9.0, 0: 3.0, LAUNCH_STRIDE: 4.0, LAUNCH_STRIDE + 1: 7.0}
    paired = Cells.of(cells(arm=arm, base=base)).paired(["arm"], "base")
    assert paired.ratios.to_lists() == [[0.5, 3.0], [0.5]]
    assert paired.of_cells.to_lists() == [[0.5, 3.0, 0.5]]


def test_cells_without_a_common_round_and_arms_without_the_base_have_no_pair() -> None:
    apart = Cells.of(cells(base={0: 1.0}, late={1: 1.0}, same={0: 2.0}))
    paired = apart.paired(["late", "same", "absent"], "base")
    assert [apart.of_lines[line][2] for line in paired.lines.tolist()] == ["same"]
    assert len(apart.paired(["late"], "absent").lines) == 0
    assert len(Cells.of({}).paired(["late"], "base").lines) == 0
