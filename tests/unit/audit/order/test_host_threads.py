"""Threads of the host: what one thread waited for orders the work of another only after a signal."""

from __future__ import annotations

from dataclasses import replace

from nccl_bench.audit.order.actions import Action, HostWaited, SignalReceived, SignalSent, ThreadEnded
from nccl_bench.audit.order.places import ByteRange
from nccl_bench.audit.order.races import Missing, RaceKind
from tests.support.order_actions import COLLECTIVE, CONSUMER, INLINE, OUTPUT, SIDE, host_reads, launched, races

# Both threads exist from the beginning.
BEGIN: tuple[Action, ...] = (SignalSent(thread=1, signal=1), SignalReceived(thread=2, signal=1))
WAIT = HostWaited(thread=1, stream=SIDE)
OTHER_CONSUMER = replace(CONSUMER, thread=2)


def test_a_wait_of_one_thread_does_not_order_the_work_of_another() -> None:
    (race,) = races(*BEGIN, COLLECTIVE, WAIT, OTHER_CONSUMER)
    # The order held in this run, because the second thread was slow.
    assert (race.kind, race.missing) == (RaceKind.HOST_SPEED, Missing.JOIN)
    (race,) = races(*BEGIN, COLLECTIVE, OTHER_CONSUMER)
    assert race.kind is RaceKind.KERNELS


def test_a_signal_after_the_wait_orders_the_work_of_the_other_thread() -> None:
    signal = (SignalSent(thread=1, signal=2), SignalReceived(thread=2, signal=2))
    assert races(*BEGIN, COLLECTIVE, WAIT, *signal, OTHER_CONSUMER) == ()
    assert len(races(*BEGIN, COLLECTIVE, *signal, WAIT, OTHER_CONSUMER)) == 1


def test_a_wait_that_nothing_promises_orders_through_the_hosts_speed_only() -> None:
    (race,) = races(COLLECTIVE, replace(WAIT, is_accidental=True), CONSUMER)
    assert race.kind is RaceKind.HOST_SPEED


def test_what_a_thread_writes_itself_needs_a_signal() -> None:
    write = launched("fill", INLINE, writes=[OUTPUT], thread=2)
    (race,) = races(*BEGIN, write, replace(CONSUMER, stream=SIDE))
    assert (race.kind, race.missing) == (RaceKind.HOST_SPEED, Missing.SIGNAL)


def test_threads_of_the_host_alone_are_no_matter_of_streams() -> None:
    assert races(*BEGIN, launched("fill", INLINE, writes=[OUTPUT], thread=2), host_reads(OUTPUT)) == ()


def test_a_thread_without_a_signal_knows_what_all_others_know() -> None:
    assert races(COLLECTIVE, WAIT, OTHER_CONSUMER) == ()


def test_a_thread_that_took_the_number_of_another_one_knows_nothing_of_it() -> None:
    wait = HostWaited(thread=2, stream=SIDE)
    (race,) = races(*BEGIN, COLLECTIVE, wait, ThreadEnded(thread=2), OTHER_CONSUMER)
    assert race.kind is RaceKind.HOST_SPEED


def test_host_work_on_other_bytes_is_no_race() -> None:
    assert races(COLLECTIVE, host_reads(ByteRange(address=9000, length=8))) == ()


def test_a_thread_that_waited_does_not_hide_a_race_of_a_thread_that_did_not() -> None:
    (race,) = races(*BEGIN, COLLECTIVE, WAIT, host_reads(OUTPUT), host_reads(OUTPUT, thread=2))
    assert (race.second.thread, race.missing) == (2, Missing.HOST_WAIT)
