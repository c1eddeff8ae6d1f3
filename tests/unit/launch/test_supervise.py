"""The watch over scripted launches of work without cases. No process is started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from nccl_bench.errors import InterruptedRunError, SetupError
from nccl_bench.launch import supervise as supervise_module
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.launch.messages import LAUNCH_LOG
from nccl_bench.launch.supervise import make_hang, supervise
from nccl_bench.ranks.progress import RECORD_BYTES, Position, Progress
from nccl_bench.ranks.spec import LaunchSpec
from nccl_bench.records.schema import Crash, Hang, RankState
from tests.support.command import wait_until
from tests.support.fake_ras import answering
from tests.support.scripted_launches import Act, Launches, crashes, finishes, hangs, ranks, stays

pytestmark = pytest.mark.usefixtures("fast")

COUNT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Items(LaunchSpec):
    """Items to do."""

    cases: tuple[int, ...] = tuple(range(COUNT))  # their indices

    @property
    def is_empty(self) -> bool:
        return not self.cases


def supervise_launches(
    launches: Launches,
    *,
    first: int = 0,
    timeout_s: float = 9,
    items: type[Items] = Items,
    go_on: Callable[[Hang | Crash], bool] = lambda end: True,
    on_progress: Callable[[list[Position]], None] = lambda positions: None,
) -> list[Hang | Crash]:
    """Return the ends of the launches that failed."""
    ends: list[Hang | Crash] = []

    def on_end(end: Hang | Crash, spec: Items) -> Items | None:
        ends.append(end)
        following = items(cases=tuple(index for index in spec.cases if index > end.case_index))
        return following if go_on(end) and end.case_index >= 0 else None

    try:
        supervise(
            items(cases=tuple(range(first, COUNT))),
            LaunchConfig(nproc=2),
            launches,
            count=COUNT,
            timeout_s=timeout_s,
            on_end=on_end,
            on_progress=on_progress,
        )
    finally:
        assert not launches.running
    return ends


def test_a_launch_that_finishes_is_the_only_one_and_its_positions_are_passed_on() -> None:
    seen: list[list[Position]] = []
    launches = Launches((finishes,))
    assert supervise_launches(launches, first=5, on_progress=seen.append) == []
    assert launches.cases == [(5, 6, 7)]
    assert [position.rank for position in seen[-1]] == [0, 1]


def test_after_a_hang_or_a_crash_the_next_launch_starts_where_on_end_says() -> None:
    launches = Launches((hangs(2), crashes(4, "b"), finishes))
    hang, crash = supervise_launches(launches)
    assert launches.cases == [tuple(range(first, COUNT)) for first in (0, 3, 5)]
    assert len(set(launches.scratches)) == 3
    assert isinstance(hang, Hang)
    assert isinstance(crash, Crash)
    assert (hang.case, hang.case_index, hang.arm, hang.rank, hang.phase) == (None, 2, "a", 1, "timed")
    assert (crash.case, crash.case_index, crash.arm, crash.rank) == (None, 4, "b", 1)


def test_no_launch_follows_when_on_end_returns_none() -> None:
    launches = Launches((hangs(2), crashes(4), finishes))
    ends = supervise_launches(launches, go_on=lambda end: isinstance(end, Hang))
    assert len(launches.scratches) == 2
    assert [end.case_index for end in ends] == [2, 4]


def test_a_rank_that_raised_is_a_crash_although_the_other_ranks_are_late() -> None:
    ends = supervise_launches(Launches((crashes(1, exit_code=None, deadline_s=-1), finishes)))
    assert [type(end) for end in ends] == [Crash]


def test_a_stopped_rank_is_to_blame_for_a_hang_although_another_rank_is_behind() -> None:
    stopped = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        stopped.send_signal(signal.SIGSTOP)
        wait_until(lambda: psutil.Process(stopped.pid).status() == psutil.STATUS_STOPPED, stopped)

        def act(scratch: Path) -> None:
            behind, ahead = ranks(scratch)
            ahead.position = replace(ahead.position, pid=stopped.pid)
            for progress in (behind, ahead, ahead):
                progress.update(case_index=2, arm="a", phase="timed", deadline_s=-1)

        (hang,) = supervise_launches(Launches((act, finishes)))
    finally:
        stopped.kill()
        stopped.wait()
    assert isinstance(hang, Hang)
    assert (hang.case_index, hang.rank, hang.state) == (2, 1, RankState.STOPPED)


def test_ranks_that_go_on_while_the_command_is_slow_neither_hang_nor_end_early(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("LEAST_START_S", "SURVIVAL_S"):
        monkeypatch.setattr(supervise_module, limit, 0.0)
    ending = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    working: list[Progress] = []

    def set_up(scratch: Path) -> None:
        working.extend(ranks(scratch))
        working[0].position = replace(working[0].position, pid=ending.pid)
        for progress in working:
            progress.update(case_index=-1, arm="", phase="plan", deadline_s=0.05)

    def go_on(positions: list[Position]) -> None:
        # The command has just read these positions, and judges them after this function.
        step = positions[-1].step
        if step == 1:
            time.sleep(0.1)
            for progress in working:
                progress.update(case_index=4, arm="a", phase="timed", deadline_s=60)
        elif step == 2 and len(positions) == 2 and not positions[0].done:
            working[0].finish()
            ending.kill()
            ending.wait()
            # The command reads this position while rank 1 writes the next one.
            file = launches.scratches[0] / "position-1"
            file.write_bytes(file.read_bytes()[:40].ljust(RECORD_BYTES))
        elif not launches.exit_code:
            working[1].finish()
            launches.exit_code = 0

    launches = Launches((set_up,))
    try:
        assert supervise_launches(launches, timeout_s=0.0, on_progress=go_on) == []
    finally:
        ending.kill()
        ending.wait()
    assert [progress.position.done for progress in working] == [True, True]


def test_a_hang_has_the_answer_of_nccls_ras_from_the_address_of_its_process_set() -> None:
    answer = {"communicators": [{"ranks": [{"pid": os.getpid()}]}]}

    class NcclItems(Items):
        records_ras = True

        def variables_of(self, local_rank: int, local_world_size: int) -> dict[str, str]:
            return {"NCCL_RAS_ADDR": address}

    with answering(json.dumps(answer)) as (_, address):
        (hang,) = supervise_launches(Launches((hangs(2), finishes)), items=NcclItems)
    assert isinstance(hang, Hang)
    assert hang.ras == answer


def test_no_launch_follows_a_crash_in_the_last_item() -> None:
    assert len(supervise_launches(Launches((crashes(COUNT - 1),)))) == 1


def test_exit_code_0_before_the_last_item_is_a_crash() -> None:
    (end,) = supervise_launches(Launches((hangs(3, "b", exit_code=0), finishes)))
    assert isinstance(end, Crash)
    assert "before its last case" in end.message


def test_a_process_that_does_not_end_after_the_last_item_is_a_hang_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise_module, "EXIT_S", 0.0)
    (end,) = supervise_launches(Launches((stays,)))
    assert isinstance(end, Hang)
    assert (end.case_index, end.phase, end.timeout_s) == (COUNT, "exit", 0.0)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (crashes(-1), "did not finish their set-up: rank 1 on .* ValueError: broken"),
        (hangs(-1), r"rank 1 on .* did not finish its set-up \(timed\) within -1 s"),
    ],
)
def test_a_failure_in_set_up_reaches_on_end_and_is_raised(act: Act, message: str) -> None:
    launches = Launches((act, finishes))
    reported: list[Hang | Crash] = []
    with pytest.raises(SetupError, match=message):
        supervise_launches(launches, go_on=lambda end: reported.append(end) is None)
    assert [end.case_index for end in reported] == [-1]
    assert len(launches.scratches) == 1


def test_no_position_in_time_is_a_failed_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise_module, "LEAST_START_S", 0.0)

    def silent(scratch: Path) -> None:
        (scratch / LAUNCH_LOG).write_text("waiting for node 1\n", encoding="utf-8")

    with pytest.raises(SetupError, match=r"within 0\.01 s:\nwaiting for node 1"):
        supervise_launches(Launches((silent,)), timeout_s=0.01)


def test_a_rank_without_a_position_is_blamed_and_not_the_rank_that_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervise_module, "LEAST_START_S", 0.0)

    def waits(scratch: Path) -> None:
        waiting, _ = ranks(scratch)
        waiting.update(case_index=-1, arm="", phase="connect", deadline_s=300)

    with pytest.raises(SetupError, match=r"rank 1 on .* did not finish its set-up \(start\) within 0\.01 s"):
        supervise_launches(Launches((waits,)), timeout_s=0.01)


def test_the_timeout_of_a_hang_is_that_of_the_position_if_it_has_one() -> None:
    late = Position(rank=1, local_rank=1, host="h", pid=1, case_index=3, arm="a", phase="timed")
    assert make_hang(late, 9).timeout_s == 9
    assert make_hang(replace(late, timeout_s=4), 9).timeout_s == 4


def test_no_process_is_left_when_a_callback_raises() -> None:
    def broken(positions: list[Position]) -> None:
        raise OSError("no terminal")

    with pytest.raises(OSError, match="no terminal"):
        supervise_launches(Launches((hangs(0, exit_code=None),)), on_progress=broken)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_launch_and_its_old_handler_is_restored(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(InterruptedRunError, match=f"^interrupted by {number.name}$"):
        supervise_launches(Launches((lambda scratch: None,)), on_progress=lambda positions: signal.raise_signal(number))
    assert signal.getsignal(number) is before


def test_an_ignored_hangup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        ends = supervise_launches(
            Launches((finishes,)), on_progress=lambda positions: signal.raise_signal(signal.SIGHUP)
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    assert ends == []
