"""One proof: what to probe, in which launches of the ranks, what was found, and what follows from it. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nccl_bench.catalog.arms import ARMS, ArmSpec
from nccl_bench.catalog.devices import DEVICES, DeviceSpec
from nccl_bench.catalog.probes import DETECTOR, PROBES
from nccl_bench.catalog.routes import Routes, override
from nccl_bench.config.run import arms_of, binding, library_path, names_of, routes_for, seconds, user_arms_for
from nccl_bench.config.user_arms import UserArm, spec_of


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyConfig:
    """What to prove: ``arms`` without the detector, which every proof has; ``timeout_s`` is for one probe of one arm.

    ``routes`` are overrides of the coordinators' routing table.
    """

    device: str
    arms: tuple[str, ...]
    user_arms: tuple[UserArm, ...]
    probes: tuple[str, ...]
    routes: tuple[str, ...]
    nccl_library: str | None
    transport: str
    timeout_s: float

    @property
    def device_spec(self) -> DeviceSpec:
        """What the device can do."""
        return DEVICES[self.device]

    def arm(self, name: str) -> ArmSpec:
        """The row of an arm of this proof."""
        return spec_of(self.user_arms, name)

    @property
    def routing(self) -> Routes:
        """The coordinators' routing table."""
        return override(self.routes)


def resolve(
    device: str,
    *,
    arms: str | None,
    user_arms: Sequence[UserArm] = (),
    probes: str | None,
    routes: str | None,
    nccl_library: str | None,
    transport: str | None = None,
    timeout_s: float,
) -> VerifyConfig:
    """The configuration that these options mean, where ``None`` is everything, or the default.

    Raises ``UsageError`` naming the option, what was got and what is allowed.
    """
    brought = user_arms_for(list(user_arms), device)
    ours = [arm for name, arm in ARMS.items() if name != DETECTOR]
    if arms is None and brought:
        chosen = tuple(user_arm.name for user_arm in brought)
    else:
        chosen = arms_of("all" if arms is None else arms, device, ours, brought, "--arms")
    return VerifyConfig(
        device=device,
        arms=chosen,
        user_arms=brought,
        probes=names_of("--probes", "all" if probes is None else probes, PROBES),
        routes=routes_for(routes or "", chosen),
        nccl_library=library_path(nccl_library, device),
        transport=binding(transport, device, "--transport"),
        timeout_s=seconds(timeout_s, "--timeout"),
    )
