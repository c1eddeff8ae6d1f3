"""Races planted on the CPU's streams, and programs without a race."""

from __future__ import annotations

import pytest
import torch

from nccl_bench.audit import watch
from nccl_bench.audit.order.races import RaceKind
from nccl_bench.errors import UsageError
from nccl_bench.streams import cpu
from tests.support.audited import found_at

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def streams() -> tuple[cpu.Stream, cpu.Stream]:
    return cpu.Stream(), cpu.Stream()


def test_two_streams_with_a_wait_between_them_have_no_race(streams: tuple[cpu.Stream, cpu.Stream]) -> None:
    first, second = streams
    tensor = torch.zeros(8)
    with watch() as watched:
        first.submit(tensor.fill_, 1)
        second.wait_stream(first)
        second.submit(tensor.add_, 1)
        second.synchronize()
        tensor + 1
    assert not watched.races


def test_a_forgotten_wait_is_a_race_with_both_lines(streams: tuple[cpu.Stream, cpu.Stream]) -> None:
    first, second = streams
    tensor = torch.zeros(8)
    with watch() as watched:
        first.submit(tensor.fill_, 1)  # write
        second.submit(lambda: tensor + 1)  # read
    assert found_at(watched) == {("write", "read")}


def test_a_wait_for_another_stream_orders_nothing(streams: tuple[cpu.Stream, cpu.Stream]) -> None:
    first, second = streams
    tensor = torch.zeros(8)
    with watch() as watched:
        first.submit(tensor.fill_, 1)  # write
        second.wait_stream(cpu.Stream())
        second.submit(tensor.add_, 1)  # add
    assert found_at(watched) == {("write", "add")}


def test_an_event_that_was_recorded_before_the_write_orders_nothing(streams: tuple[cpu.Stream, cpu.Stream]) -> None:
    first, second = streams
    tensor = torch.zeros(8)
    with watch() as watched:
        event = first.record_event()
        first.submit(tensor.fill_, 1)  # write
        second.wait_event(event)
        second.submit(tensor.add_, 1)  # add
    assert found_at(watched) == {("write", "add")}


def test_an_event_that_was_recorded_again_orders_its_latest_recording_only(
    streams: tuple[cpu.Stream, cpu.Stream],
) -> None:
    first, second = streams
    event, tensor = cpu.Event(), torch.zeros(8)
    with watch() as watched:
        first.submit(tensor.fill_, 1)  # write
        event.record(first)
        event.record(cpu.Stream())
        second.wait_event(event)
        second.submit(tensor.add_, 1)  # add
    assert found_at(watched) == {("write", "add")}


def test_the_host_that_reads_without_a_wait_is_a_race(streams: tuple[cpu.Stream, cpu.Stream]) -> None:
    tensor = torch.zeros(8)
    with watch() as watched:
        streams[0].submit(tensor.fill_, 1)  # write
        tensor + 1  # read
    assert found_at(watched) == {("write", "read")}


def test_a_query_that_returned_true_orders_like_a_wait(streams: tuple[cpu.Stream, cpu.Stream]) -> None:
    tensor = torch.zeros(8)
    with watch() as watched:
        streams[0].submit(tensor.fill_, 1)
        event = streams[0].record_event()
        while not event.query():
            pass
        tensor + 1
    assert not watched.races


@pytest.mark.parametrize("rows", [8, 500])
def test_slices_conflict_only_where_they_overlap(streams: tuple[cpu.Stream, cpu.Stream], rows: int) -> None:
    first, second = streams
    matrix = torch.zeros(rows, 8)
    with watch() as watched:
        first.submit(lambda: matrix[:, :4].fill_(1))  # left half
        second.submit(lambda: matrix[:, 4:].fill_(1))  # right half
        second.submit(lambda: matrix[7, 2:6].fill_(1))  # both halves
    assert found_at(watched) == {("left half", "both halves")}


def test_a_view_of_a_tensor_that_another_stream_writes_is_a_race(streams: tuple[cpu.Stream, cpu.Stream]) -> None:
    first, second = streams
    tensor = torch.zeros(8, 8)
    view = tensor.t()[2:]
    with watch() as watched:
        first.submit(tensor.fill_, 1)  # write
        second.submit(view.sum)  # read
    assert found_at(watched) == {("write", "read")}


def test_a_function_that_keeps_its_tensor_is_no_race_with_memory_given_out_again(
    streams: tuple[cpu.Stream, cpu.Stream],
) -> None:
    with watch() as watched:
        for _ in range(20):
            tensor = torch.empty(1000)
            streams[0].submit(tensor.fill_, 1)
            del tensor
    assert not watched.races


def test_work_that_a_queued_function_queues_follows_its_stream(streams: tuple[cpu.Stream, cpu.Stream]) -> None:
    first, second = streams
    tensor = torch.zeros(8)

    def work() -> None:
        tensor.fill_(1)
        second.submit(tensor.add_, 1)

    with watch() as watched:
        first.submit(work)
    assert not watched.races


def test_work_that_a_queued_function_queues_is_seen(streams: tuple[cpu.Stream, cpu.Stream]) -> None:
    first, second = streams
    tensor = torch.zeros(8)

    def work() -> None:
        second.submit(tensor.fill_, 1)  # nested write

    with watch() as watched:
        first.submit(work)
        first.submit(tensor.add_, 1)  # add
    assert found_at(watched) == {("nested write", "add")}
    assert {race.kind for race in watched.races} == {RaceKind.KERNELS}


def test_a_failed_function_does_not_hold_back_later_findings(streams: tuple[cpu.Stream, cpu.Stream]) -> None:
    first, second = streams
    tensor = torch.zeros(8)
    with watch() as watched:
        first.submit(lambda: 1 / 0)
        first.submit(tensor.fill_, 1)
        with pytest.raises(ZeroDivisionError):
            first.synchronize()
        first.submit(tensor.fill_, 1)  # write
        second.submit(tensor.add_, 1)  # add
    assert found_at(watched) == {("write", "add")}


def test_nothing_is_judged_in_a_pause_and_its_work_counts_as_ended(streams: tuple[cpu.Stream, cpu.Stream]) -> None:
    first, second = streams
    tensor, other = torch.zeros(8), torch.zeros(8)
    with watch() as watched:
        first.submit(tensor.fill_, 1)  # write
        second.submit(tensor.add_, 1)  # add
        with watched.pause():
            first.submit(other.fill_, 1)
            other.add_(1)
        other.add_(1)
        tensor.add_(1)
        first.submit(other.fill_, 1)  # later write
        other.add_(1)  # later add
    assert found_at(watched) == {("write", "add"), ("later write", "later add")}
    assert watched.cost >= 1


def test_a_watch_within_a_watch_is_refused() -> None:
    with watch(), pytest.raises(UsageError, match="a watch is running"), watch():
        pass


def test_nothing_is_observed_after_the_watch(streams: tuple[cpu.Stream, cpu.Stream]) -> None:
    tensor = torch.zeros(8)
    with watch() as watched:
        tensor.add_(1)
    judged = watched.actions
    streams[0].submit(tensor.fill_, 1)
    tensor.add_(1)
    assert judged > 0
    assert watched.actions == judged
    assert cpu.observer is None
