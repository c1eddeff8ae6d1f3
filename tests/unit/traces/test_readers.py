"""Each format is read into the messages that the program sent, and damage is named."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.errors import RecordError
from nccl_bench.records.kernels import Kernel
from nccl_bench.traces.readers import READERS, read_recordings
from nccl_bench.traces.recording import Call, Launch, Message, Mode, Recording
from tests.support import recordings
from tests.support.recordings import EAGER_ELEMENTS, GATHER_ELEMENTS, GRAPH_ELEMENTS, REPLAYS

EAGER = Message("all_reduce", "bfloat16", 2 * EAGER_ELEMENTS, 2 * EAGER_ELEMENTS, 2)
REDUCED = Message("all_reduce", "bfloat16", 2 * GRAPH_ELEMENTS, 2 * GRAPH_ELEMENTS, 2)
# NCCL is given what one rank sends; the size is what one rank receives.
GATHERED = Message("all_gather", "bfloat16", 4 * GATHER_ELEMENTS, 2 * GATHER_ELEMENTS, 2)


def read(directory: Path, name: str, content: bytes) -> Recording:
    (directory / name).write_bytes(content)
    (recording,) = read_recordings(directory / name)
    return recording


def test_a_trace_of_the_profiler_has_eager_calls_with_sizes_and_graphs_without(tmp_path: Path) -> None:
    recording = read(tmp_path, "trace.json", recordings.kineto(rank=3))
    assert (recording.rank, recording.process) == (3, recordings.PROCESS)
    assert recording.calls == {Call(EAGER, Mode.EAGER, "7"): 2}
    # The kernels of a graph are in the order of their times.
    assert recording.launches == {Launch(Mode.GRAPH, ("all_reduce", "all_gather"), (4, 4), ("7",)): REPLAYS}
    assert recording.remarks == ()


def test_a_compressed_trace_is_read_like_the_file_itself(tmp_path: Path) -> None:
    plain = read(tmp_path, "trace.json", recordings.kineto())
    packed = read(tmp_path, "trace.json.gz", gzip.compress(recordings.kineto()))
    assert replace(packed, file=plain.file) == plain


def test_a_kernel_of_a_call_with_a_size_is_not_counted_again(tmp_path: Path) -> None:
    events = [recordings.call(1, 1.0), recordings.kernel("AllReduce", 1.5, 1, **{"External id": 1})]
    recording = read(tmp_path, "trace.json", recordings.kineto(events=[*events, recordings.call(2, 2.0)]))
    assert recording.calls.total() == 2
    assert not recording.launches
    assert recording.remarks[0].startswith("1 of 2 calls of torch.distributed have no kernel of NCCL")


def test_all_reduces_of_an_engines_own_kernels_are_named_and_not_counted(tmp_path: Path) -> None:
    name = "void vllm::cross_device_reduce_1stage<__nv_bfloat16, 2>(vllm::RankData*)"
    events = [{"ph": "X", "cat": "kernel", "name": name, "ts": 1, "args": {"stream": 7}}] * 2
    recording = read(tmp_path, "trace.json", recordings.kineto(events=events))
    assert not recording.launches
    assert recording.remarks[0].startswith("2 kernels of all-reduces are not NCCL's and are not counted")


def test_calls_of_older_versions_of_torch_are_counted_by_their_kernels(tmp_path: Path) -> None:
    nameless = {"ph": "X", "cat": "cpu_op", "name": "record_param_comms", "ts": 1, "args": {"External id": 1}}
    kernel = {"ph": "X", "cat": "Kernel", "name": "ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t(ncclWorkElem)", "ts": 2}
    events = [nameless, {**kernel, "args": {"stream": 21, "External id": 7}}]
    recording = read(tmp_path, "trace.json", recordings.kineto(events=events))
    assert recording.launches == {Launch(Mode.EAGER, ("send_recv",), (None,), ("21",)): 1}
    assert "1 records of torch.distributed have no name" in recording.remarks[0]


def call_of_gloo(**fields: Any) -> dict[str, Any]:
    """Return the event of a call of Gloo in which this rank gives 512 elements."""
    return {"ph": "X", "cat": "user_annotation", "name": "gloo:all_gather", "ts": 1, "pid": 7, "args": fields}


def test_where_nothing_called_nccl_the_calls_of_gloo_count(tmp_path: Path) -> None:
    shapes = {"Input type": ["c10::BFloat16"], "Input Dims": [[512]]}
    of_gloo = [call_of_gloo(**shapes), call_of_gloo(**shapes), call_of_gloo()]
    groups = [{"pg_size": 4, "ranks": [0, 1, 2, 3]}] * 2
    content = json.loads(recordings.kineto(events=of_gloo)) | {"distributedInfo": {"rank": 0, "pg_config": groups}}
    in_order = {name: content[name] for name in ("schemaVersion", "deviceProperties", "distributedInfo", "traceEvents")}
    recording = read(tmp_path, "trace.json", json.dumps(in_order).encode())
    assert recording.calls == {Call(Message("all_gather", "bfloat16", 4096, 1024, 4), Mode.EAGER, ""): 2}
    assert recording.process == 7
    assert recording.remarks == (
        "no call reached NCCL: these are the calls of Gloo",
        "1 calls of Gloo have no size and are not counted: record the trace with record_shapes=True",
    )
    beside = read(tmp_path, "trace.json", recordings.kineto(events=[*of_gloo, recordings.call(1, 1.0)]))
    assert [call.message.collective for call in beside.calls] == ["all_reduce"]
    assert not any("Gloo" in remark for remark in beside.remarks)


def test_a_group_without_ranks_has_an_unknown_number_of_ranks(tmp_path: Path) -> None:
    recording = read(tmp_path, "trace.json", recordings.kineto(events=[recordings.call(1, 1.0, **{"Group size": 0})]))
    assert [call.message.ranks for call in recording.calls] == [None]


def test_a_log_has_every_call_in_order_with_the_graphs_calls_once(tmp_path: Path) -> None:
    recording = read(tmp_path, "job-rank3.log", recordings.nccl_log())
    assert recording.rank == 3  # from the name of the file
    assert recording.calls == {
        Call(EAGER, Mode.UNKNOWN, "(nil)"): 2,
        Call(REDUCED, Mode.UNKNOWN, "0x4e26"): 2,
        Call(GATHERED, Mode.UNKNOWN, "0x4e26"): 2,
    }
    assert recording.kernels == {REDUCED: {Kernel(algorithm="RING", protocol="LL", channels=4)}}
    assert recording.sequences["0x50c4d020", "0x4e26"] == [REDUCED, GATHERED, REDUCED, GATHERED]


def test_what_nccl_ran_is_read_in_each_form(tmp_path: Path) -> None:
    forms = [
        " [Symmetric]: 1024 Bytes -> Kernel AllReduce_AGxLL_R nchannels 4 nthreads 512 nWorks 1",
        " [Copy Engine]: 1024 Bytes -> cudaMemcpy; CE synchronization with NVLS",
        ": 1024 Bytes -> Algo NVLS proto SIMPLE channel{Lo..Hi}={2..9}",
        ": 999 Bytes -> Algo of a call that is not there",
    ]
    lines = "".join(f"node0:961:961 [0] NCCL INFO AllReduce{form}\n" for form in forms)
    recording = read(
        tmp_path, "a.log", recordings.log_line("AllReduce", GRAPH_ELEMENTS, "0x4e26").encode() + lines.encode()
    )
    assert {kernel.text for kernel in recording.kernels[REDUCED]} == {
        "symmetric AllReduce_AGxLL_R on 4 channels",
        "copy engine",
        "NVLS/SIMPLE on 8 channels",
    }


def test_a_log_of_several_processes_becomes_one_recording_for_each(tmp_path: Path) -> None:
    second = recordings.nccl_log().replace(b"961:961 [0]", b"962:962 [1]")
    # Most of a job's log is about something else.
    (tmp_path / "job.log").write_bytes(b"loading\n" * 20_000 + recordings.nccl_log() + second)
    assert [(each.rank, each.process) for each in read_recordings(tmp_path / "job.log")] == [(0, 961), (1, 962)]


def test_lines_of_a_log_that_are_damaged_are_counted(tmp_path: Path) -> None:
    torn = recordings.log_line("AllReduce", 8, "(nil)")[:70] + "\n"
    recording = read(tmp_path, "a.log", recordings.nccl_log() + torn.encode() * 2)
    assert recording.calls.total() == 6
    assert recording.remarks[0].startswith("2 lines of calls are left out")


@pytest.mark.parametrize("name", ["flight-rank0.json", "flight-rank0.pickle"])
def test_a_dump_of_the_flight_recorder_is_read_as_json_and_as_pickle(name: str, tmp_path: Path) -> None:
    recording = read(tmp_path, name, recordings.files()[name])
    assert recording.calls == {Call(EAGER, Mode.UNKNOWN, ""): 2}
    assert recording.rank == 0


def test_an_execution_trace_is_read_in_the_form_of_today_and_of_2023(tmp_path: Path) -> None:
    recording = read(tmp_path, "et.json", recordings.execution_trace())
    exchanged = Message("all_to_all", "bfloat16", 2 * EAGER_ELEMENTS, 2 * EAGER_ELEMENTS, 2, uneven=True)
    assert recording.calls == {Call(EAGER, Mode.UNKNOWN, ""): 1, Call(exchanged, Mode.UNKNOWN, ""): 1}
    assert recording.process == recordings.PROCESS


def test_a_graph_of_chakra_has_kernels_without_sizes(tmp_path: Path) -> None:
    nodes = [{"Id": 1, "Name": name} for name in ("c10d::broadcast_(0)", "ncclKernel_Broadcast_RING_LL_Sum_int8_t(x)")]
    recording = read(tmp_path, "chakra.json", json.dumps({"workload_graph": nodes}).encode())
    assert recording.launches == {Launch(Mode.EAGER, ("broadcast",), (None,), ()): 1}


def test_the_inspector_has_sizes_and_no_data_types(tmp_path: Path) -> None:
    recording = read(tmp_path, "inspector.jsonl", recordings.inspector() + b"{torn\n")
    assert recording.calls == Counter(
        {Call(message._replace(dtype=None), Mode.UNKNOWN, ""): REPLAYS for message in (REDUCED, GATHERED)}
    )
    assert recording.remarks[0].startswith("1 lines are left out")


def test_a_file_of_no_known_format_is_refused_with_all_formats(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing\n")
    with pytest.raises(RecordError) as caught:
        read_recordings(tmp_path / "notes.txt")
    assert all(reader.files in str(caught.value) for reader in READERS.values())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (recordings.kineto()[:-40], "its JSON is malformed"),
        (gzip.compress(recordings.kineto())[:-20], "cannot be read"),
        (b'{"traceEvents": ["' + b"x" * 2 * 2**20 + b'"]}', "1,048,576 bytes"),
        (b'{"traceEvents": ' + b"[" * 2**20, "nested more than"),
        (b'{"name": ' + b'{"a":' * 2**11 + b"1" + b"}" * 2**11 + b', "traceEvents": []}', "nested more than"),
        (gzip.compress(b'{"traceEvents": ' + b" " * 2 * 2**20), "1,048,576 bytes"),
        (b'{"schema": "1", "nodes": 1}', "no list `nodes`"),
        (b'{"entries": 1, "pg_config": {}}', "no list `entries`"),
        (recordings.kineto(events=[recordings.call(1, 1.0, **{"In msg nelems": 2**53})]), "a wrong size in bytes"),
        (recordings.kineto(events=[recordings.call(1, 1.0, **{"Group size": 2_000_000})]), "a wrong number of ranks"),
    ],
)
def test_a_file_that_is_cut_or_fills_the_memory_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "trace").write_bytes(content)
    with pytest.raises(RecordError, match=reason):
        read_recordings(tmp_path / "trace")
