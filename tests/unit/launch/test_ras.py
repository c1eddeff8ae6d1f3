"""Questions to NCCL's RAS, which a fake server answers as NCCL 2.28.9 does."""

from __future__ import annotations

import pytest

from nccl_bench.launch import ras
from nccl_bench.launch.ras import ask_ras
from tests.support.fake_ras import ONE_STOPPED, answering, listening

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ras, "_FIRST_WORD_S", 0.1)
    monkeypatch.setattr(ras, "_LIMIT_S", 10.0)


@pytest.mark.parametrize("process", [100, 101])
def test_the_answer_about_a_rank_is_json_also_when_the_rank_does_not_answer(process: int) -> None:
    with answering(ONE_STOPPED) as (lines, address):
        answer = ask_ras(address, process)
    assert lines == ["CLIENT PROTOCOL 2", "TIMEOUT 2", "SET FORMAT json", "STATUS"]
    assert answer is not None
    (communicator,) = answer["communicators"]
    assert communicator["ranks"][0]["collective_counts"] == {"AllReduce": 7}
    assert communicator["missing_ranks"][0]["status"] == {"unresponsive": True, "considered_dead": False}


def test_a_stopped_process_that_listens_on_the_same_port_is_asked_only_for_a_moment() -> None:
    with listening() as (stopped, address), answering(ONE_STOPPED, port=stopped.getsockname()[1]):
        assert ask_ras(address, 100) is not None


def test_the_answer_about_another_job_is_not_taken() -> None:
    with answering(ONE_STOPPED.replace(": 10", ": 20"), ONE_STOPPED) as (_, address):
        answer = ask_ras(address, 100)
    assert answer is not None
    assert answer["communicators"][0]["ranks"][0]["pid"] == 100


@pytest.mark.parametrize("answer", ["Job summary\n===========\n", "[1]", "", ONE_STOPPED.replace("7", "NaN")])
def test_an_answer_that_is_not_the_expected_json_is_none(answer: str) -> None:
    with answering(answer, knows_json=False) as (_, address):
        assert ask_ras(address, 100) is None


def test_an_answer_without_end_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ras, "_MOST_BYTES", 100)
    with answering(ONE_STOPPED) as (_, address):
        assert ask_ras(address, 100) is None


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "localhost:port"])
def test_without_a_server_there_is_no_answer(address: str) -> None:
    assert ask_ras(address, 100) is None


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ras, "_LIMIT_S", 0.3)
    with listening() as (_, address):
        assert ask_ras(address, 100) is None
