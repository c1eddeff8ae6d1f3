"""The resources that ``lifetime`` counts, and what it finds if some stay. The probe is also tested on real ranks."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nccl_bench.catalog.arms import arm_spec
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.transports.device import open_device
from nccl_bench.verify import lifetime
from nccl_bench.verify.findings import Finding
from nccl_bench.verify.lifetime import _count_resources
from nccl_bench.verify.rig import Rig


@pytest.fixture(autouse=True)
def few_objects() -> Iterator[None]:
    """Leave the objects of earlier tests out of the search for streams, which would take a second for each count."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize(("kind", "shared", "counted"), [("cuda", False, 1), ("cuda", True, 0), ("cpu", False, 0)])
def test_device_memory_is_counted_only_if_no_other_rank_shares_it(kind: str, shared: bool, counted: int) -> None:
    device = replace(open_device("cpu", 0), shared=shared)
    resources = _count_resources(cast(Any, SimpleNamespace(device=device, device_spec=DEVICES[kind])))
    assert sum("device memory" in resource for resource in resources) == counted


class OneRank:
    """The ranks of a verification, which are only this one."""

    rank, world_size = 0, 1

    def sum(self, values: list[int]) -> list[int]:
        return values

    def first_message(self, message: str | None) -> tuple[int, str] | None:
        return None if message is None else (0, message)


@pytest.fixture
def threads_end() -> Iterator[threading.Event]:
    """Yield the event for which planted threads wait."""
    event, earlier = threading.Event(), set(threading.enumerate())
    yield event
    event.set()
    for thread in set(threading.enumerate()) - earlier:
        thread.join()


def find(
    patch: pytest.MonkeyPatch, end: threading.Event, *, is_dropped: bool, threads: int, error: str | None
) -> Finding:
    """Return the finding about a user's objects. Each leaves ``threads`` threads, and each trial has ``error``."""

    def try_communicator(rig: Rig, _exchanges: object, label: str, *, count_streams: bool = False) -> None:
        for _ in range(threads):
            threading.Thread(target=end.wait, daemon=True).start()
        rig.record(label, error)

    patch.setattr(lifetime, "_try_communicator", try_communicator)
    patch.setattr(lifetime, "SETTLING_S", 0.01)
    # Threads of libraries, which earlier tests started, can end at any time. Count only Python's threads.
    patch.setattr(lifetime, "_TASKS", Path("/none"))
    communicator = SimpleNamespace(is_dropped=is_dropped, reason_not_ended=None, has_exchange=lambda name: False)
    arm = SimpleNamespace(communicator=communicator, spec=arm_spec("stream-free"))
    rig = Rig(
        arm_probe=ArmProbe(arm="mine", probe="lifetime"),
        device=open_device("cpu", 0),
        device_spec=DEVICES["cpu"],
        control=cast(Any, OneRank()),
        get_shared_arm=lambda: cast(Any, arm),
        make_arm=lambda: cast(Any, arm),
        announce_trial=lambda trial: None,
    )
    lifetime.lifetime(rig)
    return rig.make_finding()


@pytest.mark.parametrize("is_dropped", [True, False])
def test_a_leak_fails_the_probe_only_if_the_object_has_a_method_that_ends_it(
    is_dropped: bool, monkeypatch: pytest.MonkeyPatch, threads_end: threading.Event
) -> None:
    finding = find(monkeypatch, threads_end, is_dropped=is_dropped, threads=3, error=None)
    leak = finding.leaks[0] if is_dropped else finding.detail
    assert re.fullmatch(
        r"threads, rank 0: \d+ after one communicator, \d+ after two, \d+ after three: 3 for each communicator",
        leak or "",
    )
    assert (finding.failed, len(finding.leaks)) == ((0, 1) if is_dropped else (1, 0))


def test_a_dropped_object_whose_calls_fail_has_failed_though_it_also_leaks(
    monkeypatch: pytest.MonkeyPatch, threads_end: threading.Event
) -> None:
    finding = find(monkeypatch, threads_end, is_dropped=True, threads=1, error="planted")
    assert (finding.failed, len(finding.leaks)) == (3, 1)
    assert finding.detail == "first communicator, rank 0: planted"


def test_an_object_that_ends_when_it_is_dropped_passes(
    monkeypatch: pytest.MonkeyPatch, threads_end: threading.Event
) -> None:
    finding = find(monkeypatch, threads_end, is_dropped=True, threads=0, error=None)
    assert (finding.failed, finding.leaks) == (0, ())
