"""Mutants: views and slices of a tensor that another stream writes."""

from __future__ import annotations

from tests.support.audit_programs.kit import Kit, mutant


@mutant(("write of the whole", "collective"))
def sends_a_view_of_a_tensor_that_another_stream_writes(kit: Kit) -> None:
    matrix, output, other = kit.tensor().view(32, 32), kit.tensor(32), kit.stream()
    view = matrix[5]
    with kit.streams.stream(other):
        kit.submit(matrix.fill_, 1)  # write of the whole
    kit.private.stream.wait_stream(kit.caller)
    kit.private.all_gather(output, view)  # collective
    kit.caller.wait_stream(kit.private.stream)


@mutant(("lower rows", "collective"))
def sends_rows_of_which_one_is_still_written(kit: Kit) -> None:
    matrix, other = kit.tensor().view(32, 32), kit.stream()
    kit.submit(matrix[:16].fill_, 1)
    with kit.streams.stream(other):
        kit.submit(matrix[16:].fill_, 1)  # lower rows
    kit.private.stream.wait_stream(kit.caller)
    kit.private.all_reduce(matrix[:17])  # collective
    kit.caller.wait_stream(kit.private.stream)


@mutant(("left columns", "columns in the middle"))
def writes_columns_that_overlap_on_two_streams(kit: Kit) -> None:
    matrix, other = kit.tensor().view(32, 32), kit.stream()
    kit.submit(matrix[:, :16].fill_, 1)  # left columns
    with kit.streams.stream(other):
        kit.submit(matrix[:, 16:].fill_, 1)
        kit.submit(matrix[:, 15:17].fill_, 1)  # columns in the middle


@mutant(("collective", "read of the transpose"))
def reads_the_transpose_of_the_output_too_early(kit: Kit) -> None:
    matrix = kit.tensor().view(32, 32)
    transpose = matrix.t()[3:]
    kit.submit(matrix.fill_, 1)
    kit.private.stream.wait_stream(kit.caller)
    kit.private.all_reduce(matrix)  # collective
    kit.submit(transpose.sum)  # read of the transpose


@mutant(("shard", "norm of all"))
def reads_a_buffer_of_shards_after_the_join_of_its_first_shard(kit: Kit) -> None:
    flat, events = kit.tensor(), []
    for shard in flat.chunk(2):
        kit.submit(shard.fill_, 1)
        kit.private.stream.wait_stream(kit.caller)
        kit.private.all_reduce(shard)  # shard
        events.append(kit.private.stream.record_event())
    kit.caller.wait_event(events[0])
    kit.submit(flat.norm)  # norm of all
