"""Threads of the host: their operators are seen, and the messages between them order their work."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from nccl_bench.audit import watch
from nccl_bench.streams import cpu
from tests.support.audited import found_at

pytestmark = pytest.mark.timeout(60)


def test_the_operators_of_a_thread_are_seen() -> None:
    tensor, stream = torch.zeros(8), cpu.Stream()
    with watch() as watched:
        stream.submit(tensor.fill_, 1)  # write
        thread = threading.Thread(target=lambda: tensor + 1)  # read in a thread
        thread.start()
        thread.join()
    assert found_at(watched) == {("write", "read in a thread")}


def test_a_thread_that_waited_passes_its_order_on_when_it_is_joined() -> None:
    tensor, stream = torch.zeros(8), cpu.Stream()
    with watch() as watched:
        stream.submit(tensor.fill_, 1)
        thread = threading.Thread(target=stream.synchronize)
        thread.start()
        thread.join()
        tensor + 1
    assert not watched.races


def test_a_queue_passes_the_order_from_thread_to_thread() -> None:
    tensor, stream = torch.zeros(8), cpu.Stream()
    ready: queue.Queue[torch.Tensor] = queue.Queue()

    def produce() -> None:
        stream.submit(tensor.fill_, 1)
        stream.synchronize()
        ready.put(tensor)

    with watch() as watched:
        threading.Thread(target=produce).start()
        ready.get() + 1
    assert not watched.races


def test_a_thread_that_waits_for_nobody_is_ordered_with_nobody() -> None:
    tensor, stream, other = torch.zeros(8), cpu.Stream(), cpu.Stream()
    synchronized = [False]

    def produce() -> None:
        stream.submit(tensor.fill_, 1)  # write
        stream.synchronize()
        synchronized[0] = True

    with watch() as watched:
        thread = threading.Thread(target=produce)
        thread.start()
        while not synchronized[0]:  # a flag that is no synchronisation
            pass
        other.submit(tensor.add_, 1)  # add
        thread.join()
    assert found_at(watched) == {("write", "add")}


def test_the_future_of_an_executor_passes_the_order_on() -> None:
    tensor, stream = torch.zeros(8), cpu.Stream()

    def produce() -> torch.Tensor:
        stream.submit(tensor.add_, 1)
        stream.synchronize()
        return tensor

    with watch() as watched, ThreadPoolExecutor(1) as executor:
        tensor.fill_(1)
        executor.submit(produce).result() + 1
    assert not watched.races
