"""Several recordings of one run complete each other, and what none of them has is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nccl_bench.traces.joining import Traffic, join
from nccl_bench.traces.recording import Call, Launch, Message, Mode, Recording

STREAM = ("0x50", "0x4e")
PAIR = ("all_reduce", "all_gather")


def message(collective: str, size: int) -> Message:
    return Message(collective, "bfloat16", size, size, 2)


def profile(*launches: Launch, rank: int | None = 0, calls: Counter[Call] | None = None) -> Recording:
    return Recording(
        source="torch.profiler",
        file="kineto.json",
        rank=rank,
        process=961,
        calls=calls or Counter(),
        launches=Counter(launches),
    )


def log(*messages: Message, stream: tuple[str, str] = STREAM, process: int = 961) -> Recording:
    calls = Counter(Call(each, Mode.UNKNOWN, stream[1]) for each in messages)
    return Recording(source="NCCL log", file="nccl.log", process=process, calls=calls, sequences={stream: messages})


def joined(*recordings: Recording) -> Traffic:
    (traffic,) = join(recordings)
    return traffic


def graph(collectives: Sequence[str] = PAIR) -> Launch:
    return Launch(Mode.GRAPH, tuple(collectives), ("7",))


def test_the_replays_of_a_graph_weigh_the_calls_that_it_captured_once() -> None:
    step = [message("all_reduce", 64), message("all_reduce", 64), message("all_gather", 8)]
    launch = graph([each.collective for each in step])
    traffic = joined(profile(launch, launch, launch), log(*step, *step))
    assert traffic.calls == {Call(step[0], Mode.GRAPH, "7"): 6, Call(step[2], Mode.GRAPH, "7"): 3}
    assert not traffic.unseen
    assert traffic.files == ("kineto.json", "nccl.log")
    assert traffic.remarks == ()


def test_calls_of_the_log_outside_of_the_profile_do_not_count() -> None:
    eager = Counter({Call(message("all_reduce", 4), Mode.EAGER, "7"): 2})
    traffic = joined(profile(calls=eager), log(message("all_reduce", 4), message("broadcast", 4)))
    assert traffic.calls == eager
    assert traffic.remarks == ("nccl.log adds nothing: the counts come from kineto.json",)


def test_without_a_log_the_calls_in_graphs_are_named_as_unseen() -> None:
    traffic = joined(profile(graph(), graph()))
    assert traffic.unseen == {(Mode.GRAPH, "all_reduce"): 2, (Mode.GRAPH, "all_gather"): 2}
    (remark,) = traffic.remarks
    assert remark.startswith("4 calls in graphs are kernels without sizes: add a log of NCCL")


def test_sizes_are_not_guessed_if_two_sequences_fit() -> None:
    small, large = ([message(name, size) for name in PAIR] for size in (8, 64))
    traffic = joined(profile(graph()), log(*small, *large))
    assert not traffic.calls
    assert "several sequences of calls in nccl.log fit them" in traffic.remarks[0]


def test_the_calls_of_a_graph_are_not_sought_on_a_stream_that_cannot_be_captured() -> None:
    step = [message(name, 8) for name in PAIR]
    traffic = joined(profile(graph()), log(*step, stream=("0x50", "(nil)")))
    assert "no sequence of calls in nccl.log fits them" in traffic.remarks[0]


def test_a_sequence_can_begin_anywhere_and_overlap_the_first_that_fits() -> None:
    messages = [message("all_reduce", size) for size in (4, 8, 8)]
    traffic = joined(profile(graph(["all_reduce", "all_reduce"])), log(*messages))
    assert "several sequences" in traffic.remarks[0]


def test_an_execution_trace_gives_sizes_to_kernels_that_the_program_launched() -> None:
    exchange = message("all_to_all", 96)
    trace = Recording(source="execution trace", file="et.json", process=961, sequences={("", ""): [exchange]})
    traffic = joined(profile(Launch(Mode.EAGER, ("send_recv",), ("84",))), trace)
    assert traffic.calls == {Call(exchange, Mode.EAGER, "84"): 1}


def test_a_log_belongs_to_the_rank_of_its_process() -> None:
    step = [message(name, 8) for name in PAIR]
    one, two = join([profile(graph(), rank=3), log(*step), log(message("broadcast", 8), process=7)])
    assert (one.rank, two.rank) == (None, 3)
    assert two.calls.total() == 2
    assert not two.unseen


def test_the_number_of_a_process_that_two_ranks_have_says_nothing() -> None:
    step = [message(name, 8) for name in PAIR]
    ranks = [each.rank for each in join([profile(graph(), rank=0), profile(graph(), rank=1), log(*step)])]
    assert ranks == [None, 0, 1]
