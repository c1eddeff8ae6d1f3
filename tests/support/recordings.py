"""Tiny recordings of one program, made up with the structure of real ones: one step in each format that is read.

The program makes two eager all-reduces through torch.distributed, and replays a graph of an all-reduce and an
all-gather three times through a communicator of its own. All data have the type bfloat16, and there are two ranks.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import Any

REPLAYS = 3
PROCESS = 961
EAGER_ELEMENTS, GRAPH_ELEMENTS, GATHER_ELEMENTS = 4096, 512, 1000


def kernel(function: str, time: float, correlation: int, **fields: Any) -> dict[str, Any]:
    """Return the event of a kernel of NCCL."""
    return {
        "ph": "X",
        "cat": "kernel",
        "name": f"ncclDevKernel_{function}_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
        "ts": time,
        "dur": 5.0,
        "args": {"stream": 7, "grid": [4, 1, 1], "correlation": correlation, **fields},
    }


def call(number: int, time: float, collective: str = "allreduce", **fields: Any) -> dict[str, Any]:
    """Return the event of a call of torch.distributed."""
    known = {
        "External id": number,
        "Collective name": collective,
        "dtype": "BFloat16",
        "In msg nelems": EAGER_ELEMENTS,
        "Out msg nelems": EAGER_ELEMENTS,
        "Group size": 2,
        "In split size": "[]",
        "Out split size": "[]",
    }
    event = {"ph": "X", "cat": "cpu_op", "name": "record_param_comms", "pid": PROCESS, "ts": time}
    return {**event, "args": {**known, **fields}}


def kineto(rank: int = 0, events: list[dict[str, Any]] | None = None) -> bytes:
    """Return a trace of torch.profiler; ``events`` stand instead of its own."""
    own: list[dict[str, Any]] = []
    for number in (1, 2):
        own += [call(number, number), call(number + 10, number, "wait", dtype="Byte")]
        sized = {"External id": number, "Collective name": "allreduce"}
        own.append(kernel("AllReduce_Sum_bf16", number + 0.5, number, **sized))
    for launch in range(100, 100 + REPLAYS):
        # In the file, kernels stand in any order, and before their launch.
        own += [kernel("AllGather", launch + 0.7, launch), kernel("AllReduce_Sum_bf16", launch + 0.5, launch)]
        own.append({"ph": "X", "cat": "cuda_runtime", "name": "cudaGraphLaunch", "args": {"correlation": launch}})
    document = {
        "schemaVersion": 1,
        "deviceProperties": [{"id": 0}],
        "distributedInfo": {"backend": "nccl", "rank": rank, "world_size": 2},
        "traceEvents": own if events is None else events,
    }
    return json.dumps(document).encode()


def log_line(function: str, count: int, stream: str, communicator: str = "0x50c4d020", datatype: int = 9) -> str:
    """Return the line of one call in the log of NCCL."""
    return (
        f"node0:{PROCESS}:{PROCESS} [0] NCCL INFO {function}: opCount 0 sendbuff 0x40 recvbuff 0x40 count {count} "
        f"datatype {datatype} op 0 root 0 comm {communicator} [nranks=2] stream {stream}\n"
    )


def nccl_log() -> bytes:
    """Return the log of NCCL: the eager calls, then the step on the own communicator, once for warm-up and captured."""
    step = [log_line("AllReduce", GRAPH_ELEMENTS, "0x4e26"), log_line("AllGather", GATHER_ELEMENTS, "0x4e26")]
    eager = [log_line("AllReduce", EAGER_ELEMENTS, "(nil)", "0x46b7")] * 2
    chosen = "AllReduce: 1024 Bytes -> Algo RING proto LL channel{Lo..Hi}={0..3}"
    tuning = f"node0:{PROCESS}:{PROCESS} [0] NCCL INFO {chosen}\n"
    return "".join(["loading the model\n", *eager, *step, tuning, *step]).encode()


def flight_recorder() -> dict[str, Any]:
    """Return the content of a dump of the flight recorder."""
    entry = {
        "profiling_name": "nccl:all_reduce",
        "process_group": ["0", "default_pg"],
        "input_dtypes": ["BFloat16"],
        "output_dtypes": ["BFloat16"],
        "input_sizes": [[4, EAGER_ELEMENTS // 4]],
        "output_sizes": [[4, EAGER_ELEMENTS // 4]],
        "state": "completed",
    }
    return {
        "entries": [entry, entry],
        "pg_config": {"0": {"name": "0", "ranks": "[0, 1]"}},
        "version": "2.10",
    }


def execution_trace() -> bytes:
    """Return an execution trace of the eager calls, one in the form of today and one in that of 2023."""
    tensor = [718, 715, 0, EAGER_ELEMENTS, 2, "cuda:0"]
    attributes = {
        "collective_name": "allreduce",
        "dtype": "BFloat16",
        "in_msg_nelems": EAGER_ELEMENTS,
        "out_msg_nelems": EAGER_ELEMENTS,
        "in_split_size": "[]",
        "pg_size": 2,
    }
    today = {
        "id": 1,
        "name": "record_param_comms",
        "inputs": {"values": [[tensor], 33, ["0", "default_pg"], 0, "allreduce", [], [], 0, 1, 2]},
        "attrs": [{"name": name, "type": "", "value": value} for name, value in attributes.items()],
    }
    earlier = {
        "id": 2,
        "name": "record_param_comms",
        "inputs": [tensor, 147, 94594108284448, 0, "all_to_allv", [1024, 3072], [1024, 1024]],
        "input_types": ["Tensor(c10::BFloat16)", "Int", "Int", "Int", "String"],
        "outputs": [[723, 724, 0, 2048, 2, "cuda:0"]],
    }
    waiting = {**earlier, "inputs": [147, 0, 0, "wait", [], []]}
    return json.dumps({"schema": "1.0.1", "pid": PROCESS, "nodes": [today, waiting, earlier]}).encode()


def inspector() -> bytes:
    """Return the lines of NCCL's inspector for the calls of the own communicator."""
    sizes = {"AllReduce": 2 * GRAPH_ELEMENTS, "AllGather": 2 * GATHER_ELEMENTS}
    lines = [
        {
            "header": {"id": "0x9e7a", "rank": 0, "n_ranks": 2, "nnodes": 1},
            "metadata": {"inspector_output_format_version": "v4.0", "hostname": "node0", "pid": PROCESS},
            "coll_perf": {"coll": name, "coll_sn": 1, "coll_msg_size_bytes": size, "coll_exec_time_us": 110},
        }
        for name, size in sizes.items()
    ]
    return "".join(f"{json.dumps(line)}\n" for line in lines * REPLAYS).encode()


def files() -> Mapping[str, bytes]:
    """Return a file of each format, by a name that shows the format."""
    import pickle

    return {
        "kineto-rank0.json": kineto(),
        "kineto-rank1.json.gz": gzip.compress(kineto(1), mtime=0),
        "nccl-rank0.log": nccl_log(),
        "flight-rank0.json": json.dumps(flight_recorder()).encode(),
        "flight-rank0.pickle": pickle.dumps(flight_recorder(), protocol=2),
        "execution-rank0.json": execution_trace(),
        "inspector.jsonl": inspector(),
    }
