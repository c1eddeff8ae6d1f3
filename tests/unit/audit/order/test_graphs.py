"""Captured graphs: the order inside a capture, and replays as one piece of work."""

from __future__ import annotations

from dataclasses import replace

from nccl_bench.audit.order.actions import (
    Action,
    CaptureBegun,
    CaptureEnded,
    GraphDestroyed,
    GraphReplayed,
    StreamOfMemoryRecorded,
)
from nccl_bench.audit.order.places import ByteRange, Stream
from nccl_bench.audit.order.races import Missing, RaceKind
from tests.support.order_actions import (
    COLLECTIVE,
    CONSUMER,
    MAIN,
    OUTPUT,
    PRODUCER,
    SIDE,
    THIRD,
    allocated,
    freed,
    launched,
    names,
    races,
    waits,
)

COPY = replace(CONSUMER, stream=THIRD)
SCRATCH = ByteRange(address=3000, length=64)


def captured(*body: Action, graph: int = 1) -> tuple[Action, ...]:
    """Return a capture on the third stream."""
    return (
        CaptureBegun(thread=1, stream=THIRD),
        *body,
        CaptureEnded(thread=1, stream=THIRD, graph=graph),
    )


def replayed(stream: Stream, graph: int = 1) -> GraphReplayed:
    return GraphReplayed(thread=1, graph=graph, stream=stream, where="line of replay")


FORK, JOIN = waits(SIDE, THIRD), waits(THIRD, SIDE, event=6)
GRAPH = captured(*FORK, COLLECTIVE, *JOIN, COPY)


def test_a_missing_join_inside_a_capture_is_found_at_the_capture() -> None:
    assert names(*captured(*FORK, COLLECTIVE, COPY, *JOIN)) == [("all_reduce", "copy", Missing.JOIN)]
    assert names(*GRAPH) == []


def test_captured_work_does_not_race_with_work_that_runs_during_the_capture() -> None:
    assert races(PRODUCER, *captured(*FORK, COLLECTIVE, *JOIN), launched("zero_", MAIN, writes=[OUTPUT])) == ()


def test_a_stream_runs_work_again_after_its_capture() -> None:
    assert names(*GRAPH, PRODUCER, COLLECTIVE) == [("mul", "all_reduce", Missing.FORK)]


def test_a_replay_reads_and_writes_what_its_graph_does() -> None:
    (race,) = races(PRODUCER, *GRAPH, replayed(SIDE))
    assert (race.first.work.name, race.second.work.name) == ("mul", "all_reduce")
    assert (race.second.in_graph, race.second.replayed, race.second.stream) == (True, "line of replay", SIDE)
    assert [race.first.work.name for race in races(*GRAPH, replayed(SIDE), CONSUMER)] == ["all_reduce"]
    assert races(PRODUCER, *GRAPH, *waits(SIDE, MAIN), replayed(SIDE), *waits(MAIN, SIDE), CONSUMER) == ()


def test_races_with_replays_at_two_lines_are_two_races() -> None:
    another = replace(replayed(SIDE), where="another line of replay")
    first, second = races(PRODUCER, *GRAPH, replayed(SIDE), *waits(MAIN, SIDE), PRODUCER, another)
    assert (first.second.replayed, second.second.replayed) == ("line of replay", "another line of replay")
    assert first.identity != second.identity


def test_replays_of_one_graph_run_one_after_another_and_of_two_graphs_do_not() -> None:
    assert races(*GRAPH, replayed(SIDE), replayed(THIRD)) == ()
    assert len(races(*GRAPH, *captured(*FORK, COLLECTIVE, *JOIN, graph=2), replayed(SIDE), replayed(THIRD, 2))) == 1


def test_a_graph_that_was_destroyed_does_nothing() -> None:
    assert races(PRODUCER, *GRAPH, GraphDestroyed(graph=1), replayed(SIDE)) == ()


def test_memory_of_a_capture_is_handed_out_in_the_order_of_the_capture() -> None:
    use = launched("all_reduce", SIDE, writes=[SCRATCH])
    body = (allocated(SCRATCH, THIRD), *FORK, use, freed(SCRATCH), allocated(SCRATCH, THIRD), *JOIN)
    (race,) = races(*captured(*body))
    assert (race.kind, race.missing) == (RaceKind.MEMORY, Missing.RECORD_STREAM)
    recorded = (*body[:4], StreamOfMemoryRecorded(address=SCRATCH.address, stream=SIDE), *body[4:])
    assert races(*captured(*recorded)) == ()
