"""The findings of several ranks as one audit, with its outcome."""

from __future__ import annotations

from pathlib import Path

import pytest

from nccl_bench.audit.findings.audit import Outcome, join_ranks
from nccl_bench.audit.findings.record import RankFindings, read_findings
from nccl_bench.audit.findings.remedies import remedy
from nccl_bench.audit.order.races import AccessMode, Missing, RaceKind
from nccl_bench.errors import ExitCode
from tests.support.audit_findings import access, collective, line, race, rank_findings


def test_the_same_race_of_several_ranks_is_one_race_with_all_counts() -> None:
    # Other ranks have other callers and other streams.
    other = access(stream="the default stream of cuda:1", device=1, lines=(line(), line(number=300)))
    audit = join_ranks(
        "serve.py", 2, [rank_findings(0, race(count=3)), rank_findings(1, race(other, count=4, ranks=(1,)))]
    )
    assert [(each.count, each.ranks) for each in audit.races] == [(7, (0, 1))]


def test_races_of_other_lines_works_or_modes_stay_apart() -> None:
    races = (
        race(),
        race(access(lines=(line(number=89),))),
        race(access("aten::add_")),
        race(access(mode=AccessMode.READ)),
        race(missing=Missing.JOIN),
    )
    assert len(join_ranks("serve.py", 1, [rank_findings(0, *races)]).races) == len(races)


def test_the_worst_kind_comes_first() -> None:
    kinds = [RaceKind.HOST_SPEED, RaceKind.KERNELS, RaceKind.MEMORY]
    audit = join_ranks("serve.py", 1, [rank_findings(0, *(race(kind=kind) for kind in kinds))])
    assert [each.kind for each in audit.races] == list(RaceKind)


@pytest.mark.parametrize(
    ("ranks", "ends", "outcome", "code"),
    [
        ([rank_findings(0, race()), rank_findings(1)], {"failure": "exit code 1"}, Outcome.RACES, ExitCode.RACE),
        ([rank_findings(0), rank_findings(1)], {"hang": "it hung"}, Outcome.HANG, ExitCode.HANG),
        ([rank_findings(0), rank_findings(1)], {"failure": "exit code 1"}, Outcome.FAILED, ExitCode.SETUP),
        ([rank_findings(0), rank_findings(1)], {}, Outcome.NONE, ExitCode.OK),
        ([rank_findings(0, collectives=0)] * 2, {}, Outcome.BLIND, ExitCode.INCONCLUSIVE),
        ([rank_findings(0)], {}, Outcome.BLIND, ExitCode.INCONCLUSIVE),
        ([], {}, Outcome.BLIND, ExitCode.INCONCLUSIVE),
    ],
)
def test_only_what_was_watched_to_its_end_on_all_ranks_is_a_pass(
    ranks: list[RankFindings], ends: dict[str, str], outcome: Outcome, code: ExitCode
) -> None:
    audit = join_ranks("serve.py", 2, ranks, **ends)
    assert (audit.outcome, audit.exit_code) == (outcome, code)


def test_findings_survive_their_file(tmp_path: Path) -> None:
    findings = [rank_findings(1, race(freed=line(), second=collective(replayed=line()))), rank_findings(0)]
    for each in findings:
        each.write(tmp_path)
    assert read_findings(tmp_path) == findings[::-1]


@pytest.mark.parametrize(
    ("first", "second", "missing", "code", "place"),
    [
        (
            access(),
            collective(),
            Missing.FORK,
            "stream.wait_stream(torch.cuda.current_stream())",
            "before engine/comm.py:20",
        ),
        (
            collective(),
            access(),
            Missing.JOIN,
            "torch.cuda.current_stream().wait_stream(stream)",
            "before engine/model.py:88",
        ),
        (access(work="c10d::allreduce_", is_collective=True), access(), Missing.JOIN, "work.wait()", "before "),
        (access(), access(device=-1), Missing.JOIN, "current_stream().wait_stream(stream)", "before "),
        (access(), access(), Missing.WAIT, "later.wait_stream(earlier)", "before engine/model.py:88"),
        (access(), access(), Missing.HOST_WAIT, "stream.synchronize()", "before engine/model.py:88"),
        (access(), access(), Missing.SIGNAL, "event.wait()", "before engine/model.py:88"),
        (collective(), access(), Missing.RECORD_STREAM, "x.record_stream(stream)", "after engine/comm.py:20"),
        (
            access(),
            collective(replayed=line("engine/run.py", 7)),
            Missing.FORK,
            "stream.wait_stream(torch.cuda.current_stream())",
            "before engine/run.py:7",
        ),
        (access(), access(lines=()), Missing.WAIT, "later.wait_stream(earlier)", "before a line that is not known"),
    ],
)
def test_a_remedy_names_the_call_and_its_line(
    first: object, second: object, missing: Missing, code: str, place: str
) -> None:
    proposed = remedy(race(first, second, missing))  # type: ignore[arg-type]
    assert proposed.code == code
    assert proposed.place.startswith(place)
