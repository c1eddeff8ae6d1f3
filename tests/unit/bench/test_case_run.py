"""One case and the walk over cases, with one rank in this process: what the check sees, and what is kept alive."""

from __future__ import annotations

import os
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nccl_bench.arms import arm as arms
from nccl_bench.bench import runner
from nccl_bench.bench.buffers import CaseBuffers
from nccl_bench.bench.runner import Runner
from nccl_bench.catalog.cases import Case
from nccl_bench.config.run import RunConfig, resolve
from nccl_bench.errors import SetupError
from nccl_bench.plan.cases import make_plan
from nccl_bench.plan.time import deadline_s, estimate_case_s
from nccl_bench.ranks.progress import Progress
from nccl_bench.records.schema import Line, Samples, Skipped
from nccl_bench.transports import device as device_module
from nccl_bench.transports.device import Device, open_device, refusal
from nccl_bench.transports.nccl import NcclTransport
from nccl_bench.transports.nccl_library import LibrarySource, NcclLibrary
from tests.support.one_rank_run import run_on_one_rank


def measured(one_rank: dist.ProcessGroup, **options: Any) -> tuple[RunConfig, Progress, list[Line]]:
    """A whole run of one rank, its positions and its lines."""
    config = resolve("cpu", {"sizes": "4K", "rounds": 1, "max_rounds": 1, "timings": "eager", **options})
    progress = Progress(None, 0, 0)
    _, lines = run_on_one_rank(config, one_rank, open_device("cpu", 0), progress)
    return config, progress, lines


def forgets_the_join(operation: Any, streams: Any, private: Any, fork: Any, _join: Any) -> Any:
    def ordered() -> None:
        fork.record(streams.current_stream())
        fork.wait(private)
        private.submit(time.sleep, 0.05)  # a device that takes its time
        operation()

    return ordered


def test_the_check_sees_an_arm_that_does_not_join(one_rank: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"arms": "dedicated-stream", "placements": "out-of-place"}
    _, _, (line,) = measured(one_rank, **options)
    assert isinstance(line, Samples)
    assert line.wrong == 0
    monkeypatch.setattr(arms, "fork_join", forgets_the_join)
    _, _, (line,) = measured(one_rank, **options)
    assert isinstance(line, Samples)
    assert line.wrong is not None
    assert line.wrong > 0


def test_the_buffers_of_a_case_are_gone_before_the_next_one_looks_at_the_memory(
    one_rank: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[CaseBuffers]] = []
    alive_at_fit: list[int] = []

    def counted(*arguments: Any) -> CaseBuffers:
        buffers = CaseBuffers(*arguments)
        made.append(weakref.ref(buffers))
        return buffers

    fit = Runner._fit

    def looking(self: Runner, planned: Any) -> Any:
        alive_at_fit.append(sum(buffers() is not None for buffers in made))
        return fit(self, planned)

    monkeypatch.setattr(runner, "CaseBuffers", counted)
    monkeypatch.setattr(Runner, "_fit", looking)
    measured(one_rank, sizes="1K,2K,4K", arms="stream-free")
    assert len(made) == 3
    assert alive_at_fit == [0, 0, 0]


def test_a_case_has_its_estimate_beyond_the_timeout(one_rank: dist.ProcessGroup) -> None:
    config, progress, _ = measured(one_rank, arms="stream-free", timeout_s=50)
    (planned,) = make_plan(config, 1).cases
    expected = estimate_case_s(config, planned, 1, config.rounds)
    assert expected > 0
    assert progress.position.timeout_s == deadline_s(config, planned, 1) == pytest.approx(50 + 2 * expected)


