"""Several recordings of one run complete each other, and what none of them has is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nccl_bench.records.kernels import Kernel
from nccl_bench.traces.joining import Traffic, join
from nccl_bench.traces.readers import read_recordings
from nccl_bench.traces.recording import Call, Launch, Message, Mode, Recording

STREAM = ("0x50", "0x4e")
PAIR = ("all_reduce", "all_gather")

# One rank of a tensor-parallel decoder on two H200s: torch.distributed made the eager calls, and a communicator of the
# program made those of a graph, which ran eight times. The program counted them itself. A size is what one
# rank sends.
RECORDED = Path(__file__).parents[2] / "data" / "traces"
EAGER_CALLS = {
    ("all_reduce", 2**22): 8,
    ("all_gather", 16_384_000): 1,
    ("all_reduce", 2**15): 16,
    ("all_gather", 128_000): 2,
}
CAPTURED_CALLS = {("all_reduce", 2**15): 64, ("all_gather", 128_000): 8}


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


def graph(collectives: Sequence[str] = PAIR, channels: tuple[int, ...] = ()) -> Launch:
    return Launch(Mode.GRAPH, tuple(collectives), channels or (None,) * len(collectives), ("7",))


def test_every_call_of_a_real_program_is_counted_with_what_one_rank_sends() -> None:
    profile, log = (read_recordings(RECORDED / name) for name in ("kineto-rank0.json.gz", "nccl-rank0.log.gz"))
    both, alone = joined(*profile, *log), joined(*profile)
    for traffic, captured in ((both, CAPTURED_CALLS), (alone, {})):
        for mode, expected in ((Mode.EAGER, EAGER_CALLS), (Mode.GRAPH, captured)):
            calls = {call: count for call, count in traffic.calls.items() if call.mode is mode}
            assert {(call.message.collective, call.message.sent_bytes): n for call, n in calls.items()} == expected
            assert {(call.message.dtype, call.message.ranks) for call in calls} <= {("bfloat16", 2)}
    assert not both.unseen
    assert alone.unseen == {(Mode.GRAPH, "all_reduce", "7"): 64, (Mode.GRAPH, "all_gather", "7"): 8}


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
    assert (traffic.files, traffic.unused, traffic.remarks) == (("kineto.json",), ("nccl.log",), ())


def test_without_a_log_the_calls_in_graphs_are_named_as_unseen() -> None:
    traffic = joined(profile(graph(), graph()))
    assert traffic.unseen == {(Mode.GRAPH, "all_reduce", "7"): 2, (Mode.GRAPH, "all_gather", "7"): 2}
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
    traffic = joined(profile(Launch(Mode.EAGER, ("send_recv",), (8,), ("84",))), trace)
    assert traffic.calls == {Call(exchange, Mode.EAGER, "84"): 1}


def test_a_log_belongs_to_the_rank_of_its_process() -> None:
    step = [message(name, 8) for name in PAIR]
    joined, alone = join([log(message("broadcast", 8), process=7), profile(graph(), rank=3), log(*step)])
    assert (joined.rank, alone.rank) == (3, None)
    assert joined.calls.total() == 2
    assert not joined.unseen


def test_the_number_of_a_process_that_two_ranks_have_says_nothing() -> None:
    step = [message(name, 8) for name in PAIR]
    ranks = [each.rank for each in join([profile(graph(), rank=0), profile(graph(), rank=1), log(*step)])]
    assert ranks == [0, 1, None]


def test_the_channels_of_kernels_tell_sequences_apart() -> None:
    small, large = ([message(name, size) for name in PAIR] for size in (8, 64))
    kernel = Kernel(algorithm="RING", protocol="LL")
    kernels = {each: {replace(kernel, channels=2 if each in small else 16)} for each in (*small, *large)}
    traffic = joined(profile(graph(channels=(16, 16))), replace(log(*small, *large), kernels=kernels))
    assert {call.message for call in traffic.calls} == {*large}
    assert traffic.kernels[large[0]] == ("RING/LL",)
