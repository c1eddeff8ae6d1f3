"""The options that a run and a verification share: device, arms, routes, library and binding. No torch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nccl_bench.catalog.arms import ARMS, COORDINATORS, ArmSpec
from nccl_bench.catalog.devices import DEVICES, DeviceSpec
from nccl_bench.catalog.extras import EXTRA_VERSIONS, has_extra
from nccl_bench.catalog.routes import Routes
from nccl_bench.config.nearest import instead_of
from nccl_bench.config.options import Panel, listed, option
from nccl_bench.config.parsers import names_of, seconds, unparsed
from nccl_bench.config.routes import override, parse_routes
from nccl_bench.config.user_arms import FORM, ORDERS, Adapter, UserArm, parse_user_arms, spec_of
from nccl_bench.errors import UsageError


def _device_arms(name: str, value: object, device: DeviceSpec) -> tuple[UserArm, ...]:
    """Return the user arms; raise ``UsageError`` for an arm that cannot run on ``device``."""
    user_arms = parse_user_arms(name, value)
    for user_arm in user_arms:
        if user_arm.transport is not None:
            _binding(f"transport of the arm {user_arm.name}", user_arm.transport, device)
        if user_arm.library is not None and device.transport != "nccl":
            raise UsageError(
                f"library of the arm {user_arm.name} is {user_arm.library!r}, and the device {device.name} does not "
                "use NCCL: leave the library out"
            )
        if device.transport not in user_arm.spec.transports:
            raise UsageError(
                f"the arm {user_arm.name} is {user_arm.target}, which does not run on the device {device.name}: leave "
                "this arm out"
            )
    return user_arms


def _library_path(name: str, value: object, device: DeviceSpec) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError(f"{name} is {value!r}: give the path of a libnccl.so")
    if device.transport != "nccl":
        raise UsageError(f"{name} is {value!r}, and the device {device.name} does not use NCCL: leave the option out")
    return value


def _binding(name: str, value: object, device: DeviceSpec) -> str:
    if value not in device.bindings:
        raise UsageError(f"{name} is {value!r}: on the device {device.name}, {instead_of(value, device.bindings)}")
    return str(value)


def arms_option(arms: Iterable[ArmSpec], all_text: str, default_text: str) -> Any:
    """Return the option ``--arms`` of a command that offers ``arms``."""
    names = tuple(arm.name for arm in arms)
    text = f"Built-in arms, comma-separated: {listed(names)}; or all, for {all_text}."
    return option(Panel.ARMS, text, unparsed, default_text=default_text, choices=(*names, "all"), several=True)


def timeout_option(panel: Panel, limit: str, default: float) -> Any:
    """Return the option ``--timeout``; ``limit`` names the work that has the time limit."""
    text = f"Time limit in seconds for {limit}. A longer time counts as a hang."
    return option(panel, text, seconds, short="-T", flag="--timeout", default=default)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonConfig:
    """The options that a run and a verification share."""

    device: str = option(
        Panel.LAUNCH,
        f"One of {listed(DEVICES)}.",
        unparsed,
        choices=tuple(DEVICES),
        default=lambda device: device.name,
        default_text="cuda if the machine has a GPU, else cpu",
    )
    arms: tuple[str, ...]  # the arms to use; each command declares this option, with its own choices
    user_arms: tuple[UserArm, ...] = option(
        Panel.ARMS,
        f"Adds a user arm, {FORM}. TARGET is FILE.py:NAME, MODULE:NAME or an entry point. A KEY is order "
        f"({listed(ORDERS)}), adapter ({listed(Adapter)}), tree (a directory), python (an interpreter with torch and "
        "numpy) or library (the libnccl.so.2 to use). TARGET can also be a built-in arm; then a KEY can be transport, "
        "python or library. A KEY in capitals is an environment variable; an arm with such a variable, with python or "
        "with library gets its own processes. Repeatable.",
        _device_arms,
        flag="--arm",
        argument=list[str],
        default=(),
    )
    routes: tuple[str, ...] = option(
        Panel.ARMS,
        "Changes to the routing table of the coordinator arms, [OPERATION.]MODE=BACKEND, comma-separated; see "
        "nccl-bench list routes.",
        parse_routes,
        default=(),
    )
    nccl_library: str | None = option(
        Panel.LAUNCH,
        "The libnccl.so to use.",
        _library_path,
        default_text="the value of NCCL_BENCH_NCCL_LIBRARY, else the library that torch uses",
    )
    transport: str | None = option(
        Panel.LAUNCH,
        "The binding through which the built-in arms call the library: nccl (by ctypes) or nccl4py (by NVIDIA's "
        "package, which takes less time for a call).",
        _binding,
        choices=tuple(dict.fromkeys(binding for device in DEVICES.values() for binding in device.bindings)),
        default=lambda device: device.bindings[0] if len(device.bindings) == 1 else None,
        default_text=f"nccl4py if its version {EXTRA_VERSIONS['nccl4py']} is installed and uses the same libnccl, else "
        "nccl; gloo on cpu",
    )

    @property
    def device_spec(self) -> DeviceSpec:
        """The device's row in the catalog."""
        return DEVICES[self.device]

    @property
    def routing(self) -> Routes:
        """The routing table of the coordinator arms, with the overrides applied."""
        return override(self.routes)

    def arm(self, name: str) -> ArmSpec:
        """Return the row of an arm or a twin in the table of arms."""
        return spec_of(self.user_arms, name)


def resolve_arms(
    name: str,
    value: object,
    device: DeviceSpec,
    arms: Iterable[ArmSpec],
    user_arms: Sequence[UserArm],
    *,
    with_extras: bool = False,
) -> tuple[str, ...]:
    """Return the named arms, then the user arms.

    ``all`` stands for the arms that need no extra package; ``with_extras`` adds the arms whose extra package is
    installed. A name must be a user arm, or one of ``arms`` that runs on ``device``. Any other name raises
    ``UsageError``.
    """
    possible = [arm for arm in arms if device.transport in arm.transports]
    user_names = [user_arm.name for user_arm in user_arms]
    everything = [arm.name for arm in possible if arm.extra is None or (with_extras and has_extra(arm.extra))]
    names = names_of(name, value, [*(arm.name for arm in possible), *user_names], everything=everything)
    return tuple(dict.fromkeys((*names, *user_names)))


def have_routes(arms: Iterable[str]) -> bool:
    """Return True if any of ``arms`` is a coordinator. Only coordinators have routes."""
    return any(arm in ARMS and ARMS[arm].communicator in COORDINATORS for arm in arms)


def refuse_unused_routes(overrides: Sequence[str], arms: Iterable[str]) -> None:
    """Raise ``UsageError`` if there are overrides of routes and no arm has routes."""
    if overrides and not have_routes(arms):
        raise UsageError(
            f"routes is {listed(overrides)!r}, but only coordinator arms have routes, and no such arm is "
            "chosen: add one with --arms, or leave the routes out"
        )
