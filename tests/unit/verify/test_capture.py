"""The probe ``capture`` on one rank with stand-ins for graphs: what it detects, and that it does every replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch.distributed as dist

from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.probes import Place
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.ranks.control import Control
from nccl_bench.transports.device import open_device
from nccl_bench.verify.capture import REPLAYS, capture
from nccl_bench.verify.exchanges import OUTPLACE_ALL_REDUCE
from nccl_bench.verify.rig import Rig

CELL = ArmProbe(arm="stream-free", probe="capture")


@dataclass
class Graph:
    """A stand-in that runs its body at each replay, except at the replays in ``skips``."""

    body: Callable[[], None]
    skips: frozenset[int]
    replays: int = 0
    resets: int = 0

    def replay(self) -> None:
        self.replays += 1
        if self.replays not in self.skips:
            self.body()

    def reset(self) -> None:
        self.resets += 1


@pytest.fixture
def probe(one_rank: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[str | None]]]:
    """Return a function that runs the probe on an out-of-place exchange at every place and returns the errors.

    With ``at_capture``, the work is done at capture too. After any error, every graph must still be replayed as often
    as on other ranks, and reset.
    """
    device = open_device("cpu", 0)
    arm = Arm(CELL.arm, one_rank, device)

    def probe(*skips: int, at_capture: bool = False) -> list[str | None]:
        graphs: list[Graph] = []

        def captured(body: Callable[[], None]) -> Graph:
            if at_capture:
                body()
            graphs.append(Graph(body, frozenset(skips)))
            return graphs[-1]

        rig = Rig(
            arm_probe=CELL,
            device=device,
            device_spec=DEVICES["cpu"],
            control=Control(one_rank),
            get_shared_arm=lambda: arm,
            make_arm=lambda: arm,
            announce_trial=lambda trial: None,
        )
        monkeypatch.setattr(arm, "capture", captured)
        exchanges = rig.exchanges(names=[OUTPLACE_ALL_REDUCE])
        monkeypatch.setattr(rig, "exchanges", lambda: exchanges)
        capture(rig)
        assert [(graph.replays, graph.resets) for graph in graphs] == [(REPLAYS + 1, 1)] * len(Place) * len(exchanges)
        return [outcome.error for outcome in rig.outcomes]

    yield probe
    arm.close()


def test_a_graph_that_repeats_the_captured_work_passes(probe: Callable[..., list[str | None]]) -> None:
    assert set(probe()) == {None}


def test_work_that_is_done_at_capture_is_detected(probe: Callable[..., list[str | None]]) -> None:
    # With one rank the result equals the input, so only the output can show it.
    for wrong in probe(at_capture=True):
        assert wrong is not None
        assert wrong.endswith(
            "memory changed during capture, so the communication ran immediately and is not in the graph"
        )


@pytest.mark.parametrize("skipped", range(1, REPLAYS + 2))
def test_a_replay_that_does_nothing_is_detected(probe: Callable[..., list[str | None]], skipped: int) -> None:
    which = "replay on another stream: " if skipped == REPLAYS + 1 else f"replay {skipped}: "
    for wrong in probe(skipped):
        assert wrong is not None
        assert which in wrong


def test_of_several_errors_the_first_is_reported(probe: Callable[..., list[str | None]]) -> None:
    assert all(": replay 2: " in (wrong or "") for wrong in probe(2, 3))
