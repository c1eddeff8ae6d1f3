"""Decisions before ranks start: the device, the number of ranks, whether user arms can be found, and the time."""

from collections.abc import Iterable, Mapping

from nccl_bench.catalog.devices import DEVICES, DeviceSpec
from nccl_bench.cli.messages import print_message
from nccl_bench.config.parsers import one_of
from nccl_bench.config.run import RunConfig
from nccl_bench.config.user_arms import UserArm
from nccl_bench.errors import SetupError, UsageError

# Two ranks are enough for every collective to move data, and any machine can run two.
DEFAULT_CPU_RANKS = 2


def choose_device(wanted: object, gpus: int, spellings: Mapping[str, str]) -> str:
    """Return ``wanted`` if it names a device. For ``None``, return ``cuda`` if ``gpus`` is above 0, else ``cpu``."""
    if wanted is None:
        return "cuda" if gpus else "cpu"
    return one_of(spellings.get("device", "device"), wanted, DEVICES)


def default_ranks(device: DeviceSpec, gpus: int, fewest: int = 1) -> int:
    """Return the default number of ranks on a node: one for each of ``gpus``, if the device has GPUs."""
    return max(gpus, fewest) if device.has_gpus else DEFAULT_CPU_RANKS


def refuse_missing(user_arms: Iterable[UserArm]) -> None:
    """Raise ``UsageError`` if the target or the libnccl of a user arm cannot be found, or its interpreter is unfit.

    Nothing is imported or loaded for this check. The interpreter is started once.
    """
    from nccl_bench.launch.interpreters import refuse_unfit_interpreter
    from nccl_bench.transports.nccl_library import LibrarySource, refuse_no_library
    from nccl_bench.user_arms.loading import locate

    for user_arm in user_arms:
        try:
            if not user_arm.built_in:
                locate(user_arm.target, user_arm.tree)
            if user_arm.library is not None:
                refuse_no_library(user_arm.library, LibrarySource.ARM)
            if user_arm.python is not None:
                refuse_unfit_interpreter(user_arm.python)
        except SetupError as error:
            raise UsageError(f"the arm {user_arm.name}: {error}") from error


def refuse_failing_imports(config: RunConfig) -> None:
    """Raise ``UsageError`` if the target of a user arm cannot be imported. A run without this check fails later."""
    from nccl_bench.launch.trial_imports import refuse_failing_import

    for user_arm in config.user_arms:
        try:
            if not user_arm.built_in:
                refuse_failing_import(user_arm, config.variables)
        except SetupError as error:
            raise UsageError(f"the arm {user_arm.name}: {error}") from error


def warn_of_short_limit(config: RunConfig, world_size: int) -> None:
    """Print a warning if a run cannot end within ``--max-seconds``, with the seconds that it takes at least."""
    from nccl_bench.plan.cases import make_plan
    from nccl_bench.plan.time import communicators_of, least_s

    needed_s = least_s(config, make_plan(config, world_size))
    if needed_s > config.max_seconds:
        print_message(
            f"warning: --max-seconds is {config.max_seconds:g}, and this run takes at least about {needed_s:.0f} s: it "
            f"starts processes, makes {communicators_of(config)} communicators, and measures {config.min_rounds} "
            "rounds of every case (--min-rounds). Give fewer sizes or arms, or more seconds"
        )
