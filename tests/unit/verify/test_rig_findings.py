"""The one finding of all ranks: its failures, their details, and the groups of its trials."""

from __future__ import annotations

from itertools import product

from nccl_bench.catalog.probes import Place
from nccl_bench.verify.outcomes import Race
from nccl_bench.verify.rig import Rig, Trial, first_error
from tests.support.rig_ranks import TwoRanks


def test_a_trial_that_fails_on_either_rank_has_failed(rig: Rig) -> None:
    rig.record("a", None)
    rig.record("b", None)
    rig.record("c", "mine")
    rig.record("d", Race("and mine"), Place.SIDE)
    rig.control = TwoRanks(rank=1, other_values=[0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0])
    finding = rig.make_finding()
    assert (finding.arm, finding.probe, finding.trials, finding.failed) == ("stream-free", "producer", 4, 3)
    # In the first failed trial only the other rank has an error.
    assert (finding.detail, finding.broken) == ("the other rank's", False)
    # The races: one on the other rank without a place, and one on this rank on a side stream.
    assert (finding.raced, finding.quiet) == (2, (Place.DEFAULT, Place.NESTED, Place.OUTER))


def test_an_error_of_this_rank_is_reported_with_its_rank(rig: Rig) -> None:
    rig.record("a", None)
    rig.record("b", "mine")
    rig.control = TwoRanks(rank=1, other_values=[0, 0, 0, 0, 0, 0])
    finding = rig.make_finding()
    assert (finding.trials, finding.failed, finding.detail) == (2, 1, "b, rank 1: mine")


def test_a_finding_without_failures_has_no_detail(rig: Rig) -> None:
    rig.record("a", None)
    rig.control = TwoRanks(rank=1, other_values=[0, 0, 0])
    finding = rig.make_finding()
    assert (finding.trials, finding.failed, finding.detail) == (1, 0, None)


def test_of_several_errors_of_a_trial_the_first_is_reported() -> None:
    assert first_error([None, "b", "c"]) == "b"
    assert first_error([None, None]) is None


def test_the_trials_of_a_finding_are_grouped_by_stream_operation_and_size_with_the_calls_that_were_checked(
    rig: Rig,
) -> None:
    def run_trial(trial: Trial) -> str | None:
        trial.start(salt=1)
        trial.find_error(trial.exchange.output, salt=2)
        return "late" if trial.place is Place.SIDE and trial.exchange.size_bytes == 128 else None

    exchanges = rig.exchanges([64, 128], ["all_gather", "outplace_all_reduce"])
    rig.try_each(run_trial, [*exchanges, exchanges[0]])
    rig.record("threads", "3 for each communicator")
    rig.control = TwoRanks(rank=1, other_values=[0] * 3 * len(rig.outcomes))
    finding = rig.make_finding()
    groups = {(group.place, group.operation, group.size_bytes): group for group in finding.groups}
    assert set(groups) == set(product(Place, ("all_gather", "out-of-place all_reduce"), (64, 128)))
    assert [key for key, group in groups.items() if group.failed] == [
        (Place.SIDE, "all_gather", 128),
        (Place.SIDE, "out-of-place all_reduce", 128),
    ]
    assert [
        (group.trials, group.calls) for (_, name, size), group in groups.items() if (name, size) == ("all_gather", 64)
    ] == [(2, 2)] * len(Place)
    assert (finding.trials, finding.calls) == (21, 20)
