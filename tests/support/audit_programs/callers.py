"""Mutants: callers of a communicator with a private stream, which forks and joins nothing itself."""

from __future__ import annotations

from tests.support.audit_programs.kit import CALLS, COUNT, Kit, mutant


@mutant(("write", "collective"), ("collective", "read"))
def uses_a_dedicated_stream_bare(kit: Kit) -> None:
    tensor = kit.tensor()
    kit.submit(tensor.fill_, 1)  # write
    kit.private.all_reduce(tensor)  # collective
    kit.submit(tensor.sum)  # read


@mutant(("write", "collective"))
def forgets_the_fork(kit: Kit) -> None:
    tensor = kit.tensor()
    kit.submit(tensor.fill_, 1)  # write
    kit.private.all_reduce(tensor)  # collective
    kit.caller.wait_stream(kit.private.stream)
    kit.submit(tensor.sum)


@mutant(("collective", "read"))
def forgets_the_join(kit: Kit) -> None:
    tensor = kit.tensor()
    kit.submit(tensor.fill_, 1)
    kit.private.stream.wait_stream(kit.caller)
    kit.private.all_reduce(tensor)  # collective
    kit.submit(tensor.sum)  # read


@mutant(("collective", "read"))
def joins_the_wrong_stream(kit: Kit) -> None:
    tensor = kit.tensor()
    kit.submit(tensor.fill_, 1)
    kit.private.stream.wait_stream(kit.caller)
    kit.private.all_reduce(tensor)  # collective
    kit.caller.wait_stream(kit.second.stream)
    kit.submit(tensor.sum)  # read


@mutant(("write", "collective"))
def forks_from_the_wrong_stream(kit: Kit) -> None:
    tensor, other = kit.tensor(), kit.stream()
    kit.submit(tensor.fill_, 1)  # write
    kit.private.stream.wait_stream(other)
    kit.private.all_reduce(tensor)  # collective
    kit.caller.wait_stream(kit.private.stream)
    kit.submit(tensor.sum)


@mutant(("write", "collective"))
def forks_after_the_call(kit: Kit) -> None:
    tensor = kit.tensor()
    kit.submit(tensor.fill_, 1)  # write
    kit.private.all_reduce(tensor)  # collective
    kit.private.stream.wait_stream(kit.caller)
    kit.caller.wait_stream(kit.private.stream)
    kit.submit(tensor.sum)


@mutant(("collective", "read"))
def joins_before_the_call(kit: Kit) -> None:
    tensor = kit.tensor()
    kit.submit(tensor.fill_, 1)
    kit.private.stream.wait_stream(kit.caller)
    kit.caller.wait_stream(kit.private.stream)
    kit.private.all_reduce(tensor)  # collective
    kit.submit(tensor.sum)  # read


@mutant(("write", "collective"))
def records_the_event_before_the_write(kit: Kit) -> None:
    tensor, event = kit.tensor(), kit.streams.new_event()
    event.record(kit.caller)
    kit.submit(tensor.fill_, 1)  # write
    kit.private.stream.wait_event(event)
    kit.private.all_reduce(tensor)  # collective
    kit.caller.wait_stream(kit.private.stream)
    kit.submit(tensor.sum)


@mutant(("write", "collective"))
def reuses_the_event_on_another_stream(kit: Kit) -> None:
    tensor, event = kit.tensor(), kit.streams.new_event()
    kit.submit(tensor.fill_, 1)  # write
    event.record(kit.caller)
    event.record(kit.second.stream)
    kit.private.stream.wait_event(event)
    kit.private.all_reduce(tensor)  # collective
    kit.caller.wait_stream(kit.private.stream)
    kit.submit(tensor.sum)


@mutant(("write", "collective"))
def records_the_event_in_the_first_step_only(kit: Kit) -> None:
    tensor, event = kit.tensor(), None
    for _ in range(CALLS):
        kit.submit(tensor.fill_, 1)  # write
        event = event or kit.caller.record_event()
        kit.private.stream.wait_event(event)
        kit.private.all_reduce(tensor)  # collective
        kit.caller.wait_stream(kit.private.stream)
        kit.submit(tensor.sum)


@mutant(("collective", "read"))
def forgets_the_join_in_every_tenth_call(kit: Kit) -> None:
    tensor = kit.tensor()
    for number in range(CALLS):
        kit.submit(tensor.fill_, 1)
        kit.private.stream.wait_stream(kit.caller)
        kit.private.all_reduce(tensor)  # collective
        if number % 10 != 9:
            kit.caller.wait_stream(kit.private.stream)
        kit.submit(tensor.sum)  # read
        kit.caller.wait_stream(kit.private.stream)