@pytest.mark.parametrize(("ops", "most"), [(100, 250), (250, 250)])
def test_the_events_between_operations_count_for_the_launch_queue(
    ops: int, most: int, one_rank: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    per_iteration = runner.Clock.per_iteration

    def counted(self: Any, calls: Any, gate_s: float | None) -> Any:
        seen.append(len(calls))
        return per_iteration(self, calls, gate_s)

    monkeypatch.setattr(runner.Clock, "per_iteration", counted)
    # 500 entries: 250 operations of one entry and as many events.
    measured(one_rank, arms="stream-free", per_iteration=True, ops_per_batch=ops if ops < most else 500)
    assert set(seen) == {ops}


class OldGpu:
    """What ``refusal`` asks of the streams."""

    def __init__(self, capability: str) -> None:
        self.capability = capability

    def describe(self) -> dict[str, object]:
        return {"compute_capability": self.capability}


@pytest.mark.parametrize(
    ("version", "capability", "collective", "dtype", "says"),
    [
        (22809, "9.0", "all_reduce", "float8_e5m2", None),
        (22809, "10.0", "all_reduce", "float8_e5m2", None),
        (22809, "8.0", "all_reduce", "float8_e5m2", "compute capability 9.0 on, and this GPU has 8.0"),
        (22304, "9.0", "reduce_scatter", "float8_e4m3fn", "NCCL 2.23.4 does not reduce float8"),
        (22304, "8.0", "all_gather", "float8_e4m3fn", None),
        (22304, "8.0", "all_reduce", "float16", None),
    ],
)
def test_what_the_machine_at_hand_cannot_reduce_is_refused_by_name(
    fake_nccl_path: Path, version: int, capability: str, collective: str, dtype: str, says: str | None
) -> None:
    transport = NcclTransport(NcclLibrary(path=str(fake_nccl_path), source=LibrarySource.ARGUMENT))
    transport.version = version
    (planned,) = make_plan(resolve("cuda", {"collectives": collective, "dtypes": dtype, "sizes": "4K"}), 2).cases
    reason = refusal(Device(streams=OldGpu(capability), transport=transport), planned.case)  # type: ignore[arg-type]
    assert reason == says or (says is not None and reason is not None and says in reason)


def test_a_refused_case_is_skipped_with_the_reason(
    one_rank: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses_small(_device: Device, case: Case) -> str | None:
        return "too small for this machine" if case.size_bytes < 4096 else None

    monkeypatch.setattr(runner, "refusal", refuses_small)
    _, _, lines = measured(one_rank, sizes="1K,4K", arms="stream-free")
    skipped, kept = lines
    assert isinstance(skipped, Skipped)
    assert (skipped.case.size_bytes, skipped.reason) == (1024, "too small for this machine")
    assert isinstance(kept, Samples)


@pytest.mark.parametrize(("seen", "local_rank", "index"), [(1, 0, 0), (1, 3, 0), (4, 3, 3), (4, 4, None), (0, 0, None)])
def test_a_rank_takes_its_own_gpu_or_the_only_one_it_is_shown(
    seen: int, local_rank: int, index: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    monkeypatch.setattr(device_module, "CudaStreams", taken.append)
    monkeypatch.setattr(device_module, "find_library", lambda explicit: explicit)
    monkeypatch.setattr(device_module, "NcclTransport", lambda library: library)
    if index is None:
        with pytest.raises(SetupError):
            open_device("cuda", local_rank)
    else:
        open_device("cuda", local_rank)
        assert taken == [index]


@pytest.mark.parametrize(
    ("seen", "ranks", "indices", "hosts"),
    [(1, 2, [0, 0], 2), (2, 3, [0, 1, 0], 3), (2, 2, [0, 1], 0), (4, 2, [0, 1], 0)],
)
def test_ranks_that_share_gpus_are_hosts_of_their_own_to_nccl(
    seen: int, ranks: int, indices: list[int], hosts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    monkeypatch.setattr(device_module, "CudaStreams", taken.append)
    monkeypatch.setattr(device_module, "find_library", lambda explicit: explicit)
    monkeypatch.setattr(device_module, "NcclTransport", lambda library: library)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    named = set()
    for local_rank in range(ranks):
        monkeypatch.setenv("NCCL_HOSTID", "")
        assert open_device("cuda", local_rank, sharing=True).shared is (ranks > seen)
        named.add(os.environ["NCCL_HOSTID"])
    assert (taken, len(named - {""})) == (indices, hosts)
