"""What to measure: one frozen dataclass, read from TOML and the command line, unknown keys refused. No torch."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path

from nccl_bench.catalog.arms import ARMS, COORDINATORS, DEFAULT_ARMS, DEFAULT_BASELINE, ArmSpec, twin_of
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.devices import DEVICES, DeviceSpec
from nccl_bench.catalog.dtypes import DTYPE_ALIASES, DTYPES
from nccl_bench.catalog.routes import Routes, override
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import Limits, limits_of, parse_threshold
from nccl_bench.config.sizes import MOST_BYTES, format_size, parse_size, parse_sweep, unique
from nccl_bench.config.user_arms import UserArm, from_list, spec_of, variables_of
from nccl_bench.errors import UsageError


class CallerStream(StrEnum):
    """The stream all arms are called on."""

    SIDE = "side"
    DEFAULT = "default"


class Register(StrEnum):
    """What the buffers are, and how they are registered with the communicators."""

    NONE = "none"  # torch's memory, not registered
    LOCAL = "local"  # NCCL's (ncclMemAlloc), by ncclCommRegister
    WINDOW = "window"  # the same, as a symmetric window: ncclCommWindowRegister


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """One run, fully resolved: every rank measures exactly this.

    ``transport`` is the binding that our arms call the device's transport through, ``variables`` are set in the
    environment of the run.

    ``sizes`` are requested message sizes in bytes; ``ops_per_batch`` is ``None`` where rank 0 chooses it from a pilot;
    ``timeout_s`` is the deadline of one case. ``routes`` override the coordinator's routing table, in their order.

    ``rounds`` are the fewest. Where arms are compared, more follow until their ratios are known well enough to tell
    apart what differs by ``threshold``, a share of the baseline's time, or ``max_rounds`` are done, or the run has
    taken ``max_seconds``.
    """

    name: str
    device: str
    collectives: tuple[str, ...]
    sizes: tuple[int, ...]
    dtypes: tuple[str, ...]
    redops: tuple[RedOp, ...]
    placements: tuple[Placement, ...]
    root: int
    arms: tuple[str, ...]
    baseline: str
    user_arms: tuple[UserArm, ...]
    routes: tuple[str, ...]
    timings: tuple[Timing, ...]
    rounds: int
    max_rounds: int
    max_seconds: float
    threshold: float
    limits: tuple[Mapping[str, object], ...]
    ops_per_batch: int | None
    warmup: int
    check: bool
    per_iteration: bool
    same_buffer: bool
    register: Register
    caller_stream: CallerStream
    seed: int
    timeout_s: float
    nccl_library: str | None
    transport: str
    variables: Mapping[str, str]

    @property
    def device_spec(self) -> DeviceSpec:
        """What the device can do."""
        return DEVICES[self.device]

    @property
    def routing(self) -> Routes:
        """What carries each operation of the coordinator arms."""
        return override(self.routes)

    @property
    def measured_arms(self) -> tuple[str, ...]:
        """The arms and, where there are any to compare, the baseline's twin."""
        return self.arms if len(self.arms) == 1 else (*self.arms, twin_of(self.baseline))

    @property
    def thresholds(self) -> Limits:
        """What difference matters by collective, timing and size: the ``limits``, else ``threshold``."""
        return limits_of({"limits": list(self.limits)}, self.threshold, "the configuration")

    def arm(self, name: str) -> ArmSpec:
        """The row of an arm, or twin, of this run."""
        return spec_of(self.user_arms, name)

    def to_mapping(self) -> dict[str, object]:
        """Plain data that ``resolve`` reads back to an equal value."""
        return asdict(self)


KEYS = tuple(field.name for field in fields(RunConfig))
# The range of a TOML integer; a year is more than any deadline needs, and keeps clear of what clocks can add.
_MOST = 2**63 - 1
_MOST_S = 366 * 86400
# Where noise leaves a ratio open after this many, many more would be needed, which somebody has to ask for.
DEFAULT_MAX_ROUNDS = 60