@mutant(("write", "collective"))
def forgets_the_fork_above_256_kib(kit: Kit) -> None:
    for size_bytes in (1024, 256 * 1024, 512 * 1024):
        tensor = kit.tensor(size_bytes // 4)
        kit.submit(tensor.fill_, 1)  # write
        if tensor.nbytes <= 256 * 1024:
            kit.private.stream.wait_stream(kit.caller)
        kit.private.all_reduce(tensor)  # collective
        kit.caller.wait_stream(kit.private.stream)
        kit.submit(tensor.sum)


@mutant(("gather", "read of the gather"))
def forgets_the_join_in_all_gather_only(kit: Kit) -> None:
    tensor, gathered = kit.tensor(), kit.tensor()
    kit.submit(tensor.fill_, 1)
    kit.private.stream.wait_stream(kit.caller)
    kit.private.all_reduce(tensor)
    kit.caller.wait_stream(kit.private.stream)
    kit.submit(tensor.add_, 1)
    kit.private.stream.wait_stream(kit.caller)
    kit.private.all_gather(gathered, tensor)  # gather
    kit.submit(gathered.sum)  # read of the gather


@mutant(("collective", "next step"))
def overwrites_the_input_before_the_collective_has_read_it(kit: Kit) -> None:
    tensor, output = kit.tensor(), kit.tensor()
    kit.submit(tensor.fill_, 1)
    kit.private.stream.wait_stream(kit.caller)
    kit.private.all_gather(output, tensor)  # collective
    kit.submit(tensor.fill_, 2)  # next step
    kit.caller.wait_stream(kit.private.stream)
    kit.submit(output.sum)


@mutant(("collective", "read on a third stream"))
def reads_the_output_on_a_third_stream(kit: Kit) -> None:
    tensor, third = kit.tensor(), kit.stream()
    kit.submit(tensor.fill_, 1)
    kit.private.stream.wait_stream(kit.caller)
    third.wait_stream(kit.caller)
    kit.private.all_reduce(tensor)  # collective
    kit.caller.wait_stream(kit.private.stream)
    with kit.streams.stream(third):
        kit.submit(tensor.sum)  # read on a third stream


@mutant(("second write", "collective"))
def waits_for_one_of_two_producers(kit: Kit) -> None:
    tensor, other = kit.tensor(), kit.stream()
    kit.submit(tensor[: COUNT // 2].fill_, 1)
    with kit.streams.stream(other):
        kit.submit(tensor[COUNT // 2 :].fill_, 1)  # second write
    kit.private.stream.wait_stream(kit.caller)
    kit.private.all_reduce(tensor)  # collective
    kit.caller.wait_stream(kit.private.stream)
    kit.submit(tensor.sum)


@mutant(("scatter", "gather"))
def passes_a_result_from_communicator_to_communicator(kit: Kit) -> None:
    tensor, shard, gathered = kit.tensor(), kit.tensor(), kit.tensor()
    kit.submit(tensor.fill_, 1)
    kit.private.stream.wait_stream(kit.caller)
    kit.second.stream.wait_stream(kit.caller)
    kit.private.reduce_scatter(shard, tensor)  # scatter
    kit.second.all_gather(gathered, shard)  # gather
    kit.caller.wait_stream(kit.second.stream)
    kit.caller.wait_stream(kit.private.stream)
    kit.submit(gathered.sum)


@mutant(("broadcast", "use"))
def uses_weights_before_their_broadcast_has_ended(kit: Kit) -> None:
    weights = kit.tensor()
    kit.private.broadcast(weights, 0)  # broadcast
    kit.submit(weights.sum)  # use


@mutant(("transfer", "use"))
def uses_what_it_receives_too_early(kit: Kit) -> None:
    sent, received = kit.tensor(), kit.tensor()
    kit.submit(sent.fill_, 1)
    kit.private.stream.wait_stream(kit.caller)
    kit.private.send_recv(received, sent, 0, 0)  # transfer
    kit.submit(received.sum)  # use


@mutant(("collective", "new owner"))
def frees_the_input_without_record_stream(kit: Kit) -> None:
    temporary, output = kit.temporary(), kit.tensor()
    kit.unretained.stream.wait_stream(kit.caller)
    kit.unretained.all_gather(output, temporary)  # collective
    del temporary
    kit.submit(kit.temporary().fill_, 2)  # new owner
    kit.caller.wait_stream(kit.unretained.stream)
    kit.submit(output.sum)


@mutant(("collective", "new owner"))
def records_the_stream_before_the_call_on_another_stream(kit: Kit) -> None:
    temporary, output = kit.temporary(), kit.tensor()
    kit.keep(temporary, kit.private.stream)
    kit.unretained.stream.wait_stream(kit.caller)
    kit.unretained.all_gather(output, temporary)  # collective
    del temporary
    kit.submit(kit.temporary().fill_, 2)  # new owner
    kit.caller.wait_stream(kit.unretained.stream)
    kit.submit(output.sum)
