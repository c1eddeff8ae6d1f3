"""One proof: what to probe, in which launches of the ranks, what was found, and what follows from it. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nccl_bench.catalog.arms import ARMS, ArmSpec
from nccl_bench.catalog.devices import DEVICES, DeviceSpec
from nccl_bench.catalog.probes import DETECTOR, PROBES
from nccl_bench.catalog.routes import Routes, override
from nccl_bench.config.run import arms_of, binding, library_path, names_of, plugins_for, routes_for, seconds
from nccl_bench.config.user_arms import Plugin, spec_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofConfig:
    """What to prove: ``arms`` without the detector, which every proof has; ``timeout_s`` is for one probe of one arm.

    ``routes`` are overrides of the coordinators' routing table.
    """

    device: str
    arms: tuple[str, ...]
    plugins: tuple[Plugin, ...]
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
        return spec_of(self.plugins, name)

    @property
    def routing(self) -> Routes:
        """The coordinators' routing table."""
        return override(self.routes)


def resolve(
    device: str,
    *,
    arms: str | None,
    plugins: Sequence[Plugin] = (),
    probes: str | None,
    routes: str | None,
    nccl_library: str | None,
    transport: str | None = None,
    timeout_s: float,
) -> ProofConfig:
    """The configuration that these options mean, where ``None`` is everything, or the default.

    Raises ``UsageError`` naming the option, what was got and what is allowed.
    """
    brought = plugins_for(list(plugins), device)
    ours = [arm for name, arm in ARMS.items() if name != DETECTOR]
    if arms is None and brought:
        chosen = tuple(plugin.name for plugin in brought)
    else:
        chosen = arms_of("all" if arms is None else arms, device, ours, brought, "--arms")
    return ProofConfig(
        device=device,
        arms=chosen,
        plugins=brought,
        probes=names_of("--probes", "all" if probes is None else probes, PROBES),
        routes=routes_for(routes or "", chosen),
        nccl_library=library_path(nccl_library, device),
        transport=binding(transport, device, "--transport"),
        timeout_s=seconds(timeout_s, "--timeout"),
    )