def defaults(device: str) -> dict[str, object]:
    """What is measured on ``device`` where nothing else is said."""
    spec = DEVICES[device]
    return {
        "name": "run",
        "device": device,
        "collectives": "all_reduce",
        "sizes": spec.sizes,
        "dtypes": spec.dtype,
        "redops": "sum",
        "placements": "in-place",
        "root": 0,
        "arms": None,
        "baseline": None,
        "user_arms": (),
        "routes": (),
        "timings": ",".join(timing for timing in Timing if timing not in spec.missing_timings),
        "rounds": 15,
        "max_rounds": None,
        "max_seconds": spec.max_seconds,
        "threshold": "2%",
        "limits": (),
        "ops_per_batch": None,
        "warmup": 5,
        "check": True,
        "per_iteration": False,
        "same_buffer": False,
        "register": "none",
        "caller_stream": "side",
        "seed": 1,
        "timeout_s": 120.0,
        "nccl_library": None,
        "transport": None,
        "variables": {},
    }


def read_toml(path: Path) -> dict[str, object]:
    """The keys of a configuration file; raises ``UsageError`` for one that is missing, malformed or has other keys."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a configuration: {error}") from error
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # TOMLDecodeError is a ValueError, and so is the interpreter's refusal of an integer of thousands of digits.
        raise UsageError(f"{path} is not TOML: {error}") from error
    refuse_unknown_keys(values, str(path))
    if "name" not in values:
        values["name"] = path.stem
    return values


def refuse_unknown_keys(values: Mapping[str, object], where: str) -> None:
    """Raise ``UsageError`` for the first key that is none of ours, with the nearest one that is."""
    for key in values:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(KEYS)}"
            raise UsageError(f"{where} has the unknown key {key!r}; {hint}")


def resolve(device: str, *layers: Mapping[str, object]) -> RunConfig:
    """The configuration of ``layers`` over the device's defaults, later layers over earlier ones.

    Raises ``UsageError`` naming the key, what was got and what is allowed.
    """
    values = defaults(device)
    for layer in layers:
        refuse_unknown_keys(layer, "the configuration")
        values.update({key: value for key, value in layer.items() if value is not None})
    values["device"] = device
    user_arms = user_arms_for(values["user_arms"], device)
    arms = _arms(values["arms"], user_arms, device)
    rounds = _integer("rounds", values["rounds"], least=1)
    return RunConfig(
        name=_name(values["name"]),
        device=device,
        collectives=names_of("collectives", values["collectives"], COLLECTIVES),
        sizes=_sizes(values["sizes"]),
        dtypes=names_of("dtypes", values["dtypes"], DTYPES, DTYPE_ALIASES),
        redops=tuple(RedOp(name) for name in names_of("redops", values["redops"], RedOp)),
        placements=tuple(Placement(name) for name in names_of("placements", values["placements"], Placement)),
        root=_integer("root", values["root"], least=0),
        arms=arms,
        baseline=_baseline(values["baseline"], arms),
        user_arms=user_arms,
        routes=routes_for(values["routes"], arms),
        timings=_timings(values["timings"]),
        rounds=rounds,
        max_rounds=_max_rounds(values["max_rounds"], rounds),
        max_seconds=seconds(values["max_seconds"], "max_seconds"),
        threshold=parse_threshold(values["threshold"]),
        limits=_limits(values["limits"]),
        ops_per_batch=(
            None if values["ops_per_batch"] is None else _integer("ops_per_batch", values["ops_per_batch"], least=1)
        ),
        warmup=_integer("warmup", values["warmup"], least=0),
        check=_boolean("check", values["check"]),
        per_iteration=_boolean("per_iteration", values["per_iteration"]),
        same_buffer=_boolean("same_buffer", values["same_buffer"]),
        register=_register(values["register"], device),
        caller_stream=_caller_stream(values["caller_stream"]),
        seed=_integer("seed", values["seed"], least=0),
        timeout_s=seconds(values["timeout_s"]),
        nccl_library=library_path(values["nccl_library"], device),
        transport=binding(values["transport"], device),
        variables=variables_of(values["variables"], "variables"),
    )


def names_of(
    key: str,
    value: object,
    allowed: Iterable[str],
    aliases: Mapping[str, str] | None = None,
    whole: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """A comma-separated text or a list, checked; ``all`` is ``whole`` or everything, as nccl-tests' ``-d all`` is.

    Raises ``UsageError`` naming ``key``, what was got and what is allowed.
    """
    choices = [str(choice) for choice in allowed]
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise UsageError(f"{key} is {value!r}: give one or more of {', '.join(choices)}")
    names: list[str] = []
    for part in parts:
        name = part.strip() if isinstance(part, str) else part
        if name == "all":
            names.extend(choices if whole is None else whole)
            continue
        if aliases and isinstance(name, str):
            name = aliases.get(name, name)
        if name not in choices:
            raise UsageError(f"{key} has {part!r}: allowed are {', '.join(choices)}")
        names.append(str(name))
    if not names:
        raise UsageError(f"{key} is empty: give one or more of {', '.join(choices)}")
    return tuple(dict.fromkeys(names))


def user_arms_for(value: object, device: str) -> tuple[UserArm, ...]:
    """The user's arms in a configuration for ``device``; raises ``UsageError``."""
    user_arms = from_list(value)
    for user_arm in user_arms:
        if user_arm.transport is not None:
            binding(user_arm.transport, device, f"transport of the arm {user_arm.name}")
        if DEVICES[device].transport not in user_arm.spec.transports:
            raise UsageError(f"the arm {user_arm.name} is {user_arm.target}, which the device {device} has no use for")
    return user_arms


