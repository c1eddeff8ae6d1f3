"""The watch over the GPUs of several ranks: what is merged, and what the record gets."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch.distributed as dist

from nccl_bench.bench import watch
from nccl_bench.bench.timing import Clock
from nccl_bench.bench.watch import Watch
from nccl_bench.catalog.throttling import ThrottleReason
from nccl_bench.config.run import resolve
from nccl_bench.ranks.joining import Ranks
from nccl_bench.ranks.progress import Progress
from nccl_bench.records.nvml import Nvml
from nccl_bench.records.schema import GpuState, Line, Samples, dump, parse
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.streams.sensors import GpuSensors
from nccl_bench.transports.device import open_device
from tests.support.fake_nvml import H200, UUID, FakeNvml, running
from tests.support.one_rank_run import run_on_one_rank
from tests.support.synthetic_runs import gpus


class OtherProcesses:
    """A run's processes, of which no other process has this number."""

    def __init__(self, ranks: Sequence[int]) -> None:
        assert ranks == [100, 101, 102]

    def first_other(self, listed: set[int]) -> int | None:
        return min(listed - {100, 101, 102}, default=None)


def measured(one_rank: dist.ProcessGroup, **options: Any) -> list[Line]:
    config = resolve("cpu", {"sizes": "4K", "arms": "stream-free", "rounds": 2, "max_rounds": 2, **options})
    return run_on_one_rank(config, one_rank, open_device("cpu", 0), Progress(None, 0, 0))[1]


def merged(
    monkeypatch: pytest.MonkeyPatch, *of_ranks: dict[str, Any] | None, set_index: int = 0, reading_set: int = 0
) -> GpuState | None:
    """Return the state that three ranks record. A rank without a GPU has no sensors.

    The ranks are in the process set ``set_index`` of two, of which ``reading_set`` is the first one with sensors.
    """
    monkeypatch.setattr(watch, "OwnProcesses", OtherProcesses)
    parts: list[Sequence[float]] = []

    def state(rank: int, gpu: dict[str, Any] | None) -> GpuState | None:
        def maximum(values: Sequence[float]) -> list[float]:
            parts.append(values)
            return list(map(max, zip(*parts, strict=True)))

        control = SimpleNamespace(
            maximum=maximum,
            minimum=lambda own: min(own, reading_set),
            each_value=lambda _pid: [100, 101, 102],
            barrier=lambda: None,
            rank=rank,
        )
        own_set = SimpleNamespace(rank=rank)
        ranks = SimpleNamespace(set_index=set_index, first_ranks=(0, 3), all_ranks=control, own_set=own_set)
        sensors = None if gpu is None else GpuSensors.of(Nvml(library=FakeNvml(gpu)), UUID)
        watching = Watch(sensors, cast(Ranks, ranks))
        watching.begin()
        return watching.end()

    # The last rank has the values of all ranks.
    return [state(rank, gpu) for rank, gpu in enumerate(of_ranks)][-1]


def test_the_lowest_clock_and_the_highest_temperature_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = {"nvmlDeviceGetClockInfo": {1: 1200, 2: 2619}, "nvmlDeviceGetTemperature": {0: 39}}
    hot = {"nvmlDeviceGetTemperature": {0: 67}, "nvmlDeviceGetPowerUsage": 502_000}
    state = merged(monkeypatch, H200, H200 | slow, H200 | hot)
    assert state is not None
    assert (state.sm_clock_mhz, state.memory_clock_mhz) == (1200, 2619)
    assert (state.temperature_c, state.power_w) == (67, 502.0)


def test_quiet_gpus_have_no_reason_and_no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert merged(monkeypatch, H200 | running(100), H200 | running(101), None) == gpus()


def test_reasons_of_all_ranks_are_united_and_the_first_throttled_rank_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen, capped, hot = (H200 | {"nvmlDeviceGetCurrentClocksEventReasons": mask} for mask in (0x2, 0x4, 0x40))
    state = merged(monkeypatch, chosen, capped, hot)
    assert state is not None
    assert state.throttle_reasons == (
        ThrottleReason.POWER_CAP,
        ThrottleReason.HARDWARE_THERMAL,
        ThrottleReason.APPLICATION_CLOCKS,
    )
    assert state.lowering_reasons == (ThrottleReason.POWER_CAP, ThrottleReason.HARDWARE_THERMAL)
    assert state.throttled_rank == 1


def test_clocks_that_the_user_chose_throttle_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    state = merged(monkeypatch, H200, H200, H200 | {"nvmlDeviceGetCurrentClocksEventReasons": 0x103})
    assert state is not None
    assert state.throttle_reasons == (ThrottleReason.APPLICATION_CLOCKS, ThrottleReason.DISPLAY_CLOCKS)
    assert (state.lowering_reasons, state.throttled_rank) == ((), None)


def test_the_first_rank_with_another_process_is_recorded_with_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    last = 2**22 - 1  # the largest process id of Linux
    state = merged(monkeypatch, H200 | running(100), H200 | running(101, last), H200 | running(102, 7))
    assert state is not None
    assert (state.other_process_rank, state.other_process) == (1, last)


def test_only_the_first_process_set_with_sensors_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    state = merged(monkeypatch, H200, H200, H200, set_index=1)
    assert state is not None
    assert (state.sm_clock_mhz, state.power_w, state.other_process) == (None, None, None)
    # The interpreter of the first process set lacks nvidia-ml-py.
    state = merged(monkeypatch, H200, H200, H200, set_index=1, reading_set=1)
    assert state is not None
    assert state.sm_clock_mhz is not None


def test_without_sensors_nothing_is_recorded(one_rank: dist.ProcessGroup) -> None:
    (line,) = measured(one_rank, timings="eager")
    assert isinstance(line, Samples)
    assert line.gpus is None


def test_a_throttled_gpu_is_recorded_with_the_samples_and_never_read_in_a_batch(
    one_rank: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = H200 | {"nvmlDeviceGetCurrentClocksEventReasons": 0x4}
    steps: list[str] = []
    read, batch = GpuSensors.read, Clock.batch

    def noted(step: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            steps.append(f"{step} begins")
            result = function(*arguments, **options)
            steps.append(f"{step} ends")
            return result

        return call

    monkeypatch.setattr(CpuStreams, "sensors", lambda _self: GpuSensors.of(Nvml(library=FakeNvml(gpu)), UUID))
    monkeypatch.setattr(GpuSensors, "read", noted("reading", read))
    monkeypatch.setattr(Clock, "batch", noted("batch", batch))
    lines = measured(one_rank, timings="eager,enqueue")
    assert len(lines) == 2
    reading, timed = ["reading begins", "reading ends"], ["batch begins", "batch ends"]
    assert steps == 2 * [*reading, *timed, *timed, *reading]
    for line in lines:
        assert isinstance(line, Samples)
        assert line.gpus is not None
        assert (line.gpus.throttled_rank, line.gpus.lowering_reasons) == (0, (ThrottleReason.POWER_CAP,))
        assert parse(dump(line)) == line
