"""``run --profile`` on GPUs: the profile of each arm has the calls that were made, eagerly and in a graph."""

from __future__ import annotations

from pathlib import Path

import pytest

from nccl_bench.bench.profile import CALLS
from nccl_bench.records.run import Run
from nccl_bench.traces.readers import read_recordings
from nccl_bench.traces.recording import Mode
from tests.gpu.test_sweep import sweep

SIZES = (1024, 1024**2)


@pytest.mark.gpus(2)
@pytest.mark.timeout(300)
def test_a_profile_has_the_calls_of_each_arm_eagerly_and_in_a_graph(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    sweep(
        directory,
        *("--arms", "stream-free,dedicated-stream,torch", "--sizes", "1K,32K,1M", "--timing", "eager,graph"),
        *("--rounds", "2", "--max-rounds", "2", "--profile"),
    )
    profiles = Run.load(directory).meta["worker"]["profiles"]
    assert len(profiles) == 3 * len(SIZES)
    for each in profiles:
        assert (each["eager_calls"], each["graph_calls"]) == (CALLS, CALLS)
        (recording,) = read_recordings(directory / each["file"])
        made = dict.fromkeys(Mode, 0)
        for call, count in recording.calls.items():
            assert (call.message.collective, call.message.size_bytes) == ("all_reduce", int(each["case"].split()[-2]))
            made[call.mode] += count
        # The calls of communicators outside torch.distributed, and those in graphs, are kernels without sizes.
        for launch, count in recording.launches.items():
            assert {*launch.collectives} == {"all_reduce"}
            made[launch.mode] += count * len(launch.collectives)
        assert made == {Mode.EAGER: CALLS, Mode.GRAPH: CALLS, Mode.UNKNOWN: 0}, each
        assert bool(recording.calls) is (each["arm"] == "torch")