def arms_of(
    value: object, device: str, arms: Iterable[ArmSpec], user_arms: Sequence[UserArm], key: str = "arms"
) -> tuple[str, ...]:
    """Those of ``arms`` asked for that ``device`` can have, then the user's; ``all`` is what needs nothing installed.

    Raises ``UsageError`` naming ``key``, what was got and what is allowed.
    """
    possible = [arm for arm in arms if DEVICES[device].transport in arm.transports]
    own = [user_arm.name for user_arm in user_arms]
    whole = [arm.name for arm in possible if arm.extra is None]
    return tuple(dict.fromkeys((*names_of(key, value, [*(arm.name for arm in possible), *own], whole=whole), *own)))


def _arms(value: object, user_arms: tuple[UserArm, ...], device: str) -> tuple[str, ...]:
    """The arms asked for, then the user arms that are not among them."""
    for user_arm in user_arms:
        if not user_arm.spec.timed:
            raise UsageError(
                f"the arm {user_arm.name} is {user_arm.spec.order}: without its join it would win falsely, so it is "
                "for nccl-bench verify alone; order=fork-join makes it comparable"
            )
    own = tuple(user_arm.name for user_arm in user_arms)
    if value is None:
        # One alone has nobody to be compared with.
        return own if len(own) > 1 else ("stream-free", *own) if own else DEFAULT_ARMS
    return arms_of(value, device, [arm for arm in ARMS.values() if arm.timed], user_arms)


def _sizes(value: object) -> tuple[int, ...]:
    if isinstance(value, str):
        sizes = parse_sweep(value)
    elif isinstance(value, list | tuple):
        sizes = unique(parse_size(size) for size in value)
    else:
        raise UsageError(f"sizes is {value!r}: give a sweep as '8:1G:x2' or a list as ['4K', '1M']")
    if not sizes:
        raise UsageError("sizes is empty: give a sweep as '8:1G:x2' or a list as ['4K', '1M']")
    if max(sizes) > MOST_BYTES:
        raise UsageError(f"sizes has {max(sizes)}: a message is {format_size(MOST_BYTES)} at the most")
    return sizes


def _timings(value: object) -> tuple[Timing, ...]:
    names = names_of("timings", value, Timing)
    return tuple(timing for timing in Timing if timing in names)


def _baseline(value: object, arms: tuple[str, ...]) -> str:
    if value is None:
        return DEFAULT_BASELINE if DEFAULT_BASELINE in arms else arms[0]
    if value not in arms:
        raise UsageError(f"the baseline is {value!r}, which is not among the arms of this run: {', '.join(arms)}")
    return str(value)


