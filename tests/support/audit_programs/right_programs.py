"""Programs whose order is right, as training and inference engines write them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import torch.distributed as dist
from torch import Tensor

from nccl_bench.communicators.coordinator import GroupCoordinator, LegacyGroupCoordinator
from tests.support.audit_programs.kit import CALLS, Kit, right


@right
def forks_and_joins_a_dedicated_stream(kit: Kit) -> None:
    tensor = kit.tensor()
    for _ in range(CALLS):
        kit.submit(tensor.fill_, 1)
        kit.private.stream.wait_stream(kit.caller)
        kit.private.all_reduce(tensor)
        kit.caller.wait_stream(kit.private.stream)
        kit.submit(tensor.sum)


@right
def keeps_a_temporary_until_the_private_stream_has_read_it(kit: Kit) -> None:
    output = kit.tensor()
    for _ in range(CALLS):
        temporary = kit.temporary()
        kit.submit(temporary.fill_, 1)
        kit.unretained.stream.wait_stream(kit.caller)
        kit.unretained.all_gather(output, temporary)
        kit.keep(temporary, kit.unretained.stream)
        kit.caller.wait_stream(kit.unretained.stream)
        kit.submit(output.sum)
        del temporary


@right
def uses_the_stream_free_communicator_on_nested_streams(kit: Kit) -> None:
    tensor, side = kit.tensor(), kit.stream()
    kit.submit(tensor.fill_, 1)
    kit.free.all_reduce(tensor)
    side.wait_stream(kit.caller)
    with kit.streams.stream(side):
        kit.submit(tensor.add_, 1)
        kit.free.all_reduce(tensor)
    kit.caller.wait_stream(side)
    kit.free.all_reduce(tensor)
    kit.submit(tensor.sum)


@right
def overlaps_buckets_with_events_as_megatron(kit: Kit) -> None:
    buckets = [kit.tensor() for _ in range(4)]
    for _ in range(3):
        reduced = []
        for bucket in buckets:
            kit.submit(bucket.fill_, 1)
            kit.private.stream.wait_event(kit.caller.record_event())
            kit.private.all_reduce(bucket)
            reduced.append(kit.private.stream.record_event())
        for bucket, event in zip(buckets, reduced, strict=True):
            kit.caller.wait_event(event)
            kit.submit(bucket.mul_, 0.9)


@right
def uses_two_buffers_in_turn(kit: Kit) -> None:
    buffers = [kit.tensor(), kit.tensor()]
    done = [kit.streams.new_event(), kit.streams.new_event()]
    for number in range(CALLS):
        buffer, event = buffers[number % 2], done[number % 2]
        kit.caller.wait_event(event)
        kit.submit(buffer.fill_, number)
        kit.private.stream.wait_stream(kit.caller)
        kit.private.all_reduce(buffer)
        event.record(kit.private.stream)


@right
def decodes_beside_a_side_stream(kit: Kit) -> None:
    logits, token, on_host, side = kit.tensor(), kit.tensor(), kit.pinned(), kit.stream()
    for _ in range(CALLS):
        kit.submit(logits.fill_, 1)
        kit.free.all_reduce(logits)
        side.wait_stream(kit.caller)
        with kit.streams.stream(side):
            kit.submit(token.copy_, logits)
            kit.submit(partial(on_host.copy_, token, non_blocking=True))
        kit.caller.wait_stream(side)
        side.synchronize()
        on_host.max()


@right
def writes_halves_on_two_streams_and_reduces_both(kit: Kit) -> None:
    matrix, other = kit.tensor().view(32, 32), kit.stream()
    kit.submit(matrix[:, :16].fill_, 1)
    with kit.streams.stream(other):
        kit.submit(matrix[:, 16:].fill_, 1)
    kit.caller.wait_stream(other)
    kit.free.all_reduce(matrix)
    kit.submit(matrix.sum)


@right
def waits_for_asynchronous_and_coalesced_collectives(kit: Kit) -> None:
    first, second = kit.tensor(), kit.tensor()
    for _ in range(3):
        first.fill_(1)
        second.fill_(1)
        work = dist.all_reduce(first, group=kit.torch_group, async_op=True)
        second.add_(1)
        work.wait()
        first.sum()
        with dist._coalescing_manager(kit.torch_group, async_ops=True) as coalesced:
            dist.all_reduce(first, group=kit.torch_group)
            dist.all_reduce(second, group=kit.torch_group)
        coalesced.wait()
        second.sum()


@right
def hands_a_tensor_to_another_thread_with_an_event(kit: Kit) -> None:
    ready: queue.Queue[tuple[Tensor, Any]] = queue.Queue()

    def prefetch() -> None:
        with kit.streams.stream(kit.stream()):
            tensor = kit.tensor()
            kit.submit(tensor.fill_, 1)
            ready.put((tensor, kit.caller.record_event()))

    thread = threading.Thread(target=prefetch)
    thread.start()
    tensor, event = ready.get()
    kit.caller.wait_event(event)
    kit.free.all_reduce(tensor)
    thread.join()


def run_coordinator(kit: Kit, coordinator: GroupCoordinator) -> None:
    """Use a coordinator as an engine does: eagerly, within graph_capture(), and for context parallelism."""
    tensor, gathered, side = kit.tensor(), kit.tensor(), kit.stream()
    for _ in range(3):
        kit.submit(tensor.fill_, 1)
        coordinator.all_reduce(tensor)
        kit.submit(tensor.sum)
        with coordinator.graph_capture():
            kit.submit(tensor.fill_, 1)
            coordinator.all_reduce(tensor)
            side.wait_stream(kit.caller)
            coordinator.cp_all_gather_into_tensor_async(gathered, tensor, side)
            kit.caller.wait_stream(side)
        kit.submit(gathered.sum)
    kit.streams.synchronize()
    coordinator.close()


@right
def uses_our_coordinator(kit: Kit) -> None:
    run_coordinator(kit, GroupCoordinator(kit.group, kit.device))


@right
def uses_our_legacy_coordinator(kit: Kit) -> None:
    run_coordinator(kit, LegacyGroupCoordinator(kit.group, kit.device))


@right
def uses_our_legacy_coordinator_with_the_current_stream(kit: Kit) -> None:
    run_coordinator(kit, LegacyGroupCoordinator(kit.group, kit.device, use_current_stream=True))


def run_engine(kit: Kit, communicator: Any, call: Callable[[Tensor], object]) -> None:
    """Use the communicator of an engine as its layers do: ``call`` reduces a tensor in place."""
    tensor = kit.tensor()
    with communicator.change_state(enable=True):
        for _ in range(3):
            kit.submit(tensor.fill_, 1)
            call(tensor)
            kit.submit(tensor.sum)
    kit.streams.synchronize()


@right
def uses_sglang_before_its_refactor_forked_and_joined(kit: Kit) -> None:
    communicator = kit.engines.EngineBefore(kit.group, kit.streams.device)

    def call(tensor: Tensor) -> None:
        communicator.stream.wait_stream(kit.caller)
        communicator.all_reduce(tensor)
        kit.caller.wait_stream(communicator.stream)

    run_engine(kit, communicator, call)


@right
def uses_sglang_before_its_refactor_handed_the_current_stream(kit: Kit) -> None:
    communicator = kit.engines.EngineBefore(kit.group, kit.streams.device)
    run_engine(kit, communicator, lambda tensor: communicator.all_reduce(tensor, stream=kit.caller))


@right
def uses_sglang_after_its_refactor(kit: Kit) -> None:
    communicator = kit.engines.EngineAfter(kit.group, kit.streams.device)
    run_engine(kit, communicator, communicator.all_reduce)


@right
def uses_vllm_after_its_change(kit: Kit) -> None:
    communicator = kit.engines.NextEngine(kit.group, kit.streams.device)
    run_engine(kit, communicator, lambda tensor: communicator.all_reduce(tensor, inplace=True))
