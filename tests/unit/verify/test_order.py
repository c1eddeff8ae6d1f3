"""The probe ``order`` on one rank. The integration tests plant what it must catch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch.distributed as dist

from nccl_bench.arms.arm import Arm
from nccl_bench.audit.sources.distributed import DistributedSource
from nccl_bench.audit.sources.gloo_transport import GlooTransportSource
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.probes import DETECTOR
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.ranks.control import Control
from nccl_bench.streams.cpu_device import CpuStreams
from nccl_bench.transports.device import Device
from nccl_bench.transports.gloo import GlooTransport
from nccl_bench.verify.findings import Finding
from nccl_bench.verify.order import LARGE_CALLS, SMALL_CALLS, order
from nccl_bench.verify.rig import Rig

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def find(one_rank: dist.ProcessGroup) -> Iterator[Callable[[str], Finding]]:
    """Yield a function that returns the finding of the probe about an arm."""
    streams, made = CpuStreams(), list[Arm]()
    device = Device(streams=streams, transport=GlooTransport(streams))

    def find(name: str) -> Finding:
        def make() -> Arm:
            made.append(Arm(name, one_rank, device))
            return made[-1]

        rig = Rig(
            arm_probe=ArmProbe(arm=name, probe="order"),
            device=device,
            device_spec=DEVICES["cpu"],
            control=Control(one_rank),
            get_shared_arm=make,
            make_arm=make,
            announce_trial=lambda trial: None,
        )
        order(rig)
        return rig.make_finding()

    yield find
    for arm in made:
        arm.close()


def test_an_arm_in_order_lacks_no_half_in_more_than_a_hundred_calls(find: Callable[[str], Finding]) -> None:
    finding = find("dedicated-stream")
    assert (finding.failed, finding.unforked_calls, finding.unjoined_calls) == (0, 0, 0)
    assert finding.watched_calls >= SMALL_CALLS + finding.trials // 2 * LARGE_CALLS


def test_the_detector_lacks_the_join_of_every_call_and_the_fork_where_it_can(find: Callable[[str], Finding]) -> None:
    finding = find(DETECTOR)
    assert finding.failed == finding.raced == finding.trials
    assert finding.unjoined_calls == finding.watched_calls
    # The default stream of the CPU is the host itself.
    assert finding.unforked_calls == finding.watched_calls * 3 // 4


def test_an_audit_that_sees_no_collective_is_no_pass(
    find: Callable[[str], Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    for source in (GlooTransportSource, DistributedSource):
        monkeypatch.setattr(source, "start", lambda source: None)
        monkeypatch.setattr(source, "stop", lambda source: None)
    finding = find("stream-free")
    assert (finding.trials, finding.detail) == (
        0,
        "the audit sees no collective in the calls of this arm, so it cannot judge them",
    )
    # The detector keeps its trials: without a race at every place the probe is blind.
    assert find(DETECTOR).trials > 0