def route_overrides(value: object) -> tuple[str, ...]:
    """Overrides of the routing table, a list or a comma-separated text, which may be empty.

    Raises ``UsageError`` for what is neither, and for what ``routes.override`` refuses.
    """
    parts = (value.split(",") if value.strip() else []) if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise UsageError(
            f"routes is {value!r}: give [OPERATION.]MODE=BACKEND, one or more, as a list of texts or comma-separated"
        )
    overrides = tuple(part.strip() for part in parts)
    override(overrides)
    return overrides


def routes_for(value: object, arms: tuple[str, ...]) -> tuple[str, ...]:
    """``route_overrides``, refused with ``UsageError`` too where none of ``arms`` would heed them."""
    overrides = route_overrides(value)
    if overrides and not any(arm in ARMS and ARMS[arm].communicator in COORDINATORS for arm in arms):
        raise UsageError(
            f"routes is {', '.join(overrides)!r}, but routes are those of the coordinator arms, and none of them is "
            "among the arms of this run: add one with --arms"
        )
    return overrides


def _caller_stream(value: object) -> CallerStream:
    if value not in list(CallerStream):
        raise UsageError(f"caller_stream is {value!r}: it has to be one of {', '.join(CallerStream)}")
    return CallerStream(str(value))


def _register(value: object, device: str) -> Register:
    if value not in list(Register):
        raise UsageError(f"register is {value!r}: it has to be one of {', '.join(Register)}")
    register = Register(str(value))
    if register is not Register.NONE and not DEVICES[device].registers_memory:
        raise UsageError(f"register is {str(register)!r}: the device {device} has no memory that NCCL could register")
    return register


def _integer(key: str, value: object, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST:
        raise UsageError(f"{key} is {value!r}: it has to be a whole number from {least} to 2^63 - 1")
    return value


def _max_rounds(value: object, rounds: int) -> int:
    if value is None:
        return max(rounds, DEFAULT_MAX_ROUNDS)
    most = _integer("max_rounds", value, least=1)
    if most < rounds:
        raise UsageError(
            f"max_rounds is {most}, and rounds, the fewest, is {rounds}: raise --max-rounds or lower --rounds"
        )
    return most


def _limits(value: object) -> tuple[Mapping[str, object], ...]:
    tables = list(value) if isinstance(value, list | tuple) else value
    limits_of({"limits": tables}, 1.0, "the configuration")
    assert isinstance(tables, list)
    return tuple(dict(table) for table in tables)


def _boolean(key: str, value: object) -> bool:
    if value not in (True, False):
        raise UsageError(f"{key} is {value!r}: it has to be true or false")
    return bool(value)


def seconds(value: object, key: str = "timeout_s") -> float:
    """A time to keep to; raises ``UsageError`` naming ``key`` for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MOST_S:
        raise UsageError(f"{key} is {value!r}: it has to be a number of seconds above 0, and at most {_MOST_S}")
    return float(value)


def library_path(value: object, device: str) -> str | None:
    """The libnccl to load, or ``None``; raises ``UsageError`` for what is no path, and where ``device`` has no NCCL."""
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise UsageError(f"nccl_library is {value!r}: it has to be the path of a libnccl.so")
    if DEVICES[device].transport != "nccl":
        raise UsageError(f"nccl_library is {value!r}, and the device {device} has no use for NCCL: leave it out")
    return value


def binding(value: object, device: str, key: str = "transport") -> str:
    """The binding to use, by default the device's first; raises ``UsageError`` naming ``key`` for others."""
    allowed = DEVICES[device].bindings
    if value is None:
        return allowed[0]
    if value not in allowed:
        raise UsageError(f"{key} is {value!r}: on the device {device} it is {' or '.join(allowed)}")
    return str(value)


def _name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise UsageError(
            f"the name is {value!r}: use up to 64 letters, digits, '.', '_' and '-', a letter or digit first"
        )
    return value
